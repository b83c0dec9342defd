"""``verify="audio"``: what does not decode, or is not as long as its source, is never published."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture

from airflow_provider_diffio.api.errors import DiffioInputError, DiffioVerificationError
from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.operators import DiffioDownloadOperator, DiffioRestoreOperator
from airflow_provider_diffio.sandbox import Sandbox
from tests.features import INSTALLED
from tests.media import wav
from tests.task_runner import TaskRunner, fire

BROKEN = wav(4)[:60_000]


@pytest.fixture
def hook(connection: dict[str, Any]) -> Iterator[DiffioHook]:
    hook = DiffioHook()
    yield hook
    hook.close()


def restored(hook: DiffioHook, content: bytes) -> dict[str, str]:
    """Let the sandbox, which changes nothing, restore a recording."""
    project = hook.create_project(content, file_name="talk.wav").api_project_id
    generation = hook.create_generation(project, idempotency_key=project)
    hook.wait_for_generation(generation.generation_id, project, poll_interval=0.1)
    return {"generation_id": generation.generation_id, "api_project_id": project}


def pair(ids: dict[str, str]) -> tuple[str, str]:
    return ids["generation_id"], ids["api_project_id"]


def started(sandbox: Sandbox) -> int:
    return len(sandbox.ledger()["generations"])


def said_by(spy: Any) -> str:
    return "\n".join(call.args[0] % call.args[1:] for call in spy.call_args_list)


class TestDownload:
    def test_what_is_whole_is_written(self, hook: DiffioHook, output: Path) -> None:
        ids = restored(hook, wav(3))
        file = hook.download(*pair(ids), "a.wav", verify="audio", source=wav(3.4))
        assert (output / "a.wav").read_bytes() == wav(3)
        assert file.size_bytes == len(wav(3))

    @pytest.mark.parametrize(
        ("content", "source", "said"),
        [
            (BROKEN, None, "ends before its header says"),
            (b"RIFF" + bytes(5000), None, "cannot be decoded"),
            (wav(3), wav(4), "has 3.0 s, and its source 4.0 s"),
            (wav(4), wav(3), "has 4.0 s, and its source 3.0 s"),
        ],
    )
    def test_what_is_not_is_kept_beside_its_place(
        self, hook: DiffioHook, output: Path, content: bytes, source: bytes | None, said: str
    ) -> None:
        ids = restored(hook, content)
        (output / "a.wav").write_bytes(b"older")
        with pytest.raises(DiffioVerificationError, match=said) as raised:
            hook.download(*pair(ids), "a.wav", verify="audio", source=source)
        kept = output / "a.wav.failed-verification"
        assert (output / "a.wav").read_bytes() == b"older"
        assert kept.read_bytes() == content
        assert sorted(path.name for path in output.iterdir()) == ["a.wav", kept.name]
        error = raised.value
        assert error.kept_at == str(kept)
        assert str(kept) in str(error)
        assert error.final
        assert error.may_be_billed
        assert error.generation_id == ids["generation_id"]

    def test_by_default_nothing_is_decoded(self, hook: DiffioHook, output: Path) -> None:
        hook.download(*pair(restored(hook, BROKEN)), "a.wav")
        assert (output / "a.wav").read_bytes() == BROKEN

    def test_silence_is_a_warning(self, hook: DiffioHook, output: Path, mocker: MockerFixture) -> None:
        ids = restored(hook, wav(2, volume=0))
        warning = mocker.spy(hook.log, "warning")
        hook.download(*pair(ids), "a.wav", verify="audio")
        assert "is silent" in said_by(warning)
        assert (output / "a.wav").exists()

    def test_a_source_that_is_gone_or_no_sound_is_not_compared(
        self, hook: DiffioHook, output: Path, tmp_path: Path, mocker: MockerFixture
    ) -> None:
        ids = restored(hook, wav(2))
        warning = mocker.spy(hook.log, "warning")
        for source in (tmp_path / "gone.wav", b"no media", io.BytesIO(b"no media")):
            hook.download(*pair(ids), "a.wav", verify="audio", source=source)
        assert said_by(warning).count("cannot be compared") == 3
        assert (output / "a.wav").read_bytes() == wav(2)

    def test_bytes_are_verified_too(self, hook: DiffioHook) -> None:
        assert hook.download_bytes(*pair(restored(hook, wav(2))), verify="audio") == wav(2)
        with pytest.raises(DiffioVerificationError):
            hook.download_bytes(*pair(restored(hook, BROKEN)), verify="audio")

    def test_what_cannot_be_kept_says_why(self, hook: DiffioHook, output: Path) -> None:
        ids = restored(hook, BROKEN)
        (output / "a.wav.failed-verification").mkdir()
        with pytest.raises(DiffioVerificationError, match=r"could not be kept either: .*directory"):
            hook.download(*pair(ids), "a.wav", verify="audio")
        assert not (output / "a.wav").exists()


def test_the_download_operator_fails_for_good(
    task_runner: TaskRunner, dag: Any, hook: DiffioHook, output: Path
) -> None:
    ids = restored(hook, BROKEN)
    save = DiffioDownloadOperator(task_id="save", generation=ids, path="a.wav", verify="audio", dag=dag)
    outcome = task_runner.run(save)
    assert outcome.state == "failed"
    assert type(outcome.error).__name__ == "AirflowFailException"
    assert "a.wav.failed-verification" in str(outcome.error)
    assert (output / "a.wav.failed-verification").read_bytes() == BROKEN
    assert not (output / "a.wav").exists()


class TestRestore:
    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        path = tmp_path / "talk.wav"
        path.write_bytes(wav(3))
        return path

    def make(self, dag: Any, source: Path, **arguments: Any) -> DiffioRestoreOperator:
        arguments = {"path": "a.wav", "verify": "audio", "deferrable": True, **arguments}
        return DiffioRestoreOperator(task_id="restore", source=str(source), dag=dag, **arguments)

    def test_a_file_as_long_as_its_source_is_published(
        self, task_runner: TaskRunner, dag: Any, source: Path, output: Path, slow: None, short_deferrals: None
    ) -> None:
        restore = self.make(dag, source)
        deferred = task_runner.run(restore)
        done = task_runner.resume(restore, fire(deferred), deferred)
        assert done.state == "success", done.error
        assert (output / "a.wav").read_bytes() == wav(3)

    def test_what_fails_is_kept_and_not_paid_for_again(
        self,
        task_runner: TaskRunner,
        dag: Any,
        sandbox: Sandbox,
        source: Path,
        output: Path,
        slow: None,
        short_deferrals: None,
    ) -> None:
        restore = self.make(dag, source)
        deferred = task_runner.run(restore)
        # As if Diffio had lost a part of it.
        source.write_bytes(wav(9))
        failed = task_runner.resume(restore, fire(deferred), deferred)
        assert failed.state == "failed"
        assert "has 3.0 s, and its source 9.0 s" in str(failed.error)
        assert (output / "a.wav.failed-verification").read_bytes() == wav(3)
        assert not (output / "a.wav").exists()
        if INSTALLED >= (3, 3):
            source.write_bytes(wav(3))
            cleared = task_runner.run(self.make(dag.__class__(dag_id=dag.dag_id), source), try_number=2)
            assert cleared.state == "success", cleared.error
        assert started(sandbox) == 1

    def test_a_ledger_makes_no_difference(
        self,
        hook: DiffioHook,
        task_runner: TaskRunner,
        dag: Any,
        sandbox: Sandbox,
        source: Path,
        output: Path,
    ) -> None:
        source.write_bytes(BROKEN)
        ledger = str(output / "ledger")
        restore = self.make(dag, source, ledger=ledger, deferrable=False)
        for try_number in (1, 2):
            outcome = task_runner.run(restore, try_number=try_number)
            assert outcome.state == "failed"
            assert "a.wav.failed-verification" in str(outcome.error)
        with pytest.raises(DiffioVerificationError):
            hook.restore_audio(source, "a.wav", ledger=ledger, verify="audio")
        assert not (output / "a.wav").exists()
        assert started(sandbox) == 1

    def test_the_hook_does_the_same(self, hook: DiffioHook, sandbox: Sandbox, output: Path) -> None:
        file = hook.restore_audio(wav(2), "a.wav", file_name="talk.wav", verify="audio")
        assert Path(file.path).read_bytes() == wav(2)
        assert hook.restore_audio(wav(2), file_name="talk.wav", verify="audio") == wav(2)
        with pytest.raises(DiffioVerificationError):
            hook.restore_audio(BROKEN, "b.wav", file_name="talk.wav", verify="audio")
        assert (output / "b.wav.failed-verification").exists()


@pytest.mark.parametrize("verify", ["audio", "sound", True])
def test_what_cannot_be_verified_is_refused_before_anything_is_sent(
    task_runner: TaskRunner,
    dag: Any,
    hook: DiffioHook,
    sandbox: Sandbox,
    recording: Path,
    monkeypatch: pytest.MonkeyPatch,
    verify: Any,
) -> None:
    said = "verify"
    if verify == "audio":
        monkeypatch.setitem(sys.modules, "av", None)
        said = r'pip install "airflow-provider-diffio\[audio\]"'
    ids = {"generation_id": "gen_1", "api_project_id": "proj_1"}
    with pytest.raises(DiffioInputError, match=said):
        hook.restore_audio(recording, "a.mp3", verify=verify)
    with pytest.raises(DiffioInputError, match=said):
        hook.download(*pair(ids), "a.mp3", verify=verify)
    with pytest.raises(DiffioInputError, match=said):
        hook.download_bytes(*pair(ids), verify=verify)
    for operator in (
        DiffioRestoreOperator(task_id="r", source=str(recording), path="a.mp3", verify=verify, dag=dag),
        DiffioDownloadOperator(task_id="d", generation=ids, path="a.mp3", verify=verify, dag=dag),
    ):
        outcome = task_runner.run(operator)
        assert outcome.state == "failed"
        assert "verify" in str(outcome.error)
    assert sandbox.requests() == []
