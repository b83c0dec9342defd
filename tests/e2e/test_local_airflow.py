"""The local Airflow itself: it runs a deferrable DAG, can lose its parts, and leaves nothing behind."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.local_airflow import AirflowError, LocalAirflow, TaskChange
from tests.features import INSTALLED, RETRY_OF_THE_KILLED, needs

pytestmark = pytest.mark.e2e

SECRET = "correct-horse-battery-staple"

DAG = """
import os
import time
from datetime import datetime, timedelta, timezone

from airflow.providers.common.compat.sdk import DAG, BaseOperator
from airflow.triggers.temporal import DateTimeTrigger


class WaitOperator(BaseOperator):
    template_fields = ("greeting",)

    def __init__(self, *, greeting, **kwargs):
        super().__init__(**kwargs)
        self.greeting = greeting

    def execute(self, context):
        moment = datetime.now(timezone.utc) + timedelta(seconds=8)
        self.defer(trigger=DateTimeTrigger(moment=moment), method_name="resume")

    def resume(self, context, event=None):
        self.log.info("resumed: %s", self.greeting)
        return {"greeting": self.greeting, "home": os.environ["TEST_VARIABLE"]}


class SleepOperator(BaseOperator):
    def execute(self, context):
        if context["ti"].try_number == 1:
            time.sleep(120)


with DAG("wait", schedule=None, start_date=datetime(2024, 1, 1)):
    WaitOperator(task_id="pause", greeting="hello {{ dag_run.conf['name'] }}")

with DAG("sleep", schedule=None, start_date=datetime(2024, 1, 1)):
    SleepOperator(task_id="nap", retries=1, retry_delay=timedelta(seconds=1))
"""


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAirflow]:
    folder = tmp_path_factory.mktemp("local_airflow")
    dags = folder / "dags"
    dags.mkdir()
    (dags / "waiting.py").write_text(DAG)
    env = {"TEST_VARIABLE": "from outside", "AIRFLOW_CONN_VAULT": f"generic://:{SECRET}@localhost"}
    with LocalAirflow(folder / "home", dags, env=env) as running:
        yield running
    assert running.processes() == []


def test_a_deferred_task_runs_to_its_end(airflow: LocalAirflow) -> None:
    changes: list[TaskChange] = []
    run_id = airflow.trigger("wait", conf={"name": "world"})

    assert airflow.wait_run("wait", run_id, on_change=changes.append) == "success"

    states = [change.task.state for change in changes]
    assert "deferred" in states
    assert states[-1] == "success"
    events = [entry.event for entry in airflow.history("wait", run_id)]
    if INSTALLED >= (3, 2):
        assert events == ["running", "deferred", "running", "success"]
    elif INSTALLED < (3, 0):
        # Nothing of deferrals, only of the two times that a worker ran the task.
        assert events == ["running", "running", "success"]
    else:
        assert events == []
    assert airflow.xcom("wait", run_id, "pause") == {"greeting": "hello world", "home": "from outside"}
    assert airflow.xcom("wait", run_id, "pause", "no_such_key") is None
    assert airflow.rendered_fields("wait", run_id, "pause") == {"greeting": "hello world"}
    assert "resumed: hello world" in airflow.task_logs("wait", run_id, "pause")
    assert airflow.trigger_logs("wait", run_id, "pause")
    assert "resumed: hello world" in airflow.logs_text()
    assert "hello world" in airflow.db_dump()


def test_a_secret_of_the_environment_is_not_stored(airflow: LocalAirflow) -> None:
    assert SECRET not in airflow.db_dump()
    assert SECRET not in airflow.logs_text()


def test_a_triggerer_can_be_killed_and_started_again(airflow: LocalAirflow) -> None:
    run_id = airflow.trigger("wait", conf={"name": "again"})
    airflow.wait_task("wait", run_id, "pause", "deferred")
    airflow.kill("triggerer", signal.SIGKILL)
    airflow.restart("triggerer")
    assert airflow.wait_run("wait", run_id) == "success"


@needs(RETRY_OF_THE_KILLED)
def test_a_task_that_is_killed_is_tried_again(airflow: LocalAirflow) -> None:
    run_id = airflow.trigger("sleep")
    airflow.wait_task("sleep", run_id, "nap", "running")
    airflow.kill_task("sleep", run_id, "nap", signal.SIGKILL)
    assert airflow.wait_run("sleep", run_id) == "success"
    assert airflow.task_instance("sleep", run_id, "nap").try_number == 2


def test_a_dag_that_can_not_be_imported_is_reported(airflow: LocalAirflow) -> None:
    broken = airflow.dags / "broken.py"
    broken.write_text("from airflow import DAG\nimport no_such_module_anywhere\n")
    try:
        with pytest.raises(AirflowError, match="no_such_module_anywhere"):
            airflow.wait_dag("broken")
    finally:
        broken.unlink()


def test_a_component_that_dies_is_reported_with_its_output(tmp_path: Path) -> None:
    unusable = {"AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS": "no_such_module.LOGGING"}
    airflow = LocalAirflow(tmp_path / "home", tmp_path, env=unusable)
    with pytest.raises(RuntimeError, match="no_such_module"):
        airflow.start()
    assert airflow.processes() == []
