"""The task runner for Airflow 2: the real TaskInstance on a SQLite database."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import pendulum

from tests.task_runner import Outcome, new_id


@cache
def _database() -> None:
    from airflow.utils.db import initdb

    initdb(load_connections=False)


class Airflow2TaskRunner:
    def __init__(self) -> None:
        _database()
        self.state_store: dict[str, Any] = {}
        self.run_id = new_id("run")
        self._dag_run: Any = None

    def run(
        self, operator: Any, *, try_number: int = 1, upstream: Mapping[str, Any] | None = None
    ) -> Outcome:
        from airflow.models import XCom
        from airflow.utils.session import create_session

        ti = self._task_instance(operator)
        for task_id, value in (upstream or {}).items():
            XCom.set(key="return_value", value=value, task_id=task_id, dag_id=ti.dag_id, run_id=ti.run_id)
        with create_session() as session:
            ti.next_method = ti.next_kwargs = ti.trigger_id = None
            ti.try_number = try_number
            ti.max_tries = 9
            ti.state = "queued"
            session.merge(ti)
        return self._run(ti)

    def resume(self, operator: Any, event: Any, deferred: Outcome, *, try_number: int = 1) -> Outcome:
        from airflow.utils.session import create_session

        ti = self._task_instance(operator)
        with create_session() as session:
            ti.refresh_from_db(session=session)
            ti.next_method = deferred.next_method
            ti.next_kwargs = {**deferred.next_kwargs, "event": event}
            ti.trigger_id = None
            ti.state = "queued"
            session.merge(ti)
        return self._run(ti)

    def _task_instance(self, operator: Any) -> Any:
        from airflow.utils.session import create_session

        if self._dag_run is None:
            with create_session() as session:
                operator.dag.sync_to_db(session=session)
            self._dag_run = operator.dag.create_dagrun(
                run_id=self.run_id,
                state="running",
                execution_date=pendulum.now("UTC"),
                data_interval=(pendulum.now("UTC"), pendulum.now("UTC")),
                run_type="manual",
            )
        ti = self._dag_run.get_task_instance(operator.task_id)
        if ti is None:  # the operator joined the DAG after the run was made
            with create_session() as session:
                self._dag_run.dag = operator.dag
                self._dag_run.verify_integrity(session=session)
            ti = self._dag_run.get_task_instance(operator.task_id)
        # A real worker has an operator of its own for each phase.
        ti.task = operator.prepare_for_execution()
        return ti

    def _run(self, ti: Any) -> Outcome:
        error: BaseException | None = None
        try:
            ti.run(ignore_all_deps=True, ignore_ti_state=True, mark_success=False)
        except KeyboardInterrupt:
            raise
        except BaseException as raised:
            # Airflow's own time-out is no Exception.
            error = raised
        ti.refresh_from_db()
        outcome = Outcome(
            state=str(getattr(ti.state, "value", ti.state)),
            value=ti.xcom_pull(task_ids=ti.task_id, key="return_value"),
            error=error,
        )
        if outcome.state == "deferred":
            outcome.trigger = self._stored_trigger(ti.trigger_id)
            outcome.next_method = ti.next_method
            outcome.next_kwargs = dict(ti.next_kwargs or {})
        return outcome

    def _stored_trigger(self, trigger_id: int) -> dict[str, Any]:
        from airflow.models.trigger import Trigger
        from airflow.utils.session import create_session

        with create_session() as session:
            return dict(session.get(Trigger, trigger_id).kwargs)
