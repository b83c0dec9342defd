"""
Extra links: buttons on a task instance's page that lead to the files it worked with.

They lead to the page of the file in its cloud's console, see
:func:`~airflow_provider_diffio.storage.console_url.console_url`. A file without such a page, for instance on
a local disk, gets no button. Diffio publishes no address for the page of a project or generation, so nothing
links to one.

The task stores the address as an XCom as soon as it knows the file, which for a recording is before it
defers. A task with ``do_xcom_push=False`` has no links.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from airflow.providers.common.compat.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow_provider_diffio.hooks.diffio import DiffioHook
    from airflow_provider_diffio.storage import Location

    # Making a protocol costs several classes, and whatever parses DAG files would pay for it.
    class LinkedTask(Protocol):
        """A task whose page has links to files."""

        do_xcom_push: bool
        operator_extra_links: Any
        shown_links: Mapping[str, str]

        @property
        def hook(self) -> DiffioHook:
            """The hook, which knows where a path leads."""


log = logging.getLogger(__name__)


class _FileLink(BaseOperatorLink):
    """A link whose address the task stores while it runs."""

    #: The XCom that holds the address.
    key: ClassVar[str]

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """
        Return the address, or an empty text if the file has none: Airflow then shows no button.

        Airflow 3 asks in the worker, at the end of each phase of the task; Airflow 2 in the webserver.
        """
        shown = getattr(operator, "shown_links", {})
        if self.key in shown:
            return str(shown[self.key])
        from airflow.providers.common.compat.sdk import XCom

        try:
            url = XCom.get_value(key=self.key, ti_key=ti_key)
        except Exception as error:
            log.debug("Could not read the address of the link %r: %s", self.name, error)
            return ""
        # Whoever may write XComs must not make this a link of another kind.
        return url if isinstance(url, str) and url.startswith("https://") else ""

    @classmethod
    def show(
        cls, task: LinkedTask, context: Mapping[str, Any], path: str | Location, conn_id: str | None = None
    ) -> None:
        """
        Store the address of a file if it has one. A failure is only logged: no task fails because of a link.

        :param task: the running operator.
        :param context: its context.
        :param path: the file.
        :param conn_id: the connection for the file's store; None for the default one.
        """
        from airflow_provider_diffio.storage.console_url import console_url

        if not task.do_xcom_push:
            return
        try:
            url = console_url(task.hook.locate(path, conn_id)) or ""
            if url:
                context["ti"].xcom_push(key=cls.key, value=url)
            task.shown_links = {**task.shown_links, cls.key: url}
            _offer_shown_links(task)
        except Exception as error:
            log.warning("Could not store the link %r: %s", cls.name, error)


def show_none(task: LinkedTask) -> None:
    """
    Record that a running task has no links yet. To be called at the beginning of each phase.

    Airflow 3 asks for links at the end of each phase, and stores even an empty address as an XCom.
    """
    task.shown_links = {link.key: "" for link in type(task).operator_extra_links}
    _offer_shown_links(task)


def _offer_shown_links(task: LinkedTask) -> None:
    """Offer Airflow those links of a running task that lead anywhere."""
    links = type(task).operator_extra_links
    task.operator_extra_links = tuple(link for link in links if task.shown_links.get(link.key))


def offered_links(task: Any, **paths: Any) -> tuple[BaseOperatorLink, ...]:
    """
    Return the links that a task can have, as far as its DAG file tells: a local file has none, and the task's
    page then has no empty place for one.

    :param task: the operator.
    :param paths: what it works with, by the keys of the links.
    """
    return tuple(link for link in type(task).operator_extra_links if not _is_local(paths.get(link.key)))


def _is_local(path: Any) -> bool:
    text = str(path) if isinstance(path, (str, os.PathLike)) else ""
    # What a template will give is not known yet.
    return "{{" not in text and "{%" not in text and text.startswith(("/", "file:"))


class DiffioRecordingLink(_FileLink):
    """*Recording*: the file that was uploaded, in its cloud's console."""

    name = "Recording"
    key = "diffio_recording_url"


class DiffioRestoredFileLink(_FileLink):
    """*Restored file*: the file that was written, in its cloud's console."""

    name = "Restored file"
    key = "diffio_restored_file_url"


class DiffioManifestLink(_FileLink):
    """*Manifest*: what became of each recording of a batch, in its cloud's console."""

    name = "Manifest"
    key = "diffio_manifest_url"
