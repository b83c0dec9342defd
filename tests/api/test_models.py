"""What Diffio's answers become: tolerant of what is missing, strict about what is needed, and mum."""

from __future__ import annotations

import copy
import datetime as dt
import json
import pickle
from typing import Any

import pytest

from airflow_provider_diffio.api import endpoints, models
from airflow_provider_diffio.api.errors import DiffioResponseError
from airflow_provider_diffio.api.json_fields import JSONFields, presentable
from airflow_provider_diffio.api.settings import ClientSettings, RequestOptions

EDGE = {
    "uploadSessionId": "api-p",
    "edgeBaseUrl": "https://media.test/",
    "uploadToken": "v1.secret-token.sig",
    "objectKey": "api/users/u/a.wav",
    "partSizeBytes": 33554432,
    "maxBytes": 2147483648,
    "expiresAt": "2026-10-08T12:00:00Z",
}
SIGNED_URL = "https://store.test/bucket/a.wav?signature=" + "s" * 40


def answer(**fields: Any) -> JSONFields:
    return JSONFields(fields, "the_endpoint")


# --- fields that are missing, null, wrong or new -----------------------------------------------------------


@pytest.mark.parametrize("value", [None, 7, True, [], {}, ""])
def test_a_text_of_another_type_is_unknown(value: Any) -> None:
    assert answer(field=value).text("field") is None


@pytest.mark.parametrize("value", [None, "7", True, [], float("nan"), float("inf"), 10**400])
def test_a_number_of_another_type_or_size_is_unknown(value: Any) -> None:
    assert answer(field=value).number("field") is None
    assert answer(field=value).whole("field") is None


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "7", float("inf")])
def test_a_count_that_is_needed_is_a_positive_whole_number(value: Any) -> None:
    with pytest.raises(DiffioResponseError, match="'field' \\(expected a positive whole number\\)"):
        answer(field=value).need_count("field")


@pytest.mark.parametrize("value", ["yesterday", 7, None, "2026-13-01T00:00:00Z", "0000"])
def test_a_time_that_can_not_be_read_is_unknown(value: Any) -> None:
    assert answer(field=value).time("field") is None


@pytest.mark.parametrize("text", ["2026-05-09T12:00:00Z", "2026-05-09T12:00:00", "2026-05-09T14:00:00+02:00"])
def test_times_have_a_zone(text: str) -> None:
    assert answer(field=text).time("field") == dt.datetime(2026, 5, 9, 12, tzinfo=dt.UTC)


def test_things_in_a_list_that_are_no_objects_are_skipped() -> None:
    listed = answer(items=[7, {"keyId": "k"}, None]).need_objects("items", models.ApiKey.read)
    assert [key.key_id for key in listed] == ["k"]


def test_a_missing_field_inside_a_list_is_named_with_its_place() -> None:
    with pytest.raises(DiffioResponseError, match=r"has no usable 'items\[1\].keyId'"):
        answer(items=[{"keyId": "k"}, {}]).need_objects("items", models.ApiKey.read)


NEEDED: list[tuple[Any, dict[str, Any], list[str]]] = [
    (models.CreatedProject.read, {"apiProjectId": "p", "upload": EDGE}, ["apiProjectId", "upload"]),
    (models.EdgeUpload.read, EDGE, sorted(EDGE.keys() - {"expiresAt"})),
    (models.SignedPutUpload.read, {"uploadUrl": SIGNED_URL}, ["uploadUrl"]),
    (models.EdgeUploadStart.read, {"uploadId": "u"}, ["uploadId"]),
    (models.EdgePart.read, {"etag": "e"}, ["etag"]),
    (models.UploadConfirmation.read, {"apiProjectId": "p"}, ["apiProjectId"]),
    (models.GenerationProgress.read, {"generationId": "g", "status": "queued"}, ["generationId", "status"]),
    (
        models.GenerationDownload.read,
        {"generationId": "g", "apiProjectId": "p", "downloadType": "audio", "downloadUrl": SIGNED_URL},
        ["generationId", "apiProjectId", "downloadType", "downloadUrl"],
    ),
    (models.ProjectSummary.read, {"apiProjectId": "p"}, ["apiProjectId"]),
    (models.GenerationSummary.read, {"generationId": "g"}, ["generationId"]),
    (models.AccountSettings.read, {"account": {}}, ["account"]),
    (models.ApiKey.read, {"keyId": "k"}, ["keyId"]),
    (models.ApiKey.read_with_secret, {"keyId": "k", "key": "s"}, ["keyId", "key"]),
    (models.UsageSummary.read, {"usage": {"periods": []}}, ["usage"]),
    (models.WebhookConfiguration.read, {"webhook": {}}, ["webhook"]),
    (endpoints.create_generation("p").read, {"generationId": "g"}, ["generationId"]),
    (endpoints.list_projects().read, {"projects": []}, ["projects"]),
    (endpoints.list_project_generations("p").read, {"generations": []}, ["generations"]),
    (endpoints.list_api_keys().read, {"keys": []}, ["keys"]),
]
CASES = [(read, fields, name) for read, fields, names in NEEDED for name in names]


