"""Reading the values that flow through a DAG: a project, a generation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_diffio.api.errors import DiffioInputError
from airflow_provider_diffio.api.models import DownloadedFile, Generation, GenerationProgress, Project


def plain_value(value: Any) -> Any:
    """
    Return a hook's result as the value that an operator returns; anything else as it is.

    :param value: what another task returned.
    """
    if isinstance(value, (Project, Generation, DownloadedFile)):
        return value.to_value()
    if isinstance(value, GenerationProgress):
        ids = {"generation_id": value.generation_id, "api_project_id": value.api_project_id}
        return finished_value(ids, value)
    return value


def read_project_id(project: Any) -> str:
    """
    Return the project's id.

    :param project: a *project* value, or an id.
    :raises DiffioInputError: when it is neither.
    """
    project = plain_value(project)
    if isinstance(project, Mapping):
        project = project.get("api_project_id")
    if not _is_id(project):
        raise DiffioInputError(
            f"project must be a project value with 'api_project_id', or an id; not {_shown(project)}.",
            advice="Pass the .output of a DiffioCreateProjectOperator, and see that it succeeded.",
        )
    return str(project).strip()


def read_generation_ids(generation: Any) -> tuple[str, str]:
    """
    Return the generation's and its project's id.

    :param generation: a mapping with ``generation_id`` and ``api_project_id``.
    :raises DiffioInputError: when it is something else.
    """
    generation = plain_value(generation)
    ids = []
    for name in ("generation_id", "api_project_id"):
        value = generation.get(name) if isinstance(generation, Mapping) else None
        if not _is_id(value):
            raise DiffioInputError(
                "generation must be a mapping with 'generation_id' and 'api_project_id';"
                f" not {_shown(generation)}.",
                advice=(
                    "Pass the .output of the task that made it, and see that it succeeded. A Jinja template"
                    " gives a string unless the DAG sets render_template_as_native_obj."
                ),
            )
        ids.append(str(value).strip())
    return ids[0], ids[1]


def ids_of(event: Any) -> dict[str, Any]:
    """
    Return the *generation* value as far as a trigger's event knows it.

    :param event: the event; ``dag.test()`` loses everything else that was stored with a deferral.
    """
    return {"generation_id": event["generation_id"], "api_project_id": event["project_id"]}


def finished_value(generation: Mapping[str, Any], progress: GenerationProgress) -> dict[str, Any]:
    """
    Return the *generation* value after waiting.

    :param generation: the value before.
    :param progress: what the last poll brought.
    :return: ``generation_id``, ``api_project_id``, ``model`` where it was known, ``status``, ``has_video``,
        ``transcription``.
    """
    kept = {key: generation[key] for key in ("generation_id", "api_project_id", "model") if key in generation}
    return {
        **kept,
        "status": progress.status,
        "has_video": progress.has_video,
        "transcription": progress.transcription,
    }


def _is_id(value: Any) -> bool:
    # A template makes the text 'None' of a value that is not there.
    return isinstance(value, str) and value.strip() not in ("", "None")


def _shown(value: Any) -> str:
    return "None (did the upstream task return nothing?)" if value is None else f"{value!r:.120}"
