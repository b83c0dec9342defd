"""
Whole restorations against a server that answers anything: nothing but our own errors comes out.

``DIFFIO_HOSTILE_EXAMPLES`` sets how many bad answers are tried; ``make hostile`` tries many more than the
suite does.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_diffio.api.errors import DiffioError
from airflow_provider_diffio.hooks import DiffioHook
from tests.api.scripted import Connection, Request, Scripted, answer, scripted

API_KEY = "diffio_live_hostile0c1d2e3f4a5b6c7d8e9f"
EXAMPLES = int(os.environ.get("DIFFIO_HOSTILE_EXAMPLES", "300"))
CONTENT = b"a restored recording"
#: Another version of it, of the same length.
REPLACED = b"A RESTORED RECORDING"
#: Seconds after which everything that is done in one example must be over, however slowly somebody answers.
OVER = 30.0

#: The endpoints of one restoration, in their order, by the last part of their path.
ENDPOINTS = (
    "create_project",
    "start",
    "1",
    "complete",
    "complete_project_upload",
    "diffio-4.6-flash-generation",
    "get_generation_progress",
    "get_generation_download",
    "media.mp3",
    "list_projects",
    "list_project_generations",
    "get",
    "update",
    "create",
    "list",
    "rotate",
    "revoke",
    "summary",
    "configure",
    "send_test_event",
)

HOSTILE_NAMES = (
    "../../escaped.mp3",
    "/tmp/escaped.mp3",
    "..\\..\\escaped.mp3",
    "C:\\escaped.mp3",
    "a\x00b.mp3",
    "n" * 4096 + ".mp3",
    "\u202egpj.mp3",
    "\uff0e\uff0e\uff0fescaped.mp3",
    ".",
    "..",
    "",
    " ",
    "CON",
    "~root",
    "a/b/c.mp3",
    "\ud800",
)
HOSTILE_LINKS = (
    "file:///etc/passwd",
    "ftp://127.0.0.1/x",
    "http://192.0.2.1/x",
    "https://user:password@192.0.2.1/x",
    "//127.0.0.1/x",
    "javascript:alert(1)",
    "http://[::1",
    "http://127.0.0.1:99999/x",
    "http://127.0.0.1:9/x",
    "",
)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from((*HOSTILE_NAMES, *HOSTILE_LINKS, "0" * 5000, -1, 0, 2**70, 1e308)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=6,
)
STATUSES = st.sampled_from(
    (200, 201, 204, 206, 301, 302, 307, 400, 401, 402, 403, 404, 408, 409, 410, 411, 413, 416, 418, 429, 500)
)
HEADERS = st.dictionaries(
    st.sampled_from(("Retry-After", "Location", "Content-Range", "ETag", "Content-Encoding", "Set-Cookie")),
    st.sampled_from(
        (
            *(link for link in HOSTILE_LINKS if link),
            "9" * 30,
            "-5",
            "Fri, 31 Dec 9999 23:59:59 GMT",
            "9999999999",
            "604800",
            "bytes 5-1/2",
            "bytes 0-19/*",
            "gzip",
            "OTHER_HOST",
        )
    ),
    max_size=2,
)


#: After these, a file is the restored one or is not there. Of other kinds, anything may be a recording.
WHOLE_OR_NOTHING = ("gateway", "foreign", "half", "truncated", "html", "drip", "versions")
#: ETags of the first part and of the rest of a file that is replaced in between. A server that repeats a
#: strong one for other bytes lies, and nobody can tell.
ETAGS = (
    (None, None),
    ('W/"1"', 'W/"1"'),
    ('W/"1"', 'W/"2"'),
    ('"1"', '"2"'),
    ('"1"', None),
    (None, '"2"'),
    ('"1"', 'W/"1"'),
)


@dataclass
class Attack:
    """One bad answer to one endpoint."""

    endpoint: str
    kind: str
    value: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    field_name: str = ""
    cut: float = 0.0
    etags: tuple[str | None, str | None] = (None, None)
    played: int = 0

    def slow_answer(self, good: Any, connection: Connection) -> None:
        """Send a good answer, from somewhere in it on a byte now and then."""
        whole = answer(good)
        at = int(self.cut * len(whole))
        connection.send(whole[:at])
        for byte in whole[at:]:
            if connection.closing.wait(0.05):
                return
            connection.send(bytes([byte]))

    def version(self, request: Request) -> bytes:
        """Break off after some bytes of a file; the rest comes from another one."""
        self.played += 1
        first, then = self.etags
        if self.played == 1:
            headers = {"ETag": first} if first else {"Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
            return answer(CONTENT[: 1 + int(self.cut * 18)], headers=headers, length=len(CONTENT))
        headers = {"ETag": then} if then else {}
        ranged = request.headers.get("range", "")
        # A server that knows If-Range sends a new file whole; many do not know it.
        if not ranged or (self.cut < 0.5 and request.headers.get("if-range") != then):
            return answer(REPLACED, headers=headers)
        start = int(ranged.removeprefix("bytes=").rstrip("-"))
        headers["Content-Range"] = f"bytes {start}-{len(REPLACED) - 1}/{len(REPLACED)}"
        return answer(REPLACED[start:], 206, headers=headers)

    def answer(self, good: Any) -> bytes:
        if self.kind == "field" and isinstance(good, dict):
            return answer(_dumps(_with(good, self.field_name, self.value)))
        if self.kind == "missing" and isinstance(good, dict):
            return answer(_dumps(_with(good, self.field_name, ...)))
        if self.kind == "bytes":
            return answer(str(self.value).encode("utf-8", "replace"), self.status, headers=self.headers)
        if self.kind == "html":
            return answer(b"<html><h1>Bad gateway", self.status, content_type="text/html")
        if self.kind == "gateway":
            return answer(b"<html><h1>Forbidden", self.status, content_type="text/html", headers=self.headers)
        if self.kind == "foreign":
            return answer(_dumps(_of_another(good)))
        if self.kind == "half":
            # At first its rest is missing, and nothing says so.
            self.played += 1
            whole = good if isinstance(good, bytes) else _dumps(good)
            return answer(whole[: len(whole) // 2] if self.played == 1 else whole, length=-1)
        if self.kind == "surrogates":
            return answer(_dumps(_with(good, self.field_name, "cut \ud83d\x00")))
        if self.kind == "truncated":
            return answer(good, self.status, length=100_000)
        if self.kind == "untyped":
            return answer(good, self.status, content_type=None, headers=self.headers)
        if self.kind == "noise":
            return str(self.value).encode("utf-8", "replace")
        return answer(_dumps(self.value), self.status, headers=self.headers)


@st.composite
def attacks(draw: st.DrawFn) -> Attack:
    endpoint = draw(st.sampled_from(ENDPOINTS))
    names = sorted(_fields(GOOD[endpoint]))
    kinds = ["json", "bytes", "html", "gateway", "foreign", "half", "truncated", "untyped", "noise"] * 2
    kinds += ["drip"] + ["versions"] * 9 * (endpoint == "media.mp3")
    return Attack(
        endpoint=endpoint,
        kind=draw(
            st.sampled_from(kinds + ["field", "field", "field", "missing", "surrogates"] * 2 * bool(names))
        ),
        value=draw(VALUES),
        status=draw(STATUSES),
        headers=draw(HEADERS),
        field_name=draw(st.sampled_from(names)) if names else "",
        cut=draw(st.floats(0, 1)),
        etags=draw(st.sampled_from(ETAGS)),
    )


def _dumps(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _of_another(good: Any) -> Any:
    """Put other ids in the place of all ids, as a mixed-up cache does."""
    if isinstance(good, bytes):
        return "another"
    if isinstance(good, dict):
        return {
            name: "another" if name.endswith("Id") or name == "downloadType" else _of_another(value)
            for name, value in good.items()
        }
    return good


def _with(good: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """Put a value, or nothing, in place of a field, wherever in the answer it stands."""
    changed = {}
    for key, old in good.items():
        if key == name:
            if value is not ...:
                changed[key] = value
        else:
            changed[key] = _with(old, name, value) if isinstance(old, dict) else old
    return changed


GOOD: dict[str, Any] = {
    "create_project": {
        "apiProjectId": "p",
        "upload": {
            "uploadSessionId": "api-p",
            "edgeBaseUrl": "SERVER",
            "uploadToken": "v1.token.signature",
            "objectKey": "k",
            "partSizeBytes": 1000,
            "maxBytes": 10**9,
            "expiresAt": "2030-01-01T00:00:00Z",
        },
    },
    "start": {"uploadId": "u", "partSizeBytes": 1000},
    "1": {"partNumber": 1, "etag": "e"},
    "complete": {"objectKey": "k", "sizeBytes": 500, "etag": "e"},
    "complete_project_upload": {"apiProjectId": "p", "status": "uploaded", "sizeBytes": 500},
    "diffio-4.6-flash-generation": {
        "generationId": "g",
        "apiProjectId": "p",
        "modelKey": "diffio-4.6-flash",
        "status": "queued",
    },
    "get_generation_progress": {
        "generationId": "g",
        "apiProjectId": "p",
        "status": "complete",
        "hasVideo": False,
        "stage": "complete",
        "stageProgress": {"overallPercent": 100},
        "queue": {"position": 1, "message": "m"},
        "transcription": {"status": "available"},
    },
    "get_generation_download": {
        "generationId": "g",
        "apiProjectId": "p",
        "downloadType": "audio",
        "downloadUrl": "SERVER/m/v1.token.signature/media.mp3?download=x",
        "fileName": "x.mp3",
        "mimeType": "audio/mpeg",
    },
    "media.mp3": CONTENT,
    "list_projects": {"projects": [{"apiProjectId": "p", "createdAt": "2026-01-01T00:00:00Z"}]},
    "list_project_generations": {"apiProjectId": "p", "generations": [{"generationId": "g"}]},
    "get": {"apiKeyId": "k", "account": {"userId": "u", "billingPolicy": {}}},
    "update": {"account": {"userId": "u", "billingPolicy": {}}},
    "create": {"key": "plain", "keyId": "k", "scopes": ["a"], "resourceBounds": {}},
    "list": {"keys": [{"keyId": "k", "scopes": []}]},
    "rotate": {"key": "plain", "keyId": "k", "scopes": []},
    "revoke": {"keyId": "k", "status": "revoked"},
    "summary": {"usage": {"periods": [{"periodId": "x", "modelSeconds": {}}]}, "billing": {}},
    "configure": {"webhook": {"apiKeyId": "k", "eventTypes": ["generation.completed"]}},
    "send_test_event": {"svixMessageId": "m", "eventId": "e"},
}


def _fields(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _fields(inner)


@dataclass
class Arena:
    """The server, another host that must never see the key, and a hook that talks to the server."""

    server: Scripted
    other: Scripted
    hook: DiffioHook
    #: One that has little patience, for answers that need much.
    hasty: DiffioHook
    folder: Path
    attack: Attack | None = None

    def reply(self, connection: Connection) -> None:
        request = connection.request
        name = request.target.partition("?")[0].rpartition("/")[2]
        good = _placed(GOOD.get(name, {}), self.server.url)
        if self.attack is None or name != self.attack.endpoint:
            connection.send(answer(good))
        elif self.attack.kind == "drip":
            self.attack.slow_answer(good, connection)
        elif self.attack.kind == "versions":
            connection.send(self.attack.version(request))
        else:
            connection.send(self.answer(good, self.attack))

    def answer(self, good: Any, attack: Attack) -> bytes:
        return attack.answer(good).replace(b"OTHER_HOST", self.other.url.encode())


def _placed(good: Any, url: str) -> Any:
    return json.loads(json.dumps(good).replace("SERVER", url)) if isinstance(good, dict) else good


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    folder = tmp_path_factory.mktemp("arena")
    with pytest.MonkeyPatch.context() as patch, scripted() as server, scripted() as other:
        extra = {"timeout": 2, "max_attempts": 2}
        connection = {"conn_type": "diffio", "host": server.url, "password": API_KEY, "extra": extra}
        patch.setenv("AIRFLOW_CONN_HOSTILE", json.dumps(connection))
        hasty = {**connection, "extra": {"timeout": 0.4, "max_attempts": 1}}
        patch.setenv("AIRFLOW_CONN_HASTY", json.dumps(hasty))
        hooks = [DiffioHook("hostile"), DiffioHook("hasty")]
        for hook in hooks:
            hook.get_conn().sleep = lambda _: None
        found = Arena(server, other, hooks[0], hooks[1], folder)
        server.play(found.reply)
        other.play(answer(CONTENT))
        yield found
        for hook in hooks:
            hook.close()


def restore(hook: DiffioHook, folder: Path) -> None:
    """Do everything that a pipeline does, and every other call once."""
    project = hook.create_project(io.BytesIO(b"x" * 500), file_name="talk.wav").api_project_id
    generation = hook.create_generation(project, idempotency_key="key").generation_id
    hook.wait_for_generation(generation, project, poll_interval=0.1, timeout=0.01)
    hook.download(generation, project, f"{folder}/", ready_timeout=0.01)
    hook.list_projects()
    hook.list_project_generations(project)
    hook.get_account_settings()
    hook.update_account_settings({"type": "customerStripe"})
    hook.create_api_key("label", ["projects:read"])
    hook.list_api_keys()
    hook.rotate_api_key("k")
    hook.revoke_api_key("k")
    hook.get_usage_summary()
    hook.configure_webhook("https://example.com", ["generation.completed"])
    hook.send_webhook_test_event()


def starts(server: Scripted) -> set[tuple[str, str]]:
    """Return the generations that were started: one for each key of a project, however often it is sent."""
    sent = [request.json for request in server.requests if request.target.endswith("-generation")]
    return {(each["apiProjectId"], each["idempotencyKey"]) for each in sent}


def test_without_an_attack_everything_works(arena: Arena) -> None:
    arena.attack = None
    restore(arena.hook, arena.folder / "good")
    assert (arena.folder / "good" / "x.mp3").read_bytes() == CONTENT
    answered = {r.target.partition("?")[0].rpartition("/")[2] for r in arena.server.requests}
    assert answered == set(ENDPOINTS)


def test_a_bad_answer_is_an_error_of_ours_and_writes_nothing_elsewhere(
    arena: Arena, show: Callable[[str, str], None]
) -> None:
    outcomes: Counter[str] = Counter()
    kinds: Counter[str] = Counter()

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(attacks())
    def attacked(attack: Attack) -> None:
        arena.attack = attack
        out = arena.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        arena.server.requests.clear()
        began = time.monotonic()
        try:
            restore(arena.hasty if attack.kind == "drip" else arena.hook, out)
            name, said = "no error", ""
        except DiffioError as error:
            name, said = type(error).__name__, f"{error!r}{error}"
        outcomes[name] += 1
        kinds[attack.kind] += 1
        assert time.monotonic() - began < OVER
        assert len(starts(arena.server)) <= 1
        assert API_KEY not in said
        assert said.isprintable()
        if out.exists():
            assert all(file.is_file() and not file.name.startswith(".") for file in out.iterdir())
            assert len(list(out.iterdir())) <= 1
            if attack.kind in WHOLE_OR_NOTHING:
                assert [file.read_bytes() for file in out.iterdir()] in ([], [CONTENT], [REPLACED])
        assert {entry.name for entry in arena.folder.iterdir()} <= {"good", "out"}

    attacked()
    assert not [r for r in arena.other.requests if API_KEY in str(r.headers)]
    show("hostile", f"{sum(outcomes.values())} bad answers: {dict(outcomes.most_common())}")
    show("hostile", f"of the kinds {dict(kinds.most_common())}")
    assert sum(outcomes.values()) >= EXAMPLES
    assert len(outcomes) > 5