@pytest.mark.parametrize(("read", "fields"), [case[:2] for case in NEEDED])
def test_the_fields_that_are_needed_are_enough(read: Any, fields: dict[str, Any]) -> None:
    alone = read(JSONFields(fields, "the_endpoint"))
    assert read(JSONFields({**fields, "brandNew": {"a": [1]}}, "the_endpoint")) == alone


@pytest.mark.parametrize(("read", "fields", "name"), CASES)
@pytest.mark.parametrize("worse", [None, 0, True])
def test_a_needed_field_that_is_missing_or_unusable_is_named(
    read: Any, fields: dict[str, Any], name: str, worse: Any
) -> None:
    with pytest.raises(DiffioResponseError, match=f"response of the_endpoint has no usable '{name}'"):
        read(JSONFields({**fields, name: worse}, "the_endpoint"))
    with pytest.raises(DiffioResponseError, match=name):
        read(JSONFields({key: value for key, value in fields.items() if key != name}, "the_endpoint"))


# --- create_project ---------------------------------------------------------------------------------------


def test_an_upload_session_means_the_edge_protocol() -> None:
    project = models.CreatedProject.read(answer(apiProjectId="p", upload=EDGE, objectPath="o"))
    assert project.upload == models.EdgeUpload(
        "api-p",
        "https://media.test",
        "v1.secret-token.sig",
        "api/users/u/a.wav",
        33554432,
        2147483648,
        dt.datetime(2026, 10, 8, 12, tzinfo=dt.UTC),
    )


def test_an_upload_url_means_the_signed_put_protocol() -> None:
    project = models.CreatedProject.read(
        answer(apiProjectId="p", uploadUrl=SIGNED_URL, uploadMethod="put", bucket="b")
    )
    assert project.upload == models.SignedPutUpload(SIGNED_URL, "PUT")


def test_a_session_outranks_a_url() -> None:
    project = models.CreatedProject.read(answer(apiProjectId="p", uploadUrl=SIGNED_URL, upload=EDGE))
    assert isinstance(project.upload, models.EdgeUpload)


@pytest.mark.parametrize("method", ["DELETE", "PUT / HTTP/1.1\r\nEvil: 1"])
def test_a_file_is_not_sent_by_any_method_a_server_names(method: str) -> None:
    with pytest.raises(DiffioResponseError, match="'uploadMethod' \\(expected PUT or POST\\)"):
        models.SignedPutUpload.read(answer(uploadUrl=SIGNED_URL, uploadMethod=method))


@pytest.mark.parametrize(("size", "kept"), [(7, 7), (0, None), (-7, None), ("7", None), (None, None)])
def test_a_part_size_that_makes_no_sense_does_not_outrank_the_session(size: Any, kept: int | None) -> None:
    assert models.EdgeUploadStart.read(answer(uploadId="u", partSizeBytes=size)).part_size_bytes == kept


# --- generations ------------------------------------------------------------------------------------------


def test_a_generation_falls_back_to_what_was_asked_for() -> None:
    call = endpoints.create_generation("p", model="diffio-4.6-pro")
    assert call.read(answer(generationId="g")) == models.Generation("g", "p", "diffio-4.6-pro", "queued")


@pytest.mark.parametrize(("sent", "replay"), [(True, True), (False, False), (None, False), ("yes", False)])
def test_only_true_is_a_replay(sent: Any, replay: bool) -> None:
    generation = endpoints.create_generation("p").read(answer(generationId="g", idempotentReplay=sent))
    assert generation.idempotent_replay is replay


def progress(**fields: Any) -> models.GenerationProgress:
    return models.GenerationProgress.read(answer(**{"generationId": "g", "status": "processing", **fields}))


@pytest.mark.parametrize("word", ["queued", "pending", "processing", "reticulating", "COMPLETE"])
def test_a_word_that_is_not_terminal_is_neither_complete_nor_failed(word: str) -> None:
    seen = progress(status=word)
    assert (seen.is_complete, seen.is_failed) == (False, False)


