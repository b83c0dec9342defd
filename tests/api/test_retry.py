"""What is sent again, how often and after how long, by both clients."""

from __future__ import annotations

import email.utils
import logging
import time
from typing import Any

import pytest

from airflow_provider_diffio.api import endpoints, errors
from airflow_provider_diffio.api.retry import RetryPolicy, parse_retry_after
from airflow_provider_diffio.sandbox import Sandbox
from tests.api.conftest import Caller, project_in
from tests.api.scripted import Scripted, answer, error, hang, reset

LIST = endpoints.list_projects()
UNKEYED = endpoints.create_generation("p")
KEYED = endpoints.create_generation("p", idempotency_key="k")
EMPTY = answer({"projects": []})


# --- Retry-After ------------------------------------------------------------------------------------------

WEDNESDAY = 1445412480.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0),
        (" 120 ", 120),
        ("Wed, 21 Oct 2015 07:28:30 GMT", 30),
        ("Wed, 21 Oct 2015 07:28:30 -0000", 30),
        ("Wed, 21 Oct 2015 07:28:30", 30),
        ("Wed, 21 Oct 2015 09:28:30 +0200", 30),
        ("Wed, 21 Oct 2015 07:00:00 GMT", 0),
        ("", None),
        (None, None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("3600", 3600),
        ("3601", 3600),
        ("604800", 3600),
        ("9999999999", 3600),
        ("9" * 5000, 3600),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 3600),
        ("\u0665", None),
        ("Wed, 99 Oct 2015 07:28:30 GMT", None),
    ],
)
def test_retry_after_as_seconds_and_as_a_date(
    header: str | None, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert parse_retry_after(header, WEDNESDAY) == seconds
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_in_seconds_is_honoured(carry: Caller, server: Scripted, status: int) -> None:
    server.play(error(status, headers={"Retry-After": "7"}), EMPTY)
    assert carry(server, LIST) == ()
    assert len(carry.naps) == 1
    assert 7 <= carry.naps[0] <= 7.25


def test_retry_after_as_a_date_is_honoured(carry: Caller, server: Scripted) -> None:
    date = email.utils.formatdate(time.time() + 30, usegmt=True)
    server.play(error(429, headers={"Retry-After": date}), EMPTY)
    carry(server, LIST)
    assert 25 <= carry.naps[0] <= 31


def test_a_retry_after_beyond_the_bound_is_raised_at_once(carry: Caller, server: Scripted) -> None:
    server.play(error(429, headers={"Retry-After": "121"}))
    with pytest.raises(errors.DiffioRateLimitError) as caught:
        carry(server, LIST)
    assert caught.value.retry_after == 121
    assert (len(server.requests), carry.naps) == (1, [])


# --- the policy -------------------------------------------------------------------------------------------


def test_waits_double_up_to_the_cap_with_jitter_in_the_lower_half() -> None:
    policy = RetryPolicy(base=0.5, cap=4)
    for attempt, step in ((1, 0.5), (2, 1), (3, 2), (4, 4), (5, 4), (99, 4)):
        waits = [policy.seconds_before(attempt, None) for _ in range(200)]
        assert step / 2 <= min(waits) < max(waits) <= step


def test_those_who_were_told_the_same_wait_do_not_come_back_together() -> None:
    slow_down = errors.DiffioRateLimitError("Slow down.", retry_after=20)
    waits = {RetryPolicy().seconds_before(1, slow_down) for _ in range(50)}
    assert len(waits) > 40
    assert 20 <= min(waits) < max(waits) <= 20.25


@pytest.mark.parametrize("failure", [error(408), error(429), error(500), error(599), reset])
def test_what_may_pass_is_tried_as_often_as_allowed(carry: Caller, server: Scripted, failure: Any) -> None:
    server.play(failure)
    with pytest.raises(errors.DiffioError) as caught:
        carry(server, LIST, max_attempts=3)
    assert caught.value.transient
    assert (len(server.requests), len(carry.naps)) == (3, 2)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 409, 410, 413, 302])
