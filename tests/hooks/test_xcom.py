"""What the hook returns may be returned from a task, and what holds a secret may not."""

from __future__ import annotations

import builtins
import copy
import dataclasses
import inspect
import json
import pickle
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import task

from airflow_provider_diffio.api import models, settings
from airflow_provider_diffio.api.errors import DiffioInputError
from airflow_provider_diffio.api.results import Secret, Value
from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.hooks.connection import DiffioConnection
from airflow_provider_diffio.operators import DiffioDownloadOperator
from tests.task_runner import TaskRunner


@pytest.fixture
def hook(connection: dict[str, Any]) -> Iterator[DiffioHook]:
    hook = DiffioHook()
    yield hook
    hook.close()


@pytest.fixture
def generation(hook: DiffioHook, recording: Path) -> models.Generation:
    project = hook.create_project(recording).api_project_id
    generation = hook.create_generation(project, idempotency_key=project)
    hook.wait_for_generation(generation.generation_id, project, poll_interval=0.1)
    return generation


def returned(task_runner: TaskRunner, dag: Any, value: Any) -> Any:
    """What the next task gets of a value that a task returned, through Airflow's own XCom."""
    seen: list[Any] = []

    @task
    def give() -> Any:
        return value

    @task
    def take(given: Any) -> None:
        seen.append(given)

    with dag:
        given = give()
        taken = take(given)
    outcome = task_runner.run(given.operator)
    assert outcome.state == "success", outcome.error
    task_runner.run(taken.operator, upstream={given.operator.task_id: outcome.value})
    return seen[0]


def returned_types() -> Iterator[tuple[str, Any]]:
    """The hook's public methods that ask Diffio, and each class that they say that they return."""
    names = {**vars(builtins), **vars(inspect.getmodule(DiffioHook))}
    for name, method in vars(DiffioHook).items():
        if inspect.isfunction(method) and "request_options" in inspect.signature(method).parameters:
            said = method.__annotations__["return"]
            if name.startswith("_") or name == "prepare_upload":
                continue
            hint = eval(said, names)  # noqa: S307 - our own annotations
            for found in typing.get_args(hint) or (hint,):
                if found not in (bytes, None, Ellipsis):
                    yield name, found


def test_every_result_of_the_hook_is_a_value_or_a_secret() -> None:
    found = list(returned_types())
    assert len(found) > 12
    assert [name for name, result in found if not issubclass(result, (Value, Secret))] == []


def test_ids_go_from_a_task_to_an_operator(
    task_runner: TaskRunner, dag: Any, generation: models.Generation, output: Path
) -> None:
    given = returned(task_runner, dag, generation)
    assert given == {
        "generation_id": generation.generation_id,
        "api_project_id": generation.api_project_id,
        "model": generation.model,
        "status": generation.status,
    }
    operator = DiffioDownloadOperator(task_id="save", generation=given, path="a.mp3", dag=dag)
    assert task_runner.run(operator).state == "success"
    assert (output / "a.mp3").stat().st_size


def test_every_result_goes_from_one_task_to_the_next(
    task_runner: TaskRunner, dag: Any, hook: DiffioHook, generation: models.Generation, output: Path
) -> None:
    ids = generation.generation_id, generation.api_project_id
    progress = hook.get_generation_progress(*ids)
    results: dict[str, Any] = {
        "progress": progress,
        "file": hook.download(*ids, output / "b.mp3"),
        "projects": hook.list_projects(),
        "generations": hook.list_project_generations(ids[1]),
        "account": hook.get_account_settings(),
        "usage": hook.get_usage_summary(),
        "keys": hook.list_api_keys(),
        "confirmation": hook.complete_project_upload(ids[1]),
    }
    given = returned(task_runner, dag, results)
    assert given["progress"]["generation_id"] == ids[0]
    assert given["progress"]["stage_progress"] == (
        progress.stage_progress and dataclasses.asdict(progress.stage_progress)
    )
    assert given["file"]["path"] == str(output / "b.mp3")
    assert given["projects"][0]["api_project_id"] == ids[1]
    assert given["projects"][0]["created_at"] == hook.list_projects()[0].created_at.isoformat()  # type: ignore[union-attr]
    assert given["generations"][0]["generation_id"] == ids[0]
    assert given["account"]["api_key_id"]
    assert given["usage"]["periods"][0]["total_cents"] is not None
    assert "key" not in given["keys"][0]
    assert given["confirmation"]["status"]
    # No class of ours stands in what is stored, at any depth.
    assert "airflow_provider_diffio" not in json.dumps(results)


