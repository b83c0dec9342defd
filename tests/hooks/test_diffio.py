"""The hook: the connection test in a user's words, the form of results, and every endpoint once."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.api.errors import DiffioConfigurationError, DiffioInputError
from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.sandbox import Sandbox


@pytest.fixture
def hook(connection: dict[str, Any]) -> DiffioHook:
    return DiffioHook()


def connect(monkeypatch: pytest.MonkeyPatch, connection: dict[str, Any], **changes: Any) -> DiffioHook:
    monkeypatch.setenv("AIRFLOW_CONN_CHANGED", json.dumps({**connection, **changes}))
    return DiffioHook("changed")


def test_the_connection_test_says_as_whom(hook: DiffioHook, sandbox: Sandbox) -> None:
    works, message = hook.test_connection()
    assert works
    assert "127.0.0.1" in message
    assert "key_sandbox" in message
    assert sandbox.api_key not in message
    assert [r["path"].rpartition("/")[2] for r in sandbox.requests()] == [
        "get",
        "get_generation_download",
        "get_generation_progress",
    ]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"password": "wrong"}, "API key"),
        ({"password": ""}, "password is empty"),
        ({"host": "http://127.0.0.1:9"}, "refused the connection"),
        ({"host": "https://no-such-host.invalid"}, "cannot be resolved"),
        ({"host": "http://api.diffio.ai"}, "plain http"),
        ({"host": "https://user:secret@example.com"}, "no usable base URL"),
        ({"extra": {"timeout": "soon"}}, "timeout"),
        ({"extra": {"auth_header": "Cookie"}}, "auth_header"),
    ],
)
def test_the_connection_test_names_what_is_wrong(
    connection: dict[str, Any], monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], word: str
) -> None:
    works, message = connect(monkeypatch, connection, **changes).test_connection()
    assert not works
    assert word in message


def test_the_connection_test_knows_a_blocked_account(hook: DiffioHook, sandbox: Sandbox) -> None:
    body = {"error": "Payment failed. Update your payment method.", "code": "paymentFailed"}
    sandbox.add_fault("status", path="*account*", status=402, body=body)
    works, message = hook.test_connection()
    assert not works
    assert "Payment failed." in message
    assert "billing portal" in message


def test_a_key_that_may_not_see_the_account_is_tried_on_projects(
    hook: DiffioHook, sandbox: Sandbox, connection: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    scoped = hook.create_api_key("narrow", ["projects:read", "generations:read", "artifacts:read"])
    works, message = connect(monkeypatch, connection, password=scoped.key).test_connection()
    assert works
    assert "may not read account settings" in message


def test_a_connection_that_is_a_uri_works(
    sandbox: Sandbox, connection: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = sandbox.api_url.rpartition(":")[2]
    uri = f"diffio://:{sandbox.api_key}@127.0.0.1:{port}/http?timeout=5&verify=false&auth_header=X-Api-Key"
    monkeypatch.setenv("AIRFLOW_CONN_AS_URI", uri)
    hook = DiffioHook("as_uri")
    assert hook.test_connection()[0]
    assert hook.config.settings.timeout == 5.0
    assert hook.config.settings.verify is False


def test_a_missing_connection_is_named() -> None:
    with pytest.raises(DiffioConfigurationError, match="There is no connection 'no_such_connection'"):
        DiffioHook("no_such_connection").list_projects()


def test_the_models_default_is_the_connections(
    connection: dict[str, Any], monkeypatch: pytest.MonkeyPatch, recording: Path
) -> None:
    hook = connect(monkeypatch, connection, extra={"model": "diffio-4.6-pro"})
    project = hook.create_project(recording)
    assert hook.create_generation(project.api_project_id).model == "diffio-4.6-pro"


def test_a_stream_is_uploaded_under_the_name_it_is_given(hook: DiffioHook) -> None:
    project = hook.create_project(io.BytesIO(b"x" * 5000), file_name="talk.wav")
    assert (project.file_name, project.size_bytes, project.status) == ("talk.wav", 5000, "uploaded")


def test_restore_audio_does_it_all(hook: DiffioHook, recording: Path, output: Path, sandbox: Sandbox) -> None:
    file = hook.restore_audio(recording, "all/", timeout=30)
    assert Path(file.path).parent == output / "all"
    assert Path(file.path).read_bytes() == recording.read_bytes()
    assert len(sandbox.ledger()["generations"]) == 1


def test_the_signed_put_generation_of_the_protocol_works_too(
    recording: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Sandbox(protocol="signed-put", processing_seconds=0.1, engine="passthrough") as sandbox:
        extra = {"model": "diffio-4.0-flash", "output_path": str(output)}
        monkeypatch.setenv("AIRFLOW_CONN_OLD", json.dumps({**sandbox.connection, "extra": extra}))
        file = DiffioHook("old").restore_audio(recording, "old.mp3", timeout=30)
        assert Path(file.path).read_bytes() == recording.read_bytes()
        # The two questions after permissions are about a generation that does not exist.
        refused = [r["path"] for r in sandbox.requests() if r["status"] >= 400]
        assert refused == ["/v1/get_generation_download", "/v1/get_generation_progress"]


def test_options_of_one_call_are_of_one_call(hook: DiffioHook, sandbox: Sandbox) -> None:
    sandbox.add_fault("status", path="*list_projects", status=503, nth="every")
    with pytest.raises(Exception, match="503"):
        hook.list_projects(request_options={"max_attempts": 1, "headers": {"X-Trace": "1"}})
    seen = [r for r in sandbox.requests() if r["path"].endswith("list_projects")]
    assert len(seen) == 1
    assert "X-Trace" in seen[0]["headers"]
    with pytest.raises(DiffioInputError, match="retries"):
        hook.list_projects(request_options={"retries": 3})


def test_every_endpoint_answers(hook: DiffioHook, recording: Path) -> None:
    project = hook.create_project(recording)
    generation = hook.create_generation(project.api_project_id, idempotency_key="once")
    assert hook.create_generation(project.api_project_id, idempotency_key="once").idempotent_replay
    hook.wait_for_generation(generation.generation_id, poll_interval=0.1)
    assert hook.complete_project_upload(project.api_project_id).size_bytes == recording.stat().st_size
    assert [p.api_project_id for p in hook.list_projects()] == [project.api_project_id]
    listed = hook.list_project_generations(project.api_project_id)
    assert [(g.generation_id, g.status) for g in listed] == [(generation.generation_id, "complete")]
    link = hook.get_generation_download(generation.generation_id, project.api_project_id, "audio")
    assert link.download_url not in repr(link)

    policy = hook.update_account_settings({"type": "customerStripe"}).billing_policy
    assert policy["type"] == hook.get_account_settings().billing_policy["type"] == "customerStripe"
    assert hook.get_usage_summary().periods[0].total_cents is not None

    key = hook.create_api_key("nightly", ["projects:read"])
    rotated = hook.rotate_api_key(key.key_id)
    assert key.key
    assert rotated.key
    assert key.key != rotated.key
    assert rotated.key not in repr(rotated)
    assert hook.revoke_api_key(key.key_id).status == "revoked"
    assert "nightly" in {k.label for k in hook.list_api_keys()}

    webhook = hook.configure_webhook("https://example.com/hook", ["generation.completed"])
    assert webhook.event_types == ("generation.completed",)
    assert hook.send_webhook_test_event().event_type == "generation.completed"


def test_webhooks_need_a_secret(hook: DiffioHook) -> None:
    headers = {"svix-id": "m", "svix-timestamp": "1", "svix-signature": "v1,x"}
    with pytest.raises(DiffioConfigurationError, match="webhook_secret"):
        hook.verify_webhook(b"{}", headers)


def test_airflow_takes_no_field_for_a_secret_that_is_none() -> None:
    """The form of Airflow 3 shows and saves three stars where the name of a field sounds like a secret."""
    from airflow.providers.common.compat.sdk import redact

    from airflow_provider_diffio.hooks.connection_fields import CONN_FIELDS

    values = dict.fromkeys(CONN_FIELDS, "value")
    shown = redact(values)
    hidden = [name for name in values if shown[name] != "value"]
    secrets = {name for name, spec in CONN_FIELDS.items() if spec["schema"].get("format") == "password"}
    # Airflow before 3.3 does not take a proxy for one; it is none of the form's business there.
    assert secrets - {"proxy"} <= set(hidden) <= secrets


@pytest.mark.parametrize("name", ["key_header", "auth_header"])
def test_both_names_of_the_keys_header_are_read(
    connection: dict[str, Any], monkeypatch: pytest.MonkeyPatch, name: str, sandbox: Sandbox
) -> None:
    hook = connect(monkeypatch, connection, extra={name: "X-Api-Key"})
    hook.list_projects()
    assert "X-Api-Key" in sandbox.requests()[0]["headers"]
