"""Whether a key may do what comes after a generation is paid for, asked before, and free of charge."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

from airflow_provider_diffio.api import endpoints
from airflow_provider_diffio.api.endpoints import Call
from airflow_provider_diffio.api.errors import DiffioError, DiffioPermissionError

if TYPE_CHECKING:
    from airflow_provider_diffio.api.client import DiffioClient, Options

#: Ids that no account has. A key with the permission gets 404 for them, one without it 403.
NO_PROJECT = "00000000-0000-4000-8000-000000000000"
NO_GENERATION = "00000000-0000-4000-8000-000000000001"
#: Seconds for each question: a probe must not hold up what it is for.
_TIMEOUT = 15.0
#: How a response names what a key lacks, and not an object that belongs to somebody else.
_NAMES_A_PERMISSION = re.compile(
    r"\b[a-z_]+:(?:read|write)\b|missing (?:the |a )?\S+ (?:permission|scope)|not allowed to download",
    re.IGNORECASE,
)


def check_permissions(client: DiffioClient, log: logging.Logger, options: Options = None) -> None:
    """
    Refuse a key that Diffio says may not poll a generation or fetch its files.

    Asks ``get_generation_download`` and ``get_generation_progress`` for a generation that does not exist. It
    is not known in which order Diffio checks ids and permissions, so only a response that names a missing
    permission counts; any other refusal is warned of, and trouble is left to the calls that follow.

    :param client: sends the questions, each once.
    :param log: where to warn.
    :param options: for each question.
    :raises DiffioPermissionError: when a response names a missing permission.
    """
    questions: tuple[Call[Any], ...] = (
        endpoints.get_generation_download(NO_GENERATION, NO_PROJECT),
        endpoints.get_generation_progress(NO_GENERATION, NO_PROJECT),
    )
    for call in questions:
        try:
            client.call_once(call, options, timeout=_TIMEOUT)
        except DiffioPermissionError as error:
            refused = error
        except DiffioError as error:
            log.debug("The permissions of the API key are unknown: %s", error.message)
            continue
        else:
            continue
        if _NAMES_A_PERMISSION.search(refused.message):
            raise _lacks(refused)
        log.warning(
            "Diffio refused a question about a generation that does not exist: %s The API key may lack a"
            " permission that is needed after a generation is paid for.",
            refused.message,
        )


def _lacks(refused: DiffioPermissionError) -> DiffioPermissionError:
    # A new error, since the old one is about a generation that does not exist.
    return DiffioPermissionError(
        f"This API key may not do what follows a restoration: {refused.message}",
        status_code=refused.status_code,
        code=refused.code,
        endpoint=refused.endpoint,
        advice=(
            "Use a key with the scopes projects:write, generations:write, generations:read and"
            " artifacts:read."
        ),
        money="Nothing was uploaded, and no generation was started.",
    )
