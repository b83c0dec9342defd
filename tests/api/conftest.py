"""What the tests of the API layer speak to: two sandboxes, and a server that misbehaves on request."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import pytest

from airflow_provider_diffio.api import endpoints
from airflow_provider_diffio.api.async_client import DiffioAsyncClient
from airflow_provider_diffio.api.client import DiffioClient
from airflow_provider_diffio.api.endpoints import Call
from airflow_provider_diffio.api.settings import ClientSettings
from airflow_provider_diffio.api.uploads import source_of, upload
from airflow_provider_diffio.sandbox import Sandbox
from tests.api.scripted import Scripted, scripted

T = TypeVar("T")

API_KEY = "diffio_live_0123456789abcdef"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let no proxy, CA bundle or netrc of the machine decide what a test sees."""
    for name in (
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
    ):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


@pytest.fixture(scope="session")
def edge_sandbox() -> Iterator[Sandbox]:
    with Sandbox(engine="passthrough", processing_seconds=0.1, part_size=64 * 1024) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def signed_put_sandbox() -> Iterator[Sandbox]:
    with Sandbox(protocol="signed-put", engine="passthrough", processing_seconds=0.1) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(edge_sandbox: Sandbox) -> Sandbox:
    edge_sandbox.clear()
    return edge_sandbox


@pytest.fixture
def old_sandbox(signed_put_sandbox: Sandbox) -> Sandbox:
    signed_put_sandbox.clear()
    return signed_put_sandbox


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as server:
        yield server


@pytest.fixture
def other_server() -> Iterator[Scripted]:
    with scripted() as server:
        yield server


@dataclass
class Caller:
    """Carries calls by one of the two clients, and remembers how long it would have slept."""

    kind: Literal["sync", "async"]
    naps: list[float] = field(default_factory=list)

    def __call__(self, target: Sandbox | Scripted | str, call: Call[T], **settings: Any) -> T:
        chosen = settings_for(target, **settings)
        return self._sync(chosen, call) if self.kind == "sync" else asyncio.run(self._async(chosen, call))

    def _sync(self, settings: ClientSettings, call: Call[T]) -> T:
        with DiffioClient(settings, sleep=self.naps.append) as client:
            return client.call(call)

    async def _async(self, settings: ClientSettings, call: Call[T]) -> T:
        async def sleep(seconds: float) -> None:
            self.naps.append(seconds)

        async with DiffioAsyncClient(settings, sleep=sleep) as client:
            return await client.call(call)


@pytest.fixture(params=["sync", "async"])
def carry(request: pytest.FixtureRequest) -> Caller:
    """Both clients in turn: what holds for one must hold for the other."""
    return Caller(request.param)


def settings_for(target: Sandbox | Scripted | str, **changes: Any) -> ClientSettings:
    if isinstance(target, Sandbox):
        settings = ClientSettings(target.api_key, base_url=target.api_url, timeout=5)
    else:
        url = target if isinstance(target, str) else target.url
        settings = ClientSettings(API_KEY, base_url=url, timeout=5)
    if "max_attempts" in changes:
        changes["retry"] = replace(settings.retry, max_attempts=changes.pop("max_attempts"))
    return replace(settings, **changes)


@dataclass
class UploadHarness:
    """A client whose naps take no time and whose announced secrets are remembered."""

    client: DiffioClient
    naps: list[float]
    secrets: list[str]


@pytest.fixture
def harness_for() -> Iterator[Callable[..., UploadHarness]]:
    clients: list[DiffioClient] = []

    def make(target: Sandbox | Scripted, **changes: Any) -> UploadHarness:
        naps: list[float] = []
        secrets: list[str] = []
        client = DiffioClient(settings_for(target, **changes), sleep=naps.append, on_secret=secrets.append)
        clients.append(client)
        return UploadHarness(client, naps, secrets)

    yield make
    for client in clients:
        client.close()


def project_in(sandbox: Sandbox, recording: bytes = b"RIFF") -> str:
    """Make a project that holds a recording."""
    call = endpoints.create_project("a.wav", content_type="audio/wav", content_length=len(recording))
    with DiffioClient(settings_for(sandbox)) as client:
        project = client.call(call)
        upload(client, project, source_of(io.BytesIO(recording), "a.wav"), "audio/wav")
        client.call(endpoints.complete_project_upload(project.api_project_id))
    return project.api_project_id


def generation_of(sandbox: Sandbox, project_id: str) -> str:
    """Restore a project's recording, which the sandbox passes through unchanged, and wait for it."""
    with DiffioClient(settings_for(sandbox)) as client:
        generation = client.call(endpoints.create_generation(project_id, model=_model(sandbox)))
        progress = endpoints.get_generation_progress(generation.generation_id)
        for _ in range(500):
            if client.call(progress).status in ("complete", "failed"):
                return generation.generation_id
            time.sleep(0.02)
    raise AssertionError("The sandbox did not finish.")


def _model(sandbox: Sandbox) -> str:
    return endpoints.DEFAULT_MODEL if sandbox.settings.protocol == "edge" else "diffio-4.0-flash"


def everything_said(error: BaseException) -> str:
    """Return all that a log could show of an error: its own text, and that of every cause and context."""
    said: list[str] = []
    seen: set[int] = set()
    queue: list[Any] = [error]
    while queue:
        item = queue.pop()
        if isinstance(item, BaseException) and id(item) not in seen:
            seen.add(id(item))
            said += [repr(item), str(item)]
            # A traceback leaves out what 'from None' hides; an error tracker does not.
            queue += [item.__cause__, item.__context__]
    return "\n".join(said)
