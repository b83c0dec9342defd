"""What a task has to tell, in OpenLineage's classes. Imported only where OpenLineage asks for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import attr
from airflow.providers.openlineage.extractors import OperatorLineage
from openlineage.client.event_v2 import InputDataset, OutputDataset
from openlineage.client.facet_v2 import (
    RunFacet,
    dataset_version_dataset,
    input_statistics_input_dataset,
    output_statistics_output_dataset,
)

if TYPE_CHECKING:
    from airflow_provider_diffio.lineage.dataset import Dataset


@attr.define
class DiffioRunFacet(RunFacet):
    """
    The run facet ``diffio``: what Diffio calls what the run worked with. It holds no secret.

    :ivar diffio_conn_id: Airflow's id of the Diffio connection, and so whose account is billed.
    :ivar api_project_id: the project, where one is known.
    :ivar generation_id: the generation; of a failed run, the one that goes on at Diffio and may be billed.
    :ivar model: the model that the generation was made by.
    :ivar status: Diffio's word for the state of the project or generation.
    :ivar download_type: ``audio``, ``video`` or ``transcript``.
    :ivar manifest: where the manifest of a batch is, which names all of its recordings and files.
    """

    diffio_conn_id: str | None = None
    api_project_id: str | None = None
    generation_id: str | None = None
    model: str | None = None
    status: str | None = None
    download_type: str | None = None
    manifest: str | None = None


def operator_lineage(
    inputs: Iterable[Dataset], outputs: Iterable[Dataset], facts: Mapping[str, Any]
) -> OperatorLineage:
    """
    Say what a run read and wrote.

    Files come with what is known of them: the statistics facets hold their size, ``version`` the SHA-256 of a
    restored file.

    :param facts: the fields of :class:`DiffioRunFacet`, and others, which are left out.
    """
    told = {name: facts[name] for name in attr.fields_dict(DiffioRunFacet) if facts.get(name)}
    return OperatorLineage(
        inputs=[_input(dataset) for dataset in inputs],
        outputs=[_output(dataset) for dataset in outputs],
        run_facets={"diffio": DiffioRunFacet(**told)},
    )


def _input(dataset: Dataset) -> InputDataset:
    facets = {}
    if dataset.size_bytes is not None:
        facets["inputStatistics"] = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(
            size=dataset.size_bytes, fileCount=1
        )
    return InputDataset(dataset.namespace, dataset.name, inputFacets=facets)


def _output(dataset: Dataset) -> OutputDataset:
    facets, output_facets = {}, {}
    if dataset.sha256:
        facets["version"] = dataset_version_dataset.DatasetVersionDatasetFacet(dataset.sha256)
    if dataset.size_bytes is not None:
        output_facets["outputStatistics"] = (
            output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
                size=dataset.size_bytes, fileCount=1
            )
        )
    return OutputDataset(dataset.namespace, dataset.name, facets=facets, outputFacets=output_facets)
