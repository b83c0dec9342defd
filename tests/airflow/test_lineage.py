"""Lineage leads from the recording to the restored file, in one task or over several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_provider_diffio.hooks import DiffioHook
from airflow_provider_diffio.operators import DiffioCreateProjectOperator, DiffioRestoreOperator
from tests.airflow.bench import Bench, fire


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Airflow's own collector, as it is where a lineage tool is installed."""
    try:
        from airflow.sdk.lineage import HookLineageCollector
    except ImportError:
        from airflow.lineage.hook import HookLineageCollector

    found = HookLineageCollector()
    monkeypatch.setattr("airflow_provider_diffio.hooks.lineage._collector", lambda: _AssetNames(found))
    return found


class _AssetNames:
    """The collector under its newer names, which Airflow 2 reaches through common-compat."""

    def __init__(self, found: Any) -> None:
        self.add_input_asset = getattr(found, "add_input_asset", None) or found.add_input_dataset
        self.add_output_asset = getattr(found, "add_output_asset", None) or found.add_output_dataset


def seen(collector: Any) -> tuple[list[str], list[str]]:
    lineage = getattr(collector, "collected_assets", None) or collector.collected_datasets
    uris = [
        [getattr(entry, "asset", None) or entry.dataset for entry in side]
        for side in (lineage.inputs, lineage.outputs)
    ]
    return [a.uri for a in uris[0]], [a.uri for a in uris[1]]


def test_a_restoration_leads_from_source_to_result(
    bench: Bench, dag: Any, recording: Path, output: Path, collector: Any, slow: None, short_deferrals: None
) -> None:
    restore = DiffioRestoreOperator(
        task_id="restore",
        source=str(recording),
        path="x.mp3",
        deferrable=True,
        poll_interval=0.1,
        dag=dag,
    )
    deferred = bench.run(restore)
    # The phase that a lineage tool looks at is the one that ends the task.
    collector._inputs.clear()
    collector._outputs.clear()
    asset = bench.resume(restore, fire(deferred), deferred).value
    inputs, outputs = seen(collector)
    assert recording.as_uri() in inputs
    assert (output / "x.mp3").as_uri() in outputs
    assert f"diffio://projects/{asset['api_project_id']}" in outputs


def test_an_upload_and_a_download_meet_at_the_project(
    bench: Bench, dag: Any, recording: Path, output: Path, collector: Any
) -> None:
    upload = DiffioCreateProjectOperator(task_id="upload", source=str(recording), dag=dag)
    project = f"diffio://projects/{bench.run(upload).value['api_project_id']}"
    assert seen(collector) == ([recording.as_uri()], [project])

    hook = DiffioHook()
    generation = hook.create_generation(project.rpartition("/")[2])
    hook.wait_for_generation(generation.generation_id, poll_interval=0.1)
    hook.download(generation.generation_id, generation.api_project_id, "y.mp3")
    inputs, outputs = seen(collector)
    assert project in inputs
    assert (output / "y.mp3").as_uri() in outputs


def test_without_a_lineage_tool_nothing_is_collected(bench: Bench, dag: Any, recording: Path) -> None:
    from airflow_provider_diffio.hooks.lineage import _collector

    upload = DiffioCreateProjectOperator(task_id="upload", source=str(recording), dag=dag)
    assert bench.run(upload).state == "success"
    lineage = _collector().collected_assets
    assert (list(lineage.inputs), list(lineage.outputs)) == ([], [])
