"""One run of the crash tests for all of its tests."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.crash import crash_tests
from tests.crash.crash_tests import Outcome
from tests.crash.points import Row


@pytest.fixture(scope="session")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Mapping[Row, Outcome]:
    return {outcome.row: outcome for outcome in crash_tests.run(tmp_path_factory.mktemp("crash_tests"))}
