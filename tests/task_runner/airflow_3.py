"""The task runner for Airflow 3: Airflow's own over an Execution API that is held in memory."""

from __future__ import annotations

import importlib
import json
import re
import uuid
from collections.abc import Mapping
from typing import Any

import structlog
from airflow.sdk.api.client import Client
from airflow.sdk.api.datamodels._generated import DagRun, TaskInstance
from airflow.sdk.execution_time.supervisor import InProcessTestSupervisor

from tests.task_runner import Outcome, new_id

# The SDK's own HTTP library: httpx, and httpx2 from Airflow 3.4 on.
httpx: Any = importlib.import_module(Client.__mro__[1].__module__.partition(".")[0])

try:
    from airflow.sdk.serde import deserialize, serialize
except ImportError:  # Airflow 3.0 and 3.1
    from airflow.serialization.serialized_objects import BaseSerialization

    deserialize, serialize = BaseSerialization.deserialize, BaseSerialization.serialize

if not structlog.is_configured():
    # Airflow 3.0 leaves that to its processes. By default a traceback has colours and variables: seconds.
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], plain])

_NOW = "2026-01-01T00:00:00Z"


class Airflow3TaskRunner:
    def __init__(self) -> None:
        self.state_store: dict[str, Any] = {}
        self.xcoms: dict[tuple[str, str], Any] = {}
        self.run_id = new_id("run")
        self._resume_with: tuple[str, dict[str, Any]] | None = None
        self._dag_id = "task_runner"

    def run(
        self, operator: Any, *, try_number: int = 1, upstream: Mapping[str, Any] | None = None
    ) -> Outcome:
        # A new try begins without the XComs of the last one.
        self.xcoms = {(task_id, "return_value"): value for task_id, value in (upstream or {}).items()}
        self._resume_with = None
        return self._run(operator, try_number)

    def resume(self, operator: Any, event: Any, deferred: Outcome, *, try_number: int = 1) -> Outcome:
        assert deferred.next_method is not None
        self._resume_with = (deferred.next_method, {**deferred.next_kwargs, "event": event})
        return self._run(operator, try_number)

    def _run(self, operator: Any, try_number: int) -> Outcome:
        self._dag_id = operator.dag.dag_id
        ti = TaskInstance(
            id=uuid.uuid4(),
            task_id=operator.task_id,
            dag_id=self._dag_id,
            run_id=self.run_id,
            try_number=try_number,
            map_index=-1,
            dag_version_id=uuid.uuid4(),
        )
        client = Client(base_url="http://task_runner", token="", transport=httpx.MockTransport(self._answer))

        class Supervisor(InProcessTestSupervisor):
            @staticmethod
            def _api_client(*_: Any) -> Client:
                return client

        # The runner resolves templates in place; a real worker has an operator of its own for each phase.
        result = Supervisor.start(what=ti, task=operator.prepare_for_execution())
        outcome = Outcome(
            state=str(getattr(result.state, "value", result.state)),
            value=self.xcoms.get((operator.task_id, "return_value")),
            error=result.error,
        )
        if outcome.state == "deferred":
            assert result.msg is not None
            outcome.trigger = _plain(result.msg.trigger_kwargs)
            outcome.next_method = result.msg.next_method
            outcome.next_kwargs = _plain(result.msg.next_kwargs or {})
        return outcome

    def _answer(self, request: Any) -> Any:
        path = request.url.path
        body = json.loads(request.content) if request.content else None
        if path.endswith("/run"):
            return httpx.Response(200, json=self._start())
        if match := re.match(r"/store/ti/[^/]+/(.+)$", path):
            return self._store(request.method, match[1], body)
        if match := re.match(r"/xcoms/[^/]+/[^/]+/([^/]+)/([^/]+)$", path):
            return self._xcom(request.method, match[1], match[2], body)
        if path.endswith("/validate-inlets-and-outlets"):
            return httpx.Response(200, json={"inactive_assets": []})
        if request.method == "GET":
            return _not_found(path)
        return httpx.Response(204)

    def _start(self) -> dict[str, Any]:
        run: dict[str, Any] = {
            "dag_id": self._dag_id,
            "run_id": self.run_id,
            "logical_date": None,
            "data_interval_start": None,
            "data_interval_end": None,
            "run_after": _NOW,
            "start_date": _NOW,
            "end_date": None,
            "run_type": "manual",
            "state": "running",
            "conf": {},
            "partition_key": None,
            "consumed_asset_events": [],
            "clear_number": 0,
        }
        start: dict[str, Any] = {
            "max_tries": 9,
            "should_retry": True,
            "task_reschedule_count": 0,
            "variables": [],
            "connections": [],
            "xcom_keys_to_clear": [],
        }
        if self._resume_with:
            start["next_method"], next_kwargs = self._resume_with
            start["next_kwargs"] = serialize(next_kwargs)
        # The versions know different facts of a run, and mind those that they do not know.
        start["dag_run"] = {name: value for name, value in run.items() if name in DagRun.model_fields}
        return start

    def _store(self, method: str, key: str, body: Any) -> Any:
        if method == "PUT":
            self.state_store[key] = body["value"]
            return httpx.Response(204)
        if method == "DELETE":
            self.state_store.pop(key, None)
            return httpx.Response(204)
        if key not in self.state_store:
            return _not_found(key)
        return httpx.Response(200, json={"value": self.state_store[key]})

    def _xcom(self, method: str, task_id: str, key: str, body: Any) -> Any:
        if method == "POST":
            self.xcoms[task_id, key] = body
            return httpx.Response(201, json={"message": "ok"})
        if (task_id, key) not in self.xcoms:
            return _not_found(f"{task_id}.{key}")
        return httpx.Response(200, json={"key": key, "value": self.xcoms[task_id, key]})


def _not_found(what: str) -> Any:
    return httpx.Response(404, json={"detail": {"reason": "not_found", "message": what}})


def _plain(kwargs: Any) -> dict[str, Any]:
    return dict(deserialize(kwargs)) if isinstance(kwargs, dict) and "__type" in kwargs else dict(kwargs)
