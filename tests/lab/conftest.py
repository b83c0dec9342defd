"""One run of the laboratory for all of its tests."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.lab import laboratory
from tests.lab.laboratory import Outcome
from tests.lab.points import Row


@pytest.fixture(scope="session")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Mapping[Row, Outcome]:
    return {outcome.row: outcome for outcome in laboratory.run(tmp_path_factory.mktemp("laboratory"))}
