"""A connection that is made by hand, in Airflow's own form in a browser, works and keeps what was typed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_diffio.hooks.connection_fields import CONN_FIELDS
from tests.browser.chromium import missing
from tests.browser.conftest import BUCKETS_DAG_ID, CONN_ID, DAG_ID, Site

if reason := missing():
    pytest.skip(reason, allow_module_level=True)

pytestmark = pytest.mark.e2e

LABELS = {name: field["label"] for name, field in CONN_FIELDS.items()}
HEADERS = {"X-Team": "audio", "X-Gateway-Token": "correct-horse-battery"}
#: What Airflow 3 and 2 show in the place of a secret.
STARS = ("***", "RATHER_LONG_SENSITIVE_FIELD_PLACEHOLDER")
WRONG_KEY = "diffio_live_wrong_key_0123456789"


@pytest.fixture(scope="module")
def typed(site: Site) -> dict[str, str]:
    """What a user has filled into the form for a new connection, and saved."""
    values = {
        **site.address,
        "API key": site.sandbox.connection["password"],
        "Output path": str(site.folder / "restored"),
        "Default model": "diffio-4.6-pro",
        "Webhook secret": site.sandbox.webhook_secret,
        "Attempts": "3",
        "API key header": "X-Api-Key",
        "Further headers": json.dumps(HEADERS),
        "Verify TLS": "false",
    }
    site.user.open_new(CONN_ID)
    site.user.fill(values)
    for section in site.user.sections:
        site.user.photograph(f"filled in {section}".strip(), section)
    site.user.save()
    return values


@pytest.fixture(scope="module")
def saved(site: Site, typed: dict[str, str]) -> dict[str, Any]:
    """What Airflow stored of it."""
    return site.stored(CONN_ID)


def test_the_form_has_every_field_with_its_help_and_nothing_else(site: Site) -> None:
    site.user.open_new("diffio_default")
    shown = site.user.seen()
    for section in site.user.sections:
        site.user.photograph(f"empty {section}".strip(), section)
    fields = {label for label in shown if not label.startswith("Connection ")}
    assert fields == site.user.standard_fields | set(LABELS.values())
    for field in CONN_FIELDS.values():
        assert field["description"] in shown[field["label"]].help
    assert shown["Base URL"].placeholder == "https://api.diffio.ai/v1"
    assert shown["API key"].placeholder == "required: diffio_live_..."
    assert shown["Port"].placeholder.startswith("443")


def test_what_is_left_empty_is_left_to_the_provider(site: Site) -> None:
    site.user.open_new("diffio_default")
    shown = site.user.seen()
    assert {label: shown[label].value for label in LABELS.values()} == dict.fromkeys(LABELS.values(), "")
    site.user.fill({"API key": "diffio_live_only_a_key"})
    site.user.save()
    stored = site.stored("diffio_default")
    assert (stored["password"], stored["host"], stored["port"]) == ("diffio_live_only_a_key", None, None)
    assert [name for name, value in stored["extra"].items() if value] == []


def test_secrets_are_not_shown_while_they_are_typed(site: Site) -> None:
    site.user.open_new("diffio_default")
    shown = site.user.seen()
    hidden = {label for label, field in shown.items() if field.kind == "password"}
    assert hidden == {"API key", "Webhook secret", "Proxy"}


def test_what_was_typed_is_stored(site: Site, typed: dict[str, str], saved: dict[str, Any]) -> None:
    assert saved["conn_type"] == "diffio"
    assert (saved["password"], saved["host"], str(saved["port"])) == (
        typed["API key"],
        typed["Base URL"],
        typed["Port"],
    )
    stored = {LABELS[name]: value for name, value in saved["extra"].items() if value}
    headers = stored.pop("Further headers")
    assert (json.loads(headers) if isinstance(headers, str) else headers) == HEADERS
    assert {label: str(value) for label, value in stored.items()} == {
        label: value for label, value in typed.items() if label in stored
    }
    assert set(stored) == set(LABELS.values()) & set(typed) - {"Further headers"}


def test_the_test_button_finds_diffio(site: Site, saved: dict[str, Any]) -> None:
    answer = site.user.test(CONN_ID, saved["password"])
    assert "Connected to 127.0.0.1 as key key_sandbox; billing is active." in answer


def test_the_test_button_tells_of_a_wrong_key(site: Site) -> None:
    site.user.open_new("diffio_wrong_key")
    site.user.fill({**site.address, "API key": WRONG_KEY})
    site.user.save()
    answer = site.user.test("diffio_wrong_key", WRONG_KEY)
    assert "401" in answer
    assert WRONG_KEY not in answer


def test_saving_again_loses_nothing_and_stores_no_stars(site: Site, saved: dict[str, Any]) -> None:
    site.user.open_existing(CONN_ID)
    for section in site.user.sections:
        site.user.photograph(f"saved {section}".strip(), section)
    shown = site.user.seen()
    for secret in ("API key", "Webhook secret"):
        assert shown[secret].value in ("", *STARS)
    site.user.fill({"Description": "Edited by hand"})
    site.user.save()
    again = site.stored(CONN_ID)
    assert again.pop("description") == "Edited by hand"
    assert again == {name: value for name, value in saved.items() if name != "description"}
    assert [stars for stars in STARS if stars in json.dumps(again)] == []


def test_a_connection_from_elsewhere_survives_the_form(site: Site) -> None:
    """Made without the form, it has few of its fields, and others as text."""
    made = {
        "conn_type": "diffio",
        "host": "https://gateway.example/diffio",
        "password": "diffio_live_elsewhere",
        "extra": {
            "webhook_secret": "whsec_ZWxzZXdoZXJl",
            "proxy": "http://user:pass-of-proxy@proxy:3128",
            "headers": '{"Authorization-Gateway": "hidden-by-its-name"}',
            "timeout": "20",
        },
    }
    site.airflow.cli("connections", "add", "diffio_elsewhere", "--conn-json", json.dumps(made))
    before = site.stored("diffio_elsewhere")
    site.user.open_existing("diffio_elsewhere")
    site.user.fill({"Description": "Edited by hand"})
    site.user.save()
    after = site.stored("diffio_elsewhere")
    extra = {name: value for name, value in after["extra"].items() if value is not None}
    assert after["password"] == before["password"] == made["password"]
    assert after["host"] == before["host"]
    assert extra == before["extra"] == made["extra"]


def test_a_task_uses_it(site: Site, saved: dict[str, Any]) -> None:
    run_id = site.run(DAG_ID)
    restored = site.folder / "restored" / "interview.mp3"
    assert restored.stat().st_size > 0
    site.user.look_at_task(DAG_ID, run_id, "restore")


def test_a_tasks_page_leads_to_its_files(site: Site, saved: dict[str, Any]) -> None:
    run_id = site.run(BUCKETS_DAG_ID)
    site.user.look_at_task(BUCKETS_DAG_ID, run_id, "restore")
    console = "https://console.aws.amazon.com/s3/object"
    assert site.user.link("Recording") == f"{console}/raw?region=eu-west-1&prefix=interview.wav"
    assert site.user.link("Restored file") == f"{console}/restored?region=eu-west-1&prefix=interview.mp3"


def test_airflow_calls_nothing_of_the_provider_deprecated(site: Site, saved: dict[str, Any]) -> None:
    log = site.airflow.logs_text()
    assert "diffio" in log
    lines = [line for line in log.splitlines() if "deprecat" in line.lower() and "diffio" in line.lower()]
    assert lines == []