def test_a_list_of_results_alone(
    task_runner: TaskRunner, dag: Any, hook: DiffioHook, generation: models.Generation
) -> None:
    (given,) = returned(task_runner, dag, hook.list_projects())
    assert given["api_project_id"] == generation.api_project_id


def secrets_of(hook: DiffioHook, generation: models.Generation) -> list[Any]:
    return [
        hook.get_generation_download(generation.generation_id, generation.api_project_id),
        hook.create_api_key("night", ["projects:read"]),
        models.SignedPutUpload("https://storage/put?sig=secret"),
        models.CreatedProject("proj_1", models.SignedPutUpload("https://storage/put?sig=secret")),
        hook.config,
        hook.config.settings,
        settings.RequestOptions(api_key="dk_live_secret"),
    ]


@pytest.mark.parametrize("nested", [False, True], ids=["itself", "in a list in a mapping"])
def test_what_holds_a_secret_says_what_to_return_instead(
    task_runner: TaskRunner, dag: Any, hook: DiffioHook, generation: models.Generation, nested: bool
) -> None:
    for secret in secrets_of(hook, generation):

        @task(task_id=f"give_{type(secret).__name__}")
        def give(secret: Any = secret) -> Any:
            return {"all": [secret]} if nested else secret

        with dag:
            given = give()
        # The task's argument is its own default: only what it returns is stored.
        outcome = task_runner.run(given.operator)
        assert outcome.state != "success", secret
        assert isinstance(outcome.error, DiffioInputError), (secret, outcome.error)
        assert f"{type(secret).__name__} holds a secret" in str(outcome.error)
        assert "from the task instead" in str(outcome.error)


def test_a_new_key_is_shown_in_no_form(hook: DiffioHook, connection: dict[str, Any]) -> None:
    key = hook.create_api_key("night", ["projects:read"])
    assert key.key
    assert key.key not in repr(key)
    assert key.key not in json.dumps(dict(key))
    with pytest.raises(DiffioInputError, match="Return its key_id"):
        json.dumps(key)
    assert pickle.loads(pickle.dumps(key)) == copy.deepcopy(key) == key  # noqa: S301


class TestValue:
    file = models.DownloadedFile("/a.mp3", 3, "00", "audio/mpeg", "a.mp3", "audio", "gen_1", "proj_1")

    def test_is_read_only(self) -> None:
        with pytest.raises(TypeError, match="read-only"):
            self.file["path"] = "/b.mp3"
        with pytest.raises(TypeError, match="read-only"):
            self.file.update(path="/b.mp3")
        assert self.file["path"] == self.file.path == "/a.mp3"

    def test_survives_pickle_and_copy(self) -> None:
        for copied in (pickle.loads(pickle.dumps(self.file)), copy.deepcopy(self.file), copy.copy(self.file)):  # noqa: S301
            assert copied == self.file
            assert dict(copied) == dict(self.file)
            assert isinstance(copied, models.DownloadedFile)

    def test_follows_a_replaced_field(self) -> None:
        assert dataclasses.replace(self.file, path="/c.mp3")["path"] == "/c.mp3"

    def test_no_class_that_holds_a_secret_is_a_plain_dataclass(self) -> None:
        holders: set[Any] = {DiffioConnection, settings.ClientSettings, settings.RequestOptions}
        holders |= {
            found
            for found in vars(models).values()
            if dataclasses.is_dataclass(found) and any(not field.repr for field in dataclasses.fields(found))
        }
        assert {found.__name__ for found in holders if not issubclass(found, Secret)} == {"ApiKey"}
