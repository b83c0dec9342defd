"""The table of what works on which Airflow is true, and every line of it is tested."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import features
from tests.features import FEATURES, TESTED, Feature, promised_table

ROOT = Path(__file__).parents[1]
PROBED = [feature for feature in FEATURES if feature.probe]


@pytest.mark.parametrize("feature", PROBED, ids=lambda feature: feature.rests_on)
def test_this_airflow_has_what_the_table_says(feature: Feature) -> None:
    assert feature.probe is not None
    try:
        feature.probe()
    except (ImportError, AttributeError):
        assert not feature.here
    else:
        assert feature.here


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.rests_on)
def test_every_line_has_tests_of_its_own(feature: Feature) -> None:
    (name,) = (name for name, value in vars(features).items() if value is feature)
    users = [path for path in (ROOT / "tests").rglob("test_*.py") if f"needs({name})" in path.read_text()]
    assert users


def test_readme_and_documentation_show_the_table() -> None:
    readme = (ROOT / "README.md").read_text()
    marked = "<!-- --8<-- [start:compatibility] -->\n{}\n<!-- --8<-- [end:compatibility] -->"
    assert marked.format(promised_table()) in readme
    assert '--8<-- "README.md:compatibility"' in (ROOT / "docs" / "compatibility.md").read_text()


def test_make_knows_the_versions_that_the_table_names() -> None:
    versions = re.search(r"^VERSIONS := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert versions is not None
    assert tuple(versions[1].split()) == TESTED