def test_complete_failed_and_error_are_terminal() -> None:
    assert progress(status="complete").is_complete
    assert progress(status="failed").is_failed
    assert progress(status="error").is_failed


@pytest.mark.parametrize(
    "junk", [None, 7, "x", [], {}, {"status": 7, "progress": "x", "overallPercent": "x"}]
)
def test_stages_queues_and_transcriptions_of_unknown_shape_are_ignored(junk: Any) -> None:
    seen = progress(
        preProcessing=junk,
        inference=junk,
        restoredVideo=junk,
        stageProgress=junk,
        queue=junk,
        transcription=junk,
    )
    assert seen.percent is None
    assert seen.transcription is None
    assert seen.describe() == "processing"


def test_the_line_about_a_waiting_generation() -> None:
    seen = progress(stage="queued", queue={"position": 2}, inference={"status": "pending", "progress": 0})
    assert seen.describe() == "processing, stage queued, position 2 in the queue"


def test_the_line_about_a_running_generation() -> None:
    seen = progress(stage="restoring", stageProgress={"overallPercent": 41.6})
    assert seen.describe() == "processing, stage restoring, 42 %"


def test_a_servers_text_can_not_forge_log_lines() -> None:
    seen = progress(queue={"message": "Waiting\n[2026-01-01] ERROR forged\x1b[2K" + "x" * 9999})
    assert seen.describe().isprintable()
    assert len(seen.describe()) < 600


def test_what_diffio_says_about_a_failure_is_one_line() -> None:
    assert progress(error="Decoder failed.", errorDetails="line 1\nline 2").failure() == (
        "Decoder failed: line 1 line 2"
    )
    assert progress().failure() == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("two\r\nlines\tand a\x00null", "two lines and a null"),
        ("your key abc is bad, abc", "your key *** is bad, ***"),
        ("  \n ", ""),
    ],
)
def test_presentable_text(text: str, shown: str) -> None:
    assert presentable(text, ["abc"]) == shown


def test_a_secret_at_the_edge_of_a_shortened_text_is_not_cut_in_half() -> None:
    assert "secret" not in presentable("x" * 496 + "secret-key", ["secret-key"])


# --- values of a DAG ---------------------------------------------------------------------------------------


def test_the_values_of_a_dag_are_plain() -> None:
    project = models.Project("p", "a.wav", "audio/wav", 7, "uploaded")
    generation = models.Generation("g", "p", "m", "queued", idempotent_replay=True)
    asset = models.DownloadedFile("/a.mp3", 7, "00", "audio/mpeg", "a.mp3", "audio", "g", "p")
    assert project.to_value() == {
        "api_project_id": "p",
        "file_name": "a.wav",
        "content_type": "audio/wav",
        "size_bytes": 7,
        "status": "uploaded",
    }
    assert generation.to_value() == {
        "generation_id": "g",
        "api_project_id": "p",
        "model": "m",
        "status": "queued",
    }
    assert asset.to_value() == {
        "path": "/a.mp3",
        "size_bytes": 7,
        "sha256": "00",
        "mime_type": "audio/mpeg",
        "file_name": "a.mp3",
        "download_type": "audio",
        "generation_id": "g",
        "api_project_id": "p",
    }


# --- secrets ----------------------------------------------------------------------------------------------

SECRET = "s3cret-" + "x" * 40
HOLDERS: list[Any] = [
    models.EdgeUpload("s", "https://media.test", SECRET, "k", 1, 1),
    models.SignedPutUpload(f"https://store.test/?sig={SECRET}"),
    models.GenerationDownload("g", "p", "audio", f"https://media.test/m/{SECRET}/a.mp3"),
    models.ApiKey("k", key=SECRET),
    models.CreatedProject("p", models.EdgeUpload("s", "https://media.test", SECRET, "k", 1, 1)),
    ClientSettings(SECRET, headers={"X-Gateway": SECRET}, proxy=f"http://me:{SECRET}@proxy.test"),
    RequestOptions(api_key=SECRET, headers={"X-Gateway": SECRET}),
    JSONFields({"key": SECRET}, "e"),
    endpoints.start_edge_upload(models.EdgeUpload("s", "https://media.test", SECRET, "k", 1, 1)),
]


@pytest.mark.parametrize("holder", HOLDERS, ids=lambda holder: type(holder).__name__)
def test_a_secret_is_in_no_repr(holder: Any) -> None:
    assert SECRET not in repr(holder) + str(holder) + f"{holder}" + repr([holder])