def test_what_will_not_pass_is_tried_once(carry: Caller, server: Scripted, status: int) -> None:
    server.play(error(status))
    with pytest.raises(errors.DiffioError):
        carry(server, LIST)
    assert (len(server.requests), carry.naps) == (1, [])


def test_not_ready_is_an_answer_for_the_caller_to_wait_for(carry: Caller, server: Scripted) -> None:
    server.play(error(409))
    with pytest.raises(errors.DiffioNotReadyError):
        carry(server, endpoints.get_generation_download("g", "p"))
    assert len(server.requests) == 1


def test_it_works_once_the_trouble_is_over(carry: Caller, server: Scripted) -> None:
    server.play(error(503), reset, error(429), EMPTY)
    assert carry(server, LIST) == ()
    assert len(carry.naps) == 3


def test_each_try_is_logged(carry: Caller, server: Scripted, caplog: pytest.LogCaptureFixture) -> None:
    server.play(error(503, "Busy."), EMPTY)
    with caplog.at_level(logging.WARNING):
        carry(server, LIST)
    assert [record.getMessage().partition(":")[2].split(" [")[0] for record in caplog.records] == [" Busy."]


# --- money ------------------------------------------------------------------------------------------------


def billed(sandbox: Sandbox) -> int:
    count: int = sandbox.ledger()["totals"]["generations"]
    return count


def requested(sandbox: Sandbox, path: str) -> int:
    return sum(request["path"].endswith(path) for request in sandbox.requests())


@pytest.mark.parametrize("kind", ["reset-before", "reset-after"])
def test_a_generation_without_a_key_is_sent_once(carry: Caller, sandbox: Sandbox, kind: str) -> None:
    project = project_in(sandbox)
    sandbox.add_fault(kind, path="/v1/*-generation", nth="every")
    with pytest.raises(errors.DiffioConnectionError) as caught:
        carry(sandbox, endpoints.create_generation(project))
    assert requested(sandbox, "-generation") == 1
    assert billed(sandbox) == (1 if kind == "reset-after" else 0)
    assert caught.value.may_be_billed
    assert caught.value.project_id == project


@pytest.mark.parametrize("kind", ["reset-before", "reset-after"])
def test_a_generation_with_a_key_is_sent_again_and_billed_once(
    carry: Caller, sandbox: Sandbox, kind: str
) -> None:
    call = endpoints.create_generation(project_in(sandbox), idempotency_key="k")
    sandbox.add_fault(kind, path="/v1/*-generation", times=2)
    generation = carry(sandbox, call)
    assert requested(sandbox, "-generation") == 3
    assert billed(sandbox) == 1
    assert generation.idempotent_replay is (kind == "reset-after")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_generation_without_a_key_is_not_sent_again_after_an_error(
    carry: Caller, server: Scripted, status: int
) -> None:
    server.play(error(status))
    with pytest.raises(errors.DiffioApiError):
        carry(server, UNKEYED)
    assert len(server.requests) == 1


def test_a_generation_without_a_key_is_not_sent_again_after_a_timeout(
    carry: Caller, server: Scripted
) -> None:
    server.play(hang)
    with pytest.raises(errors.DiffioConnectionError, match=r"nothing came for 0.2 s"):
        carry(server, UNKEYED, timeout=0.2)
    assert len(server.requests) == 1


def test_the_key_is_the_same_on_every_try(carry: Caller, server: Scripted) -> None:
    server.play(error(503), error(503), answer({"generationId": "g"}))
    carry(server, KEYED)
    assert [request.json["idempotencyKey"] for request in server.requests] == ["k", "k", "k"]


@pytest.mark.parametrize(
    "call", [endpoints.create_api_key("label", ["projects:read"]), endpoints.rotate_api_key("key_1")]
)
@pytest.mark.parametrize("failure", [error(503), reset])
def test_a_plaintext_key_is_never_asked_for_twice(
    carry: Caller, server: Scripted, call: Any, failure: Any
) -> None:
    server.play(failure)
    with pytest.raises(errors.DiffioError):
        carry(server, call)
    assert len(server.requests) == 1
