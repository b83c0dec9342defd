"""The README's DAG is one: it imports as shown and runs to success, step by step."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.task_runner import AIRFLOW_3, TaskRunner, fire

README = (Path(__file__).parents[1] / "README.md").read_text()


def first_dag() -> Any:
    code = re.findall(r"```python[^\n]*\n(.*?)```", README, re.DOTALL)[0]
    if not AIRFLOW_3:
        shown = re.search(r"# Airflow 2: (.*)", code)
        assert shown is not None
        code = code.replace(code.splitlines()[0], shown[1])
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102 - our own words
    return names["project"].dag


def test_the_first_dag_runs_as_shown(
    task_runner: TaskRunner, recording: Path, output: Path, slow: None, short_deferrals: None
) -> None:
    dag = first_dag()
    upload = dag.get_task("upload")
    # The one thing that is not here is the reader's recording.
    assert upload.source == "/tmp/diffio/interview.wav"
    upload.source = str(recording)

    project = task_runner.run(upload).value
    generation = task_runner.run(dag.get_task("restore"), upstream={"upload": project}).value
    deferred = task_runner.run(dag.get_task("wait"), upstream={"restore": generation})
    finished = task_runner.resume(dag.get_task("wait"), fire(deferred), deferred).value
    file = task_runner.run(dag.get_task("save"), upstream={"wait": finished}).value
    assert Path(file["path"]).is_relative_to(output)
    assert Path(file["path"]).name == "interview.mp3"


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 150


def test_every_file_that_the_readme_links_to_exists() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (Path(__file__).parents[1] / link).exists()] == []
