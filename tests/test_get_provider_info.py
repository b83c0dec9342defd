"""What Airflow is told about the package, and what the package offers."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import pkgutil
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest

import airflow_provider_diffio
from airflow_provider_diffio.get_provider_info import get_provider_info
from airflow_provider_diffio.hooks.connection import EXTRA_FIELDS
from airflow_provider_diffio.hooks.connection_fields import CONN_FIELDS
from tests.subprocess_code import lines_printed_by

PACKAGES = ("operators", "sensors", "triggers", "hooks")


def test_the_description_fits_this_airflows_runtime_schema() -> None:
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)
    assert get_provider_info()["package-name"] == "airflow-provider-diffio"


@pytest.mark.parametrize("airflow_version", ["2.11.2", "3.3.2", "3.4.0b2"])
def test_it_fits_the_schemas_of(airflow_version: str) -> None:
    """3.4 passes over a provider that does not fit, and 3.3 ends every command."""
    schema = Path(__file__).parent / "schemas" / f"provider_info-{airflow_version}.json"
    jsonschema.validate(get_provider_info(), json.loads(schema.read_text()))


def test_the_integration_has_a_logo_that_is_there_and_each_option_is_declared() -> None:
    (integration,) = get_provider_info()["integrations"]
    assert integration["integration-name"] == "Diffio"
    logo = Path(airflow_provider_diffio.__file__).parents[1] / integration["logo"].lstrip("/")
    assert logo.read_text().startswith("<svg")
    options = get_provider_info()["config"]["diffio"]["options"]
    package = Path(airflow_provider_diffio.__file__).parent
    read = {
        name
        for path in package.rglob("*.py")
        for name in re.findall(r"conf\.get\w*\(\s*[\"']diffio[\"'],\s*[\"'](\w+)", path.read_text())
    }
    assert read
    assert read <= set(options)


def test_the_form_says_that_the_key_is_required() -> None:
    from airflow_provider_diffio.hooks.connection_fields import UI_FIELD_BEHAVIOUR

    assert "required" in UI_FIELD_BEHAVIOUR["placeholders"]["password"]


def test_airflow_finds_hook_and_connection_type() -> None:
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    assert "airflow-provider-diffio" in manager.providers
    hook = manager.hooks["diffio"]
    assert hook is not None
    assert (hook.hook_name, hook.connection_id_attribute_name) == ("Diffio", "diffio_conn_id")


def test_the_installed_version_is_the_packages() -> None:
    assert version("airflow-provider-diffio") == airflow_provider_diffio.__version__
    assert get_provider_info()["versions"][0] == airflow_provider_diffio.__version__


def test_every_module_that_is_named_exists() -> None:
    info = get_provider_info()
    named = [
        module
        for kind in ("operators", "sensors", "hooks", "triggers")
        for module in info[kind][0]["python-modules"]
    ]
    assert len({importlib.import_module(module) for module in named}) == len(named)


def test_the_form_explains_every_extra_and_saves_none_that_was_not_typed() -> None:
    assert [name for name, spec in CONN_FIELDS.items() if not (spec["label"] and spec["description"])] == []
    assert [name for name, spec in CONN_FIELDS.items() if "default" in spec["schema"]] == []


def test_the_older_form_has_the_same_fields() -> None:
    pytest.importorskip("flask_appbuilder")
    from airflow_provider_diffio.hooks import DiffioHook

    assert list(DiffioHook.get_connection_form_widgets()) == list(EXTRA_FIELDS)
    behaviour = DiffioHook.get_ui_field_behaviour()
    assert behaviour["relabeling"]["password"] == "API key"
    assert set(behaviour["placeholders"]) == {"host", "port", "password", *EXTRA_FIELDS}


def test_the_older_form_neither_shows_a_stored_secret_nor_leaves_its_field_empty() -> None:
    """Airflow 2 deletes a secret whose field comes back empty, and keeps one that comes back as this text."""
    views = pytest.importorskip("airflow.www.views")
    from wtforms import Form

    from airflow_provider_diffio.hooks import DiffioHook

    form = type("ConnectionForm", (Form,), DiffioHook.get_connection_form_widgets())
    drawn = form(data={"webhook_secret": "whsec_c3RvcmVk"})
    assert "whsec_c3RvcmVk" not in drawn.webhook_secret()
    assert f'value="{views.SENSITIVE_FIELD_PLACEHOLDER}"' in drawn.webhook_secret()
    assert 'value=""' in drawn.proxy()


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_exports_all_its_public_classes(package: str) -> None:
    exported = importlib.import_module(f"airflow_provider_diffio.{package}")
    public: set[str] = set()
    for module in pkgutil.iter_modules(exported.__path__):
        members = vars(importlib.import_module(f"{exported.__name__}.{module.name}"))
        public |= {
            name
            for name, value in members.items()
            if inspect.isclass(value)
            and value.__module__ == f"{exported.__name__}.{module.name}"
            and name.startswith("Diffio")
            and name not in ("DiffioOperator", "DiffioConnection")
        }
    assert set(exported.__all__) == public


def test_importing_what_a_dag_needs_loads_no_http_storage_or_audio_library() -> None:
    code = """
