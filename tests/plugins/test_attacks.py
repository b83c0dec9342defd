"""What strangers may try on the receiver: nothing gets in, nothing is learned, nothing stands still."""

from __future__ import annotations

import gzip
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from airflow_provider_diffio.plugins import receiver, secrets
from airflow_provider_diffio.plugins.receiver import MAX_BODY, REFUSAL_SECONDS, RateLimitedLog
from airflow_provider_diffio.plugins.secrets import (
    MAX_KNOWN,
    MAX_UNKNOWN,
    UNSEEN_BURST,
    UNSEEN_PER_SECOND,
    WebhookSecrets,
)
from tests.features import WEBHOOKS, needs
from tests.plugins.conftest import FOREIGN, SECRET, ReceiverServer
from tests.plugins.signing import event, secret_of, sign

pytestmark = needs(WEBHOOKS)

REFUSAL = {"detail": "Not a valid delivery."}


@pytest.fixture(autouse=True)
def nothing_got_in(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test here: not one event."""
    if "server" not in request.fixturenames:
        yield
        return
    recorded = request.getfixturevalue("recorded")
    yield
    assert recorded() == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("svix-signature", "v1,AAAA"),
        ("svix-signature", "v1,"),
        ("svix-signature", "v1"),
        ("svix-signature", ","),
        ("svix-signature", "v1,\xff\xfe"),
        ("svix-signature", " ".join(["v1,AAAA"] * 500)),
        ("svix-signature", ""),
        ("svix-signature", None),
        ("svix-id", "msg_other"),
        ("svix-id", "x" * 201),
        ("svix-id", "a' OR 1=1 --"),
        ("svix-id", None),
        ("svix-timestamp", "1"),
        ("svix-timestamp", "nan"),
        ("svix-timestamp", "9" * 12),
        ("svix-timestamp", "9" * 5000),
        ("svix-timestamp", "-1"),
        ("svix-timestamp", "\u0661".encode().decode("latin-1")),
        ("svix-timestamp", None),
    ],
)
def test_no_forged_header_is_believed(server: ReceiverServer, name: str, value: str | None) -> None:
    answer = server.post(sign(event(), SECRET), changed={name: value})
    assert (answer.status_code, answer.json()) == (400, REFUSAL)


def test_another_version_of_signature_is_not_believed(server: ReceiverServer) -> None:
    delivery = sign(event(), SECRET)
    for version in ("v1a", "v2", "V1", "v0"):
        forged = delivery.headers["svix-signature"].replace("v1,", f"{version},")
        assert server.post(delivery, changed={"svix-signature": forged}).json() == REFUSAL


@pytest.mark.parametrize("age", [301, 3600, -302, -86400])
def test_old_and_future_deliveries_are_refused(server: ReceiverServer, age: float) -> None:
    assert server.post(sign(event(), SECRET, age=age)).json() == REFUSAL


def test_a_swapped_body_signature_or_connection_is_refused(server: ReceiverServer) -> None:
    one, two = sign(event(), SECRET), sign(event(), SECRET)
    one.body, two.body = two.body, one.body
    assert server.post(one).json() == REFUSAL
    assert server.post(sign(event(), FOREIGN)).json() == REFUSAL
    assert server.post(sign(event(), SECRET), conn_id="other").json() == REFUSAL


def test_one_changed_byte_is_one_too_many(server: ReceiverServer) -> None:
    delivery = sign(event(), SECRET)
    for position in (0, len(delivery.body) // 2, len(delivery.body) - 1):
        changed = bytearray(delivery.body)
        changed[position] ^= 1
        delivery.body, kept = bytes(changed), delivery.body
        assert server.post(delivery).json() == REFUSAL
        delivery.body = kept
    delivery.body += b" "
    assert server.post(delivery).json() == REFUSAL


@pytest.mark.parametrize("conn_id", ["unknown", "no_secret", "another_type", "broken", "wrong"])
def test_connections_that_take_nothing_answer_as_a_wrong_signature_does(
    server: ReceiverServer, conn_id: str
) -> None:
    wrong = server.post(sign(event(), FOREIGN))
    other = server.post(sign(event(), SECRET), conn_id=conn_id)
    assert (other.status_code, other.content) == (wrong.status_code, wrong.content)
    names = [sorted(answer.headers) for answer in (wrong, other)]
    assert names[0] == names[1]
    # Whatever was looked up, a response leaves at a multiple of this after the body.
    for answer in (wrong, other):
        assert answer.elapsed.total_seconds() >= REFUSAL_SECONDS


@pytest.mark.parametrize("body", [event(), b"not json"])
def test_the_stand_in_for_unknown_connections_opens_no_door(
    server: ReceiverServer, monkeypatch: pytest.MonkeyPatch, body: Any
) -> None:
    """It is random; and should someone know it, nothing is accepted by it."""
    known = secret_of("guessed")
    monkeypatch.setattr(receiver, "_NOBODYS_SECRET", known)
    answer = server.post(sign(body, known), conn_id="unknown")
    assert (answer.status_code, answer.json()) == (400, REFUSAL)


@pytest.mark.parametrize(
    "path",
    [
        "../webhooks/diffio_default",
        "diffio_default/",
        "diffio_default/x",
        "diffio_default%2f..%2fdiffio_default",
        "..%2fvariables",
        "%2e%2e",
        "..%5cdiffio_default",
        "diffio_default%00",
        "diffio_default%0a",
        "diffio%20default",
        "a..b",
        "%F0%9F%99%82",
        "d%C3%ADffio_default",
        "a" * 5000,
        "{conn_id}",
        "diffio_default?x=1#y",
        "",
    ],
)
def test_path_tricks_lead_nowhere(server: ReceiverServer, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    look_up = secrets.connection_secrets

    def spy(conn_id: str) -> str | None:
        asked.append(conn_id)
        return look_up(conn_id)

    monkeypatch.setattr(receiver, "connection_secrets", spy)
    tricked = ReceiverServer()
    delivery = sign(event(), FOREIGN)
    head = "".join(f"{name}: {value}\r\n" for name, value in delivery.headers.items())
    answer = raw(
        tricked.port,
        f"POST /diffio/webhooks/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}"
        f"Content-Length: {len(delivery.body)}\r\n\r\n".encode()
        + delivery.body,
    )
    tricked.stop()
    assert answer.split(b" ")[1] in (b"400", b"404")
    assert set(asked) <= {"diffio_default"}


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
def test_other_methods_and_routes_do_not_exist(server: ReceiverServer, method: str) -> None:
    assert server.session.request(method, server.url()).status_code == 405
    base = f"http://127.0.0.1:{server.port}/diffio"
    for route in ("", "/", "/docs", "/redoc", "/openapi.json", "/webhooks"):
        assert server.session.request(method, f"{base}{route}").status_code in (404, 405)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("content-type", "text/plain"),
        ("content-type", "application/x-www-form-urlencoded"),
        ("content-type", "multipart/form-data; boundary=x"),
        ("content-type", "application/jsonp"),
        ("content-type", None),
        ("content-encoding", "gzip"),
        ("content-encoding", "br"),
    ],
)
def test_other_media_types_are_415(server: ReceiverServer, header: str, value: str | None) -> None:
    assert server.post(sign(event(), SECRET), changed={header: value}).status_code == 415


def test_a_compressed_bomb_is_not_opened(server: ReceiverServer) -> None:
    bomb = sign(gzip.compress(bytes(50_000_000)), SECRET)
    assert server.post(bomb, changed={"content-encoding": "gzip"}).status_code == 415


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b"null",
        b'"text"',
        b"{",
        b"[" * 100_000,
        b'{"a":' * 20_000,
        b"\x00" * 10,
        json.dumps({**event(), "eventId": None}).encode(),
        json.dumps({**event(), "generationId": {"$ne": 1}}).encode(),
        json.dumps({"eventType": "generation.completed"}).encode(),
    ],
)
def test_a_signed_body_that_is_no_event_is_422(server: ReceiverServer, body: bytes) -> None:
    assert server.post(sign(body, SECRET)).status_code == 422


def test_bytes_that_are_no_text_are_refused(server: ReceiverServer) -> None:
    assert server.post(sign(b"\xff\xfe", SECRET)).status_code in (400, 422)


def raw(port: int, request: bytes, *, then: Callable[[socket.socket], None] | None = None) -> bytes:
    """Send bytes, and return what comes back until the server closes or is silent."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as link:
        link.sendall(request)
        if then is not None:
            then(link)
        answer = b""
        try:
            while chunk := link.recv(65536):
                answer += chunk
                if b"\r\n\r\n" in answer and b"content-length: 0" in answer.lower():
                    break
        except (TimeoutError, ConnectionResetError):
            pass
        return answer


def head(*lines: str) -> bytes:
    delivery = sign(b"{}", SECRET)
    fields = [f"{name}: {value}" for name, value in delivery.headers.items()]
    request = ["POST /diffio/webhooks/diffio_default HTTP/1.1", "Host: x", *fields, *lines, "", ""]
    return "\r\n".join(request).encode()


def test_a_body_that_says_it_is_large_is_refused_before_it_comes(server: ReceiverServer) -> None:
    answer = raw(server.port, head("Content-Length: 104857600"))
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer.lower()


def test_a_body_that_grows_without_saying_so_is_cut_off(server: ReceiverServer) -> None:
    sent = 0

    def flood(link: socket.socket) -> None:
        nonlocal sent
        chunk = b"10000\r\n" + bytes(65536) + b"\r\n"
        try:
            while sent < 100_000_000:
                link.sendall(chunk)
                sent += 65536
        except OSError:
            pass

    answer = raw(server.port, head("Transfer-Encoding: chunked"), then=flood)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 413")
    # What is in flight between two sockets on this machine is a few megabytes.
    assert sent < 20_000_000


def test_a_slow_body_is_given_up_and_delays_nothing_else(
    server: ReceiverServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "BODY_SECONDS", 1.0)

    def drip(link: socket.socket) -> None:
        for _ in range(3):
            link.sendall(b"{")
            time.sleep(0.1)
        healthy = server.session.get(f"http://127.0.0.1:{server.port}/health", timeout=5)
        assert healthy.json() == {"status": "ok"}

    answer = raw(server.port, head("Content-Length: 1000"), then=drip)
    assert answer.startswith(b"HTTP/1.1 408")


def test_a_client_that_leaves_in_the_middle_leaves_nothing_behind(server: ReceiverServer) -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as link:
            link.sendall(head("Content-Length: 1000") + b"{")
    assert server.session.get(f"http://127.0.0.1:{server.port}/health", timeout=5).ok


def test_bodies_that_are_held_back_keep_no_delivery_out(
    server: ReceiverServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "MAX_UNREAD", 3)
    links = []
    try:
        for _ in range(3):
            link = socket.create_connection(("127.0.0.1", server.port), timeout=5)
            link.sendall(head("Content-Length: 1000") + b"{")
            links.append(link)
            time.sleep(0.2)  # its turn comes before the next one's
        began = time.monotonic()
        assert server.post(sign(event(), FOREIGN)).status_code == 400
        assert time.monotonic() - began < 5
        assert links[0].recv(100).startswith(b"HTTP/1.1 408"), "the oldest is given up"
        links[2].setblocking(False)
        with pytest.raises(BlockingIOError):
            links[2].recv(100)
    finally:
        for link in links:
            link.close()


def test_too_many_at_once_are_asked_to_come_again(
    server: ReceiverServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = threading.Event()

    def slow(conn_id: str) -> str | None:
        held.wait(20)
        return None

    monkeypatch.setattr(receiver, "MAX_IN_FLIGHT", 3)
    monkeypatch.setattr(receiver, "connection_secrets", slow)
    busy = ReceiverServer()
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(busy.post, sign(event(), FOREIGN)) for _ in range(3)]
        try:
            deadline, status = time.monotonic() + 10, 0
            while status != 503:
                assert time.monotonic() < deadline, status
                probe = sign(b"{}", FOREIGN)
                probe.headers["svix-timestamp"] = "1"
                status = busy.post(probe).status_code
        finally:
            held.set()
        assert [each.result().status_code for each in waiting] == [400] * 3
    busy.stop()


def test_made_up_ids_do_not_delay_a_delivery(
    server: ReceiverServer, recorded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    look_up = secrets.connection_secrets

    def slow(conn_id: str) -> str | None:
        asked.append(conn_id)
        if conn_id.startswith("made_up"):
            time.sleep(0.3)
        return look_up(conn_id)

    monkeypatch.setattr(receiver, "connection_secrets", slow)
    flooded = ReceiverServer()
    # Ignored, so that nothing is stored; it makes the connection known to this process.
    real = event(eventType="generation.queued")
    assert flooded.post(sign(real, SECRET)).status_code == 200
    with ThreadPoolExecutor(40) as pool:
        flood = [
            pool.submit(flooded.post, sign(event(), FOREIGN), conn_id=f"made_up_{number}")
            for number in range(200)
        ]
        time.sleep(0.5)
        began = time.monotonic()
        assert flooded.post(sign(real, SECRET)).status_code == 200
        assert time.monotonic() - began < 2
        assert {each.result().status_code for each in flood} == {400}
    flooded.stop()
    made_up = [conn_id for conn_id in asked if conn_id.startswith("made_up")]
    assert len(made_up) < 60


def test_a_body_of_the_largest_size_is_still_read(server: ReceiverServer) -> None:
    assert server.post(sign(b'{"a":"' + b"x" * (MAX_BODY - 8) + b'"}', SECRET)).status_code == 422
    assert server.post(sign(b'{"a":"' + b"x" * (MAX_BODY - 7) + b'"}', SECRET)).status_code == 413


def test_neither_body_nor_signature_nor_secret_is_logged(
    server: ReceiverServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "airflow_provider_diffio")
    canary = event(error="canary-in-the-body", eventType="generation.queued")
    good, bad = sign(canary, SECRET), sign(canary, FOREIGN)
    assert server.post(good).status_code == 200
    assert server.post(bad).status_code == 400
    assert "its signature fits no webhook_secret of the connection" in caplog.text
    for secret in (
        "canary-in-the-body",
        SECRET,
        good.headers["svix-signature"],
        bad.headers["svix-signature"],
    ):
        assert secret not in caplog.text


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"svix-id": None}, "lacks the headers svix-id"),
        (
            {
                **dict.fromkeys(("svix-id", "svix-timestamp", "svix-signature")),
                "webhook-id": "msg_1",
                "webhook-timestamp": "1",
                "webhook-signature": "v1,AAAA",
            },
            "it has webhook-id, webhook-timestamp, webhook-signature instead",
        ),
        ({"svix-id": "an id"}, "svix-id has a form that Svix does not send"),
        ({"svix-timestamp": "yesterday"}, "svix-timestamp is not a number"),
        ({"svix-timestamp": str(int(time.time()) - 3600)}, "s behind this machine's clock"),
        ({"svix-timestamp": str(int(time.time()) + 7200)}, "s ahead of this machine's clock"),
        ({"svix-signature": "v1,AAAA"}, "its signature fits no webhook_secret"),
    ],
)
def test_the_log_says_why_a_delivery_was_refused(
    server: ReceiverServer, caplog: pytest.LogCaptureFixture, changed: dict[str, str | None], reason: str
) -> None:
    answer = server.post(sign(event(), SECRET), changed=changed)
    assert (answer.status_code, answer.json()) == (400, REFUSAL)
    assert reason in caplog.text


