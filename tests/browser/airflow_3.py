"""The pages of Airflow 3, as a user sees and presses them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from tests.browser.form import Field, User

#: Nothing moves but what moves for ever.
IS_STILL = """document.getAnimations().every(
    each => each.playState !== "running" || each.effect.getComputedTiming().endTime === Infinity
)"""
READ_FIELDS = """labels => labels.map(label => {
    const row = label.closest("[role=group]")
    const field = row.querySelector("input:not([type=hidden]), textarea")
    const text = row.innerText.replace(label.innerText, "").trim()
    return [label.innerText.trim(), field.type, field.value, field.placeholder, text]
})"""


class Airflow3(User):
    """A user of Airflow 3 who may do everything and needs no password."""

    sections = ("Standard Fields", "Extra Fields", "HTTP")
    standard_fields = {"Description", "Base URL", "API key", "Port"}

    def log_in(self, airflow: Any) -> None:
        """Nothing to do: the local Airflow takes everybody for an admin."""

    # The connection form

    def open_new(self, conn_id: str) -> None:
        """Open the form for a new connection and choose its type."""
        self.page.goto(f"{self.url}/connections")
        self.page.get_by_role("button", name="Add Connection").click()
        self._dialog.get_by_label("Connection ID").fill(conn_id)
        kind = self._dialog.get_by_label("Connection Type")
        kind.fill("Diff")
        self.page.get_by_role("option", name="Diffio", exact=True).click()
        self._section("Standard Fields").wait_for()

    def open_existing(self, conn_id: str) -> None:
        """Open the form of a connection that there is."""
        self.page.goto(f"{self.url}/connections")
        self._row(conn_id).get_by_role("button", name="Edit Connection").click()
        self._section("Standard Fields").wait_for()

    def fill(self, values: Mapping[str, str]) -> None:
        """Fill in fields by their labels, wherever in the form they are."""
        for label, value in values.items():
            self._show(label)
            field = self._group(label).locator("input, textarea").first
            if field.get_attribute("aria-autocomplete"):
                field.fill(value)
                self.page.get_by_role("option", name=value, exact=True).click()
            else:
                field.fill(value)

    def seen(self) -> dict[str, Field]:
        """Return what the form shows, by the labels of the fields."""
        found: dict[str, Field] = {}
        for section in self.sections:
            self._open(section)
            labels = self._dialog.locator("[role=region] label:visible")
            for label, *field in labels.evaluate_all(READ_FIELDS):
                found[label] = Field(*field)
        return found

    def photograph(self, name: str, section: str) -> None:
        """Write a picture of the form with one of its sections open."""
        self._open(section)
        self._dialog.screenshot(path=self._pictures / f"{name}.png", animations="disabled")

    def save(self) -> None:
        """Press Save, and wait until Airflow says that it has."""
        from playwright.sync_api import expect

        self._dialog.get_by_role("button", name="Save").click()
        expect(self._toast("successfully")).to_be_visible()
        expect(self._dialog).to_be_hidden()

    def test(self, conn_id: str, api_key: str) -> str:
        """Press a connection's test button, which tests what is stored; what Airflow says then."""
        self.page.goto(f"{self.url}/connections")
        self._row(conn_id).get_by_role("button", name="Test Connection").click()
        toast = self._toast("")
        toast.wait_for()
        return str(toast.inner_text())

    # DAGs

    def run(self, dag_id: str) -> None:
        """Press a DAG's trigger button, twice as Airflow asks for it."""
        self.page.goto(f"{self.url}/dags/{dag_id}")
        self.page.get_by_role("button", name=re.compile("^Trigger")).first.click()
        self._dialog.get_by_role("button", name="Trigger", exact=True).click()
        self._toast("successfully").wait_for()

    def look_at_task(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Open the page of a task instance that has succeeded."""
        self.page.goto(f"{self.url}/dags/{dag_id}/runs/{quote(run_id, safe='')}/tasks/{task_id}/details")
        self.page.get_by_text(re.compile("^success$", re.IGNORECASE)).first.wait_for()

    # Inside

    @property
    def _dialog(self) -> Any:
        return self.page.get_by_role("dialog")

    def _row(self, conn_id: str) -> Any:
        cell = self.page.get_by_role("cell", name=conn_id, exact=True)
        return self.page.get_by_role("row").filter(has=cell)

    def _toast(self, text: str) -> Any:
        notifications = self.page.get_by_role("region", name="Notifications")
        # The same toast is there twice while the page is drawn anew.
        return notifications.get_by_role("status").filter(has_text=text).first

    def _section(self, name: str) -> Any:
        return self._dialog.get_by_role("button", name=name, exact=True)

    def _open(self, section: str) -> None:
        button = self._section(section)
        if button.get_attribute("aria-expanded") != "true":
            button.click()
        self._dialog.locator("[role=region]:visible").first.wait_for()
        # The former section folds up while this one unfolds.
        self.page.wait_for_function(IS_STILL)

    def _show(self, label: str) -> None:
        """Open the section that a field is in."""
        for section in self.sections:
            self._open(section)
            if self._group(label).is_visible():
                return
        raise AssertionError(f"the form has no field {label!r}")

    def _group(self, label: str) -> Any:
        exactly = re.compile(rf"^\s*{re.escape(label)}\s*$")
        return self._dialog.get_by_role("group").filter(has=self.page.locator("label", has_text=exactly))
