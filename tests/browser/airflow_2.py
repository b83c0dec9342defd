"""The pages of Airflow 2, as a user sees and presses them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from tests.browser.form import Field, User

READ_FIELDS = """rows => rows.map(row => {
    const label = row.querySelector("label")
    const field = row.querySelector("input, textarea")
    const help = row.querySelector(".help-block")
    const text = help ? help.innerText.trim() : ""
    return [label.innerText.trim(), field.type, field.value, field.placeholder, text]
})"""


class Airflow2(User):
    """A user of Airflow 2 who is an admin."""

    sections = ("",)
    standard_fields = {"Description", "Base URL", "API key", "Port", "Extra"}

    def log_in(self, airflow: Any) -> None:
        """Log in as an admin, who is made first."""
        names = ["--firstname", "Ada", "--lastname", "Min", "--email", "admin@example.com"]
        account = ["--username", "admin", "--password", "admin", "--role", "Admin"]
        airflow.cli("users", "create", *account, *names)
        self._open("/login/")
        self.page.get_by_label("Username").fill("admin")
        self.page.get_by_label("Password").fill("admin")
        self.page.get_by_role("button", name="Sign In").click()
        self.page.get_by_role("link", name="DAGs").first.wait_for()

    # The connection form

    def open_new(self, conn_id: str) -> None:
        """Open the form for a new connection and choose its type."""
        # From the list, as users do: Save leads back to the page before, and only the list says that it did.
        self._open("/connection/list/")
        self.page.locator("a[href*='/connection/add']").first.click()
        self._form.get_by_label("Connection Id").fill(conn_id)
        # The list that a script has put in the place of the browser's own.
        self._form.locator("span[role=combobox]").first.click()
        self.page.get_by_role("searchbox").fill("Diff")
        self.page.get_by_role("option", name="Diffio", exact=True).click()
        self._form.get_by_label("API key", exact=True).wait_for()

    def open_existing(self, conn_id: str) -> None:
        """Open the form of a connection that there is."""
        self._open("/connection/list/")
        row = self.page.get_by_role("row").filter(has=self.page.get_by_text(conn_id, exact=True))
        row.locator("a[href*='/connection/edit/']").click()
        self._form.get_by_label("API key", exact=True).wait_for()

    def fill(self, values: Mapping[str, str]) -> None:
        """Fill in fields by their labels."""
        for label, value in values.items():
            self._form.get_by_label(label, exact=True).fill(value)

    def seen(self) -> dict[str, Field]:
        """Return what the form shows, by the labels of the fields."""
        rows = self._form.locator("tr:visible").filter(has=self.page.locator("label"))
        rows = rows.filter(has=self.page.locator("input.form-control, textarea"))
        return {label: Field(*field) for label, *field in rows.evaluate_all(READ_FIELDS)}

    def photograph(self, name: str, section: str) -> None:
        """Write a picture of the form."""
        self._form.screenshot(path=self._pictures / f"{name}.png", animations="disabled")

    def save(self) -> None:
        """Press Save, and wait until Airflow says that it has."""
        self._form.get_by_role("button", name="Save").click()
        self.page.locator(".alert-success").wait_for()

    def test(self, conn_id: str, api_key: str) -> str:
        """Press the test button in a connection's form, which tests what is typed; what Airflow says then."""
        self.open_existing(conn_id)
        self.fill({"API key": api_key})
        self._form.get_by_role("button", name="Test").click()
        answer = self.page.locator(".alert-success, .alert-error")
        answer.wait_for()
        return str(answer.inner_text())

    # DAGs

    def run(self, dag_id: str) -> None:
        """Press a DAG's trigger button."""
        self._open(f"/dags/{dag_id}/grid")
        self.page.get_by_role("link", name="Trigger DAG").first.click()
        self.page.get_by_text(re.compile("Triggered")).first.wait_for()

    def look_at_task(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Open the page of a task instance that has succeeded."""
        self._open(f"/dags/{dag_id}/grid?dag_run_id={quote(run_id)}&task_id={task_id}")
        self.page.get_by_text(re.compile("^success$", re.IGNORECASE)).first.wait_for()

    # Inside

    def _open(self, path: str) -> None:
        self.page.goto(f"{self.url}{path}")

    @property
    def _form(self) -> Any:
        return self.page.locator("#model_form")