@pytest.mark.parametrize(
    ("conn_id", "reason"),
    [
        ("unknown", "unknown connection, or one without a webhook_secret"),
        ("quoted", "webhook_secret has quotes in it"),
        ("broken", "A webhook secret is not of the form"),
    ],
)
def test_the_log_says_what_is_wrong_with_the_connection(
    server: ReceiverServer, caplog: pytest.LogCaptureFixture, conn_id: str, reason: str
) -> None:
    answer = server.post(sign(event(), SECRET), conn_id=conn_id)
    assert (answer.status_code, answer.json()) == (400, REFUSAL)
    assert reason in caplog.text
    assert SECRET[6:] not in caplog.text


def test_refusals_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    log = RateLimitedLog(now=lambda: now[0])
    for _ in range(1000):
        log.refused("wrong")
    now[0] = 1.5
    log.refused("wrong")
    assert [record.getMessage() for record in caplog.records] == [
        "A delivery was refused: wrong",
        "A delivery was refused: wrong (999 more since the last such line)",
    ]


class Backend:
    """Looks secrets up, and counts how often."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asked: list[str] = []
        self.cache = WebhookSecrets(self.look_up, now=lambda: self.now)

    def look_up(self, conn_id: str) -> str | None:
        self.asked.append(conn_id)
        return SECRET if conn_id.startswith("real") else None


def test_made_up_ids_are_looked_up_within_a_budget() -> None:
    backend = Backend()
    for number in range(1000):
        assert backend.cache.get(f"made_up_{number}") is None
    assert len(backend.asked) == UNSEEN_BURST
    backend.now += 5.0
    for number in range(1000):
        assert backend.cache.get(f"again_{number}") is None
    assert len(backend.asked) == UNSEEN_BURST + 5 * UNSEEN_PER_SECOND


def test_made_up_ids_keep_no_known_connection_from_being_looked_up() -> None:
    backend = Backend()
    assert not backend.cache.is_known("real")
    assert backend.cache.get("real") == SECRET
    for number in range(1000):
        backend.cache.get(f"made_up_{number}")
    assert backend.cache.is_known("real")
    backend.now += 16.0
    backend.cache._budget.take(backend.now)
    for number in range(1000):
        backend.cache.get(f"more_{number}")
    assert backend.cache.get("real") == SECRET
    assert backend.asked.count("real") == 2


def test_an_id_without_secrets_is_looked_up_again_after_a_while_only() -> None:
    backend = Backend()
    for _ in range(10):
        assert backend.cache.get("made_up") is None
    assert backend.asked == ["made_up"]
    backend.now += 16.0
    assert backend.cache.get("made_up") is None
    assert backend.asked == ["made_up"] * 2


def test_what_is_kept_of_ids_is_bounded() -> None:
    backend = Backend()
    for number in range(2 * MAX_UNKNOWN):
        backend.now += 1.0
        backend.cache.get(f"made_up_{number}")
        backend.cache.get(f"real_{number}")
    assert len(backend.cache._unknown) == MAX_UNKNOWN
    assert len(backend.cache._known) == MAX_KNOWN


def test_a_rotated_secret_is_noticed() -> None:
    now, stored = [0.0], ["one"]
    cache = WebhookSecrets(lambda _: stored[0], now=lambda: now[0])
    assert cache.get("c") == "one"
    stored[0] = "two"
    now[0] = 16.0
    assert cache.get("c") == "two"
