"""Run by the Python of an environment that has the package without extras; prints what it finds as JSON.

usage: bare.py <recording> <directory for results>, with ``AIRFLOW_CONN_DIFFIO_DEFAULT`` leading to a sandbox.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import logging
import pkgutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import airflow_provider_diffio

SIGNED_BY_NOBODY = {
    "content-type": "application/json",
    "svix-id": "msg_bare",
    "svix-timestamp": str(int(time.time())),
    "svix-signature": "v1,bm9ib2R5",
}


def modules() -> dict[str, str]:
    """Import every module; what those lack that can not be."""
    lacking = {}
    for module in pkgutil.walk_packages(airflow_provider_diffio.__path__, "airflow_provider_diffio."):
        if module.name.endswith("__main__"):
            continue
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            lacking[module.name] = str(error.name)
    return lacking


def hook(recording: str, results: Path) -> dict[str, Any]:
    """Test the connection, and restore a recording."""
    from airflow_provider_diffio.hooks import DiffioHook

    works, message = DiffioHook().test_connection()
    asset = DiffioHook().restore_audio(recording, str(results / "hook.mp3"))
    there = (results / "hook.mp3").stat().st_size
    return {"works": works, "message": message, "size": asset.size_bytes, "there": there}


def operators() -> list[str]:
    """Put one of each operator into a DAG."""
    from airflow.providers.common.compat.sdk import DAG

    import airflow_provider_diffio.operators as package
    from airflow_provider_diffio.sensors import DiffioGenerationSensor

    with DAG("bare", schedule=None):
        project = package.DiffioCreateProjectOperator(task_id="upload", source="/a.wav")
        generation = package.DiffioCreateGenerationOperator(task_id="restore", project=project.output)
        finished = DiffioGenerationSensor(task_id="wait", generation=generation.output, deferrable=True)
        package.DiffioDownloadOperator(task_id="save", generation=finished.output, path="a.mp3")
        one = package.DiffioRestoreOperator(task_id="one", source="/a.wav", path="b.mp3")
    return sorted(one.dag.task_ids)


def refusal(act: Callable[[], Any]) -> str:
    """Return what an error says."""
    try:
        act()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def store() -> str:
    """Name a file that is in a store for which nothing is installed."""
    from airflow_provider_diffio.hooks import DiffioHook

    return refusal(lambda: DiffioHook().create_project("s3://bucket/talk.wav"))


def receiver() -> dict[str, Any]:
    """Load the plugin as Airflow does, and deliver an event to its app."""
    (entry,) = importlib.metadata.entry_points(group="airflow.plugins", name="diffio")
    plugin = entry.load()()
    if importlib.util.find_spec("fastapi") is None:
        return {"plugin": plugin.name}
    from starlette.testclient import TestClient

    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("airflow_provider_diffio").addHandler(handler)
    (app,) = plugin.fastapi_apps
    answer = TestClient(app["app"]).post("/webhooks/diffio_default", content=b"{}", headers=SIGNED_BY_NOBODY)
    return {"plugin": plugin.name, "status": answer.status_code, "log": "\n".join(said)}


def main() -> None:
    recording, results = sys.argv[1], Path(sys.argv[2])
    found = {
        "package": airflow_provider_diffio.__file__,
        "modules": modules(),
        "operators": operators(),
        "hook": hook(recording, results),
        "store": store(),
        "receiver": receiver(),
    }
    (results / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