import sys
from airflow.providers.common.compat.sdk import DAG, BaseOperator, BaseSensorOperator, BaseHook
from airflow.triggers.base import BaseTrigger
before = set(sys.modules)
from airflow_provider_diffio.operators import *
from airflow_provider_diffio.sensors import *
from airflow_provider_diffio.triggers import *
from airflow_provider_diffio.hooks import *
from airflow_provider_diffio.assets import *
heavy = {"requests", "aiohttp", "fsspec", "upath", "boto3", "numpy", "soundfile", "svix", "certifi"}
print(sorted({name.partition(".")[0] for name in set(sys.modules) - before} & heavy))
"""
    assert lines_printed_by(code)[-1] == "[]"


def test_a_dag_pays_for_the_operators_that_it_names() -> None:
    code = """
import sys
from airflow_provider_diffio import operators
assert set(operators.__all__) <= set(dir(operators)) and not hasattr(operators, "DiffioNoSuchOperator")
from airflow_provider_diffio.operators import DiffioUsageSummaryOperator
print(sorted(name.rpartition(".")[2] for name in sys.modules if name.startswith(operators.__name__ + ".")))
"""
    assert lines_printed_by(code)[-1] == "['account', 'base']"


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [
        ("api", ("airflow.", "airflow_provider_diffio.hooks", "airflow_provider_diffio.storage")),
        ("sandbox", ("airflow.", "airflow_provider_diffio.api", "airflow_provider_diffio.hooks")),
        ("hooks", ("airflow_provider_diffio.operators", "airflow_provider_diffio.sensors")),
        ("triggers", ("airflow_provider_diffio.operators", "airflow_provider_diffio.sensors")),
        ("plugins", ("airflow_provider_diffio.operators", "airflow_provider_diffio.sensors")),
        ("storage", ("airflow_provider_diffio.hooks", "airflow_provider_diffio.operators")),
    ],
)
def test_arrows_point_downwards(room: str, forbidden: tuple[str, ...]) -> None:
    root = Path(airflow_provider_diffio.__file__).parent
    wrong = {
        f"{path.name}: {module}"
        for path in (root / room).rglob("*.py")
        for module in imports_of(path)
        if f"{module}.".startswith(tuple(f"{name.rstrip('.')}." for name in forbidden))
    }
    assert wrong == set()


def test_wire_names_stay_in_api_and_sandbox() -> None:
    root = Path(airflow_provider_diffio.__file__).parent
    wire = ("apiProjectId", "generationId", "downloadType", "idempotencyKey", "modelKey", "downloadUrl")
    found: list[Any] = [
        path.name
        for path in root.rglob("*.py")
        if path.parent.name not in ("api", "sandbox")
        if any(f'"{name}"' in path.read_text() for name in wire)
    ]
    assert found == []