@pytest.mark.parametrize("holder", HOLDERS[:5], ids=lambda holder: type(holder).__name__)
def test_the_secrets_of_an_answer_can_be_told(holder: Any) -> None:
    assert any(SECRET in secret for secret in models.secrets_of(holder))


def test_answers_without_secrets_tell_none() -> None:
    assert models.secrets_of(models.ApiKey("k")) == []
    assert models.secrets_of(models.Generation("g", "p", "m", "queued")) == []
    assert models.secrets_of(()) == []


def test_the_secrets_of_a_url_are_what_a_log_may_show_of_it() -> None:
    generation, signature, name = "9" * 32, "a%2Bb%3D" + "c" * 30, "n" * 40
    url = f"https://media.test/generations/{generation}/a.mp3?download={name}&X-Sig={signature}"
    # Ids and names stay readable.
    assert models.secrets_of_url(url) == [
        url,
        f"/generations/{generation}/a.mp3?download={name}&X-Sig={signature}",
        signature,
        "a+b=" + "c" * 30,
    ]


@pytest.mark.parametrize("url", ["https://media.test", "https://media.test/", "http://[bad"])
def test_what_every_url_has_is_no_secret(url: str) -> None:
    assert models.secrets_of_url(url) == [url]


def test_results_can_be_copied_and_pickled() -> None:
    for holder in HOLDERS[:7]:
        assert pickle.loads(pickle.dumps(holder)) == copy.deepcopy(holder) == holder  # noqa: S301


# --- texts from outside -----------------------------------------------------------------------------------

DIRTY = [
    ("Bad \ud83d", "Bad \ufffd"),
    ("\udc00\ud83d", "\ufffd\ufffd"),
    ("a\x00b", "a\ufffdb"),
    ("a\x1b[31mb", "a\ufffd[31mb"),
    ("a\x7f\x85\x9fb", "a\ufffd\ufffd\ufffdb"),
    ("first\r\nsecond\tthird", "first  second third"),
    ("a\u2028b", "a b"),
]
CLEAN = [
    "plain",
    "\u00e4\u00f6\u00fc \u4f60\u597d",
    "\U0001f600",
    "a\u00a0b",
    "\u0645\u0631\u062d\u0628\u0627",
    "e\u0301",
]


@pytest.mark.parametrize(("dirty", "cleaned"), [*DIRTY, *((text, text) for text in CLEAN)])
def test_a_text_is_cleaned_wherever_it_enters(dirty: str, cleaned: str) -> None:
    fields = answer(field=dirty, items=[dirty, 7], object={dirty: [{"deep": dirty}]})
    assert fields.text("field") == fields.need_text("field") == fields.prose("field") == cleaned
    assert fields.texts("items") == (cleaned,)
    assert fields.plain("object") == {cleaned: [{"deep": cleaned}]}
    json.dumps(fields.plain("object"), ensure_ascii=False).encode()


def texts_in(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for item in value.items() for part in item for text in texts_in(part)]
    if isinstance(value, (list, tuple)):
        return [text for item in value for text in texts_in(item)]
    return texts_in(vars(value)) if hasattr(value, "__dict__") else []


@pytest.mark.parametrize("read", [models.GenerationProgress.read, models.GenerationProgress.read_briefly])
def test_no_text_of_a_failed_generation_ends_a_triggerer(read: Any) -> None:
    names = ("status", "jobId", "jobState", "statusMessage", "error", "errorDetails")
    stage = dict.fromkeys(names, "cut \ud83d\x00")
    progress = read(
        answer(
            generationId="g\udc00",
            apiProjectId="p\x00",
            status="failed",
            stage="\ud83d",
            error="cut \ud83d",
            errorDetails="\x00" + "long " * 10_000,
            queue={"message": "\ud83d", "waitReason": "\x00", "position": 1},
            preProcessing=stage,
            inference=stage,
            restoredVideo=stage,
        )
    )
    for text in [*texts_in(progress), progress.failure(), progress.describe()]:
        assert "\x00" not in text
        assert len(text.encode()) < 10_000
    assert progress.error == "cut \ufffd"


def test_a_text_beyond_all_measure_is_cut_or_refused() -> None:
    fields = answer(field="x" * 10**6)
    assert len(fields.text("field") or "") == 16 * 1024
    assert len(fields.prose("field") or "") == 2003
    with pytest.raises(DiffioResponseError, match="at most 16384 characters"):
        fields.need_text("field")


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_a_time_that_cannot_be_computed_with_is_no_time(moment: str) -> None:
    assert answer(field=moment).time("field") is None
