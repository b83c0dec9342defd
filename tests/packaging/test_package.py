"""What is released: complete, without junk, and of use without any extra."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
import zipfile
from email import message_from_bytes
from email.message import Message
from fnmatch import fnmatch
from pathlib import Path

import pytest

from airflow_provider_diffio import __version__
from airflow_provider_diffio.get_provider_info import get_provider_info
from tests.packaging.conftest import PROJECT, ROOT, Bare, Built, run

if "DIFFIO_PACKAGE" not in os.environ:
    pytest.skip("needs the network and some minutes: run `make package`", allow_module_level=True)

PACKAGE = "airflow_provider_diffio"
#: What extras bring, or their dependencies.
OPTIONAL = {"av", "boto3", "noisereduce", "numpy", "s3fs", "scipy", "soundfile", "svix"}


def files(*patterns: str) -> set[str]:
    """Files of the checkout that git knows, or would take."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    return {
        name
        for name in listed
        if (ROOT / name).exists() and any(fnmatch(name, pattern) for pattern in patterns)
    }


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        return message_from_bytes(archive.read(f"{PACKAGE}-{__version__}.dist-info/METADATA"))


def without_spaces(requirements: list[str]) -> set[str]:
    return {requirement.replace(" ", "") for requirement in requirements}


def test_the_wheel_holds_the_package_and_nothing_else(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        about = {name.split(".dist-info/")[1] for name in archive.namelist() if ".dist-info/" in name}
    examples = {f"{PACKAGE}/{name}" for name in files("example_dags/*")}
    assert f"{PACKAGE}/example_dags/recordings/noisy_speech.wav" in examples
    assert names == files(f"{PACKAGE}/*") | examples
    assert f"{PACKAGE}/py.typed" in names
    assert about == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}


def test_the_sdist_holds_what_git_knows_of_what_is_configured(built: Built) -> None:
    import tomllib

    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    included = tool["targets"]["sdist"]["include"]
    with tarfile.open(built.sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    wanted = files(*included, *(f"{name}/*" for name in included))
    assert {"tests/conftest.py", "Makefile", ".ci/run"} <= wanted
    assert names == wanted | {"pyproject.toml", ".gitignore", "PKG-INFO"}


def test_the_index_would_show_the_description(uv: str, built: Built) -> None:
    twine = (uv, "tool", "run", "--from", "twine>=6.1", "twine")
    said = run(*twine, "check", "--strict", built.sdist, built.wheel)
    assert said.count("PASSED") == 2


def test_the_index_would_show_links_and_pictures_that_lead_somewhere(built: Built) -> None:
    shown = str(metadata(built.wheel).get_payload())
    links = re.findall(r"\]\(([^)]+)\)", shown)
    assert len(links) > 10
    assert [link for link in links if not link.startswith("https://")] == []
    for link in links:
        _, found, path = link.partition("/airflow-provider-diffio/")
        if found:
            where, _, file = path.removeprefix("blob/").partition("/")
            assert where == "main"
            assert (ROOT / file).exists(), file
            assert file.endswith(".png") == link.startswith("https://raw.")


def test_the_wheel_requires_what_pyproject_says(built: Built) -> None:
    read = metadata(built.wheel)
    required = [line for line in read.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert without_spaces(required) == without_spaces(PROJECT["dependencies"])
    assert set(read.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])
    assert (read["Name"], read["Version"], read["Requires-Python"]) == (
        "airflow-provider-diffio",
        __version__,
        PROJECT["requires-python"],
    )
    assert "Framework :: Apache Airflow :: Provider" in read.get_all("Classifier", [])


def test_an_installation_brings_nothing_else(bare: Bare) -> None:
    installed = bare.installed()
    wanted = bare.resolved([f"apache-airflow=={bare.airflow}", *PROJECT["dependencies"]])
    assert installed == wanted | {"airflow-provider-diffio"}
    assert installed & {*OPTIONAL, "apache-airflow-providers-amazon"} == set()


def test_airflow_lists_the_provider(bare: Bare) -> None:
    rows = json.loads(bare.said["list"])
    (row,) = [row for row in rows if row["package_name"] == "airflow-provider-diffio"]
    assert row["version"] == __version__
    assert "Restore speech recordings" in row["description"]


def test_airflow_tells_all_about_the_provider(bare: Bare) -> None:
    said = bare.said["get airflow-provider-diffio --full"]
    for word in ("DiffioHook", "operators.restore", "sensors.generation", "triggers.events", "output_path"):
        assert word in said


def test_airflow_finds_hook_and_triggers(bare: Bare) -> None:
    hooks = {row["connection_type"]: row for row in json.loads(bare.said["hooks"])}
    assert hooks["diffio"]["class"] == f"{PACKAGE}.hooks.diffio.DiffioHook"
    assert hooks["diffio"]["hook_name"] == "Diffio"
    named = {row.get("class") or row.get("trigger") for row in json.loads(bare.said["triggers"])}
    assert set(get_provider_info()["triggers"][0]["python-modules"]) <= named


def test_airflow_finds_the_extra_links(bare: Bare) -> None:
    links = get_provider_info().get("extra-links", [])
    listed = {row["extra_link_class_name"] for row in json.loads(bare.said["links"])}
    assert set(links) == {name for name in listed if PACKAGE in name}


def test_every_module_but_those_of_extras_can_be_imported(bare: Bare) -> None:
    assert Path(bare.found["package"]).is_relative_to(bare.path)
    lacking = bare.found["modules"]
    own = {name: module for name, module in lacking.items() if not name.startswith(f"{PACKAGE}.sandbox.")}
    # What these are for is not there either.
    own.pop(f"{PACKAGE}.lineage.openlineage", None)
    assert own.pop(f"{PACKAGE}.testing", "pytest") == "pytest"
    if bare.airflow.startswith("2."):
        assert own.pop(f"{PACKAGE}.retry_policy") == "airflow.sdk"
    assert own == {}
    assert set(lacking.values()) <= OPTIONAL | {"airflow.providers.openlineage", "airflow.sdk", "pytest"}


def test_hook_and_operators_work(bare: Bare) -> None:
    hook = bare.found["hook"]
    assert (hook["works"], hook["size"]) == (True, hook["there"])
    assert "Connected to" in hook["message"]
    assert bare.found["operators"] == ["one", "restore", "save", "upload", "wait"]


def test_what_needs_an_extra_names_it(bare: Bare) -> None:
    assert "Install airflow-provider-diffio[amazon]" in bare.found["store"]
    command = [str(bare.python), "-m", f"{PACKAGE}.sandbox"]
    started = subprocess.run(
        command, env=bare.env, cwd=bare.path, capture_output=True, text=True, check=False, timeout=60
    )
    assert started.returncode == 2
    assert 'pip install "airflow-provider-diffio[sandbox]"' in started.stderr


def test_the_receiver_asks_for_a_later_delivery_and_names_the_extra(bare: Bare) -> None:
    receiver = bare.found["receiver"]
    assert receiver["plugin"] == "diffio"
    if bare.airflow.startswith("2."):
        assert set(receiver) == {"plugin"}  # there is no API server to put it on
    else:
        assert receiver["status"] == 503
        assert re.search(r"airflow-provider-diffio\[webhooks\]", receiver["log"])
