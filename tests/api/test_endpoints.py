"""Every endpoint as data: what is sent, where, and what is refused before anything is sent."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from airflow_provider_diffio.api import endpoints
from airflow_provider_diffio.api.endpoints import Call, EdgeCall
from airflow_provider_diffio.api.errors import DiffioInputError, DiffioResponseError
from airflow_provider_diffio.api.json_fields import JSONFields
from airflow_provider_diffio.api.models import EdgeUpload

SESSION = EdgeUpload("api-p", "https://media.test", "v1.token.sig", "key", 33554432, 2147483648)

CALLS: list[tuple[Call[Any], str, dict[str, Any], bool]] = [
    (
        endpoints.create_project("a.wav", content_type="audio/wav", content_length=7),
        "create_project",
        {"fileName": "a.wav", "contentType": "audio/wav", "contentLength": 7},
        True,
    ),
    (
        endpoints.create_project(
            "a.wav", content_type="audio/wav", content_length=7, file_format="wav", params={"a": [1]}
        ),
        "create_project",
        {
            "fileName": "a.wav",
            "contentType": "audio/wav",
            "contentLength": 7,
            "fileFormat": "wav",
            "params": {"a": [1]},
        },
        True,
    ),
    (endpoints.complete_project_upload("p"), "complete_project_upload", {"apiProjectId": "p"}, True),
    (endpoints.list_projects(), "list_projects", {}, True),
    (endpoints.list_project_generations("p"), "list_project_generations", {"apiProjectId": "p"}, True),
    (endpoints.create_generation("p"), "diffio-4.6-flash-generation", {"apiProjectId": "p"}, False),
    (
        endpoints.create_generation(
            "p", model="diffio-4.6-pro", sampling={"seed": 1}, params={"prompt": "x"}, idempotency_key=" k "
        ),
        "diffio-4.6-pro-generation",
        {"apiProjectId": "p", "sampling": {"seed": 1}, "params": {"prompt": "x"}, "idempotencyKey": "k"},
        True,
    ),
    (
        endpoints.create_generation("p", params={}),
        "diffio-4.6-flash-generation",
        {"apiProjectId": "p"},
        False,
    ),
    (endpoints.get_generation_progress("g"), "get_generation_progress", {"generationId": "g"}, True),
    (
        endpoints.get_generation_progress("g", "p"),
        "get_generation_progress",
        {"generationId": "g", "apiProjectId": "p"},
        True,
    ),
    (
        endpoints.get_generation_download("g", "p"),
        "get_generation_download",
        {"generationId": "g", "apiProjectId": "p"},
        True,
    ),
    (
        endpoints.get_generation_download("g", "p", "mp3"),
        "get_generation_download",
        {"generationId": "g", "apiProjectId": "p", "downloadType": "audio"},
        True,
    ),
    (endpoints.get_account_settings(), "account/settings/get", {}, True),
    (
        endpoints.update_account_settings({"type": "customerStripe"}),
        "account/settings/update",
        {"billingPolicy": {"type": "customerStripe"}},
        True,
    ),
    (
        endpoints.create_api_key("night shift", ["projects:read"], {"projectIds": ["p"]}),
        "api_keys/create",
        {"label": "night shift", "scopes": ["projects:read"], "resourceBounds": {"projectIds": ["p"]}},
        False,
    ),
    (
        endpoints.create_api_key("night shift", ()),
        "api_keys/create",
        {"label": "night shift", "scopes": [], "resourceBounds": {}},
        False,
    ),
    (endpoints.list_api_keys(), "api_keys/list", {}, True),
    (endpoints.rotate_api_key("k"), "api_keys/rotate", {"keyId": "k"}, False),
    (endpoints.revoke_api_key("k"), "api_keys/revoke", {"keyId": "k"}, True),
    (endpoints.get_usage_summary(), "usage/summary", {}, True),
    (endpoints.get_usage_summary("k"), "usage/summary", {"apiKeyId": "k"}, True),
    (
        endpoints.configure_webhook(
            "https://me.test/hook", ["generation.failed"], mode="test", api_key_id="k"
        ),
        "webhooks/configure",
        {
            "mode": "test",
            "url": "https://me.test/hook",
            "eventTypes": ["generation.failed"],
            "apiKeyId": "k",
        },
        True,
    ),
    (
        endpoints.send_webhook_test_event(
            "generation.completed", api_key_id="k", sample_payload={"apiProjectId": "p"}
        ),
        "webhooks/send_test_event",
        {
            "eventType": "generation.completed",
            "mode": "live",
            "apiKeyId": "k",
            "samplePayload": {"apiProjectId": "p"},
        },
        True,
    ),
]


@pytest.mark.parametrize(("call", "path", "body", "repeatable"), CALLS, ids=lambda value: str(value)[:40])
def test_what_each_endpoint_sends(call: Call[Any], path: str, body: dict[str, Any], repeatable: bool) -> None:
    assert (call.path, call.body, call.repeatable) == (path, body, repeatable)


def test_only_the_creation_of_a_generation_may_bill() -> None:
    assert {call.path for call, *_ in CALLS if call.may_bill} == {
        "diffio-4.6-flash-generation",
        "diffio-4.6-pro-generation",
    }


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("diffio-2", "diffio-2.0-generation"),
        ("diffio-2-flash", "diffio-2.0-flash-generation"),
        ("diffio-3", "diffio-3.0-generation"),
        ("diffio-3.5", "diffio-3.5-generation"),
        ("diffio-4.6-pro", "diffio-4.6-pro-generation"),
        (" diffio-9_x ", "diffio-9_x-generation"),
    ],
)
def test_the_model_is_in_the_path(model: str, path: str) -> None:
    assert endpoints.create_generation("p", model=model).path == path


@pytest.mark.parametrize(
    ("call", "method", "action", "query", "repeatable"),
    [
        (endpoints.start_edge_upload(SESSION), "POST", "start", {}, True),
        (endpoints.send_edge_part(SESSION, "u", 3, b"x"), "PUT", "parts/3", {"uploadId": "u"}, True),
        (endpoints.complete_edge_upload(SESSION, "u", {1: "e"}), "POST", "complete", {}, True),
        (endpoints.abort_edge_upload(SESSION, "u"), "POST", "abort", {}, False),
    ],
)
def test_what_each_edge_call_sends(
    call: EdgeCall[Any], method: str, action: str, query: dict[str, str], repeatable: bool
) -> None:
    assert (call.method, call.url) == (method, f"https://media.test/v1/uploads/{action}")
    assert (call.query, call.repeatable) == (query, repeatable)


def test_parts_are_listed_in_order() -> None:
    call = endpoints.complete_edge_upload(SESSION, "u", {10: "j", 2: "b", 1: "a"})
    assert call.content == (
        b'{"uploadId": "u", "parts": [{"partNumber": 1, "etag": "a"}, {"partNumber": 2, "etag": "b"},'
        b' {"partNumber": 10, "etag": "j"}]}'
    )


@pytest.mark.parametrize("key", ["k", "k" * 255, "  " + "k" * 255 + "\n"])
def test_an_idempotency_key_of_1_to_255_characters_is_sent_trimmed(key: str) -> None:
    assert endpoints.create_generation("p", idempotency_key=key).body["idempotencyKey"] == key.strip()


def circular() -> dict[str, Any]:
    around: dict[str, Any] = {}
    around["again"] = around
    return around


def deep() -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for _ in range(100_000):
        nested = {"in": nested}
    return nested


NOT_TEXT: list[Any] = ["", "  ", None, 7, b"p", ["p"]]
NOT_OBJECTS: list[Any] = [7, "x", [1], {"a": {1}}, {"a": float("nan")}, {"a": b"x"}, {(1, 2): 3}, circular()]


@pytest.mark.parametrize("bad", NOT_TEXT)
def test_ids_and_names_must_be_text(bad: Any) -> None:
    for make in (
        lambda: endpoints.create_project(bad, content_type="audio/wav", content_length=1),
        lambda: endpoints.create_project("a", content_type=bad, content_length=1),
        lambda: endpoints.complete_project_upload(bad),
        lambda: endpoints.list_project_generations(bad),
        lambda: endpoints.create_generation(bad),
        lambda: endpoints.create_generation("p", model=bad),
        lambda: endpoints.get_generation_progress(bad),
        lambda: endpoints.get_generation_download(bad, "p"),
        lambda: endpoints.get_generation_download("g", bad),
        lambda: endpoints.create_api_key(bad, []),
        lambda: endpoints.rotate_api_key(bad),
        lambda: endpoints.revoke_api_key(bad),
        lambda: endpoints.configure_webhook(bad, ["generation.failed"]),
    ):
        with pytest.raises(DiffioInputError):
            make()


@pytest.mark.parametrize("bad", NOT_OBJECTS)
def test_objects_must_be_json(bad: Any) -> None:
    for make in (
        lambda: endpoints.create_project("a", content_type="a/b", content_length=1, params=bad),
        lambda: endpoints.create_generation("p", sampling=bad),
        lambda: endpoints.create_generation("p", params=bad),
        lambda: endpoints.update_account_settings(bad),
        lambda: endpoints.create_api_key("label", [], bad),
        lambda: endpoints.send_webhook_test_event("generation.failed", sample_payload=bad),
    ):
        with pytest.raises(DiffioInputError, match="JSON"):
            make()


@pytest.mark.parametrize("empty", [[], "", 0, False])
def test_an_empty_thing_that_is_no_object_is_not_taken_for_one(empty: Any) -> None:
    with pytest.raises(DiffioInputError, match="params must be a mapping"):
        endpoints.create_generation("p", params=empty)
    with pytest.raises(DiffioInputError, match="resource_bounds must be a mapping"):
        endpoints.create_api_key("label", [], empty)


def test_an_object_too_deep_to_write_is_refused() -> None:
    with pytest.raises(DiffioInputError, match="params cannot be sent as JSON"):
        endpoints.create_generation("p", params=deep())


def test_any_mapping_is_an_object() -> None:
    call = endpoints.create_generation("p", sampling=MappingProxyType({"seed": 1}))
    assert call.body["sampling"] == {"seed": 1}


def test_a_call_does_not_change_with_the_object_it_was_made_from() -> None:
    params = {"words": ["one"]}
    call = endpoints.create_generation("p", params=params)
    params["words"].append("two")
    assert call.body["params"] == {"words": ["one"]}


@pytest.mark.parametrize("bad", [-1, 1.5, True, "7", None])
def test_a_content_length_is_a_whole_number(bad: Any) -> None:
    with pytest.raises(DiffioInputError, match="content_length"):
        endpoints.create_project("a", content_type="a/b", content_length=bad)


@pytest.mark.parametrize("bad", ["audio/wav\r\nX-Evil: 1", "audio/\u266b", "a\x00b"])
def test_a_content_type_can_stand_in_a_header(bad: str) -> None:
    with pytest.raises(DiffioInputError, match="content_type"):
        endpoints.create_project("a", content_type=bad, content_length=1)


@pytest.mark.parametrize("bad", ["diffio/4", "diffio 4", "../x", "d\u00efffio", "a?b", "a%2Fb", "a#b"])
def test_a_model_that_can_not_be_part_of_a_path_is_refused(bad: str) -> None:
    with pytest.raises(DiffioInputError, match="no model id"):
        endpoints.create_generation("p", model=bad)


@pytest.mark.parametrize("bad", ["", "  ", "k" * 256, 7, b"k"])
def test_an_idempotency_key_of_another_length_or_type_is_refused(bad: Any) -> None:
    with pytest.raises(DiffioInputError, match="1 to 255"):
        endpoints.create_generation("p", idempotency_key=bad)


@pytest.mark.parametrize("bad", ["", "Audio", "wav", 7, ["audio"]])
def test_an_unknown_download_type_is_refused(bad: Any) -> None:
    with pytest.raises(DiffioInputError, match="audio, video, transcript, mp3"):
        endpoints.get_generation_download("g", "p", bad)


def test_a_label_has_80_characters_at_most() -> None:
    assert endpoints.create_api_key("x" * 80, []).body["label"] == "x" * 80
    with pytest.raises(DiffioInputError, match="81 characters"):
        endpoints.create_api_key("x" * 81, [])


@pytest.mark.parametrize("bad", ["projects:read", None, 7, [7], [""], {"projects:read": True}, iter(["a"])])
def test_scopes_are_a_list_of_names(bad: Any) -> None:
    with pytest.raises(DiffioInputError, match="scopes"):
        endpoints.create_api_key("label", bad)


@pytest.mark.parametrize("bad", [[], "generation.failed", None, 7, ["generation.done"], [7], {}])
def test_event_types_are_a_list_of_known_events(bad: Any) -> None:
    with pytest.raises(DiffioInputError, match="event_types"):
        endpoints.configure_webhook("https://me.test", bad)


def test_webhook_mode_and_event_are_known_ones() -> None:
    with pytest.raises(DiffioInputError, match="mode must be one of test, live"):
        endpoints.configure_webhook("https://me.test", ["generation.failed"], mode="prod")
    with pytest.raises(DiffioInputError, match="event_type must be one of"):
        endpoints.send_webhook_test_event("generation.done")


def test_bad_input_is_a_value_error_too() -> None:
    with pytest.raises(ValueError, match="project_id must be a non-empty string"):
        endpoints.complete_project_upload("")


# --- responses about something else -----------------------------------------------------------------------

PROGRESS_OF_G = {"generationId": "g", "apiProjectId": "p", "status": "complete"}
LINK_OF_G = {**PROGRESS_OF_G, "downloadType": "audio", "downloadUrl": "https://media.test/a"}

ABOUT: list[tuple[Call[Any], dict[str, Any], str, Any]] = [
    (endpoints.get_generation_progress("g"), PROGRESS_OF_G, "generationId", "other"),
    (endpoints.get_generation_progress("g", "p"), PROGRESS_OF_G, "apiProjectId", "other"),
    (endpoints.poll_generation("g"), PROGRESS_OF_G, "generationId", "G"),
    (endpoints.poll_generation("g", "p"), PROGRESS_OF_G, "apiProjectId", "p "),
    (endpoints.get_generation_download("g", "p"), LINK_OF_G, "generationId", "other"),
    (endpoints.get_generation_download("g", "p"), LINK_OF_G, "apiProjectId", "other"),
    (endpoints.get_generation_download("g", "p"), LINK_OF_G, "downloadType", "transcript"),
    (endpoints.get_generation_download("g", "p", "audio"), LINK_OF_G, "downloadType", "video"),
    (endpoints.get_generation_download("g", "p", "mp3"), LINK_OF_G, "downloadType", "transcript"),
    (
        endpoints.create_generation("p"),
        {"generationId": "g", "apiProjectId": "p"},
        "apiProjectId",
        "other",
    ),
    (
        endpoints.complete_project_upload("p"),
        {"apiProjectId": "p", "status": "uploaded"},
        "apiProjectId",
        "other",
    ),
    (
        endpoints.list_project_generations("p"),
        {"apiProjectId": "p", "generations": []},
        "apiProjectId",
        "other",
    ),
]


@pytest.mark.parametrize(("call", "body", "name", "other"), ABOUT)
def test_a_response_about_another_object_is_refused(
    call: Call[Any], body: dict[str, Any], name: str, other: str
) -> None:
    call.read(JSONFields(body, call.name))
    with pytest.raises(DiffioResponseError, match=name):
        call.read(JSONFields({**body, name: other}, call.name))


@pytest.mark.parametrize(
    ("asked", "told"), [("mp3", "audio"), ("audio", "mp3"), (None, "mp3"), (None, "video")]
)
def test_a_link_of_the_type_that_was_asked_for_is_taken(asked: str | None, told: str) -> None:
    call = endpoints.get_generation_download("g", "p", asked)
    assert call.read(JSONFields({**LINK_OF_G, "downloadType": told}, "e")).download_type == told


def test_ids_that_a_response_leaves_out_are_no_contradiction() -> None:
    call = endpoints.poll_generation("g", "p")
    assert call.read(JSONFields({"generationId": "g", "status": "queued"}, "e")).api_project_id is None


def test_the_receipt_of_another_part_is_refused() -> None:
    call = endpoints.send_edge_part(SESSION, "u", 2, b"x")
    assert call.read(JSONFields({"partNumber": 2, "etag": "e"}, "e")).etag == "e"
    with pytest.raises(DiffioResponseError, match="partNumber"):
        call.read(JSONFields({"partNumber": 1, "etag": "e"}, "e"))
