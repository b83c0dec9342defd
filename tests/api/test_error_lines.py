"""An error as short lines: each part is there, whole, and fits on a screen."""

from __future__ import annotations

import pytest

from airflow_provider_diffio.api import errors
from airflow_provider_diffio.api.error_lines import LINE_WIDTH, error_lines
from airflow_provider_diffio.api.errors import (
    DiffioAuthenticationError,
    DiffioError,
    DiffioGenerationTimeoutError,
    DiffioInputError,
    diffio_error,
)

CLASSES = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, DiffioError)]


def test_what_where_what_to_do_and_money_are_texts_of_their_own() -> None:
    error = DiffioAuthenticationError(
        "Diffio does not know this API key.", status_code=401, endpoint="create_project"
    )
    assert list(error_lines(error, conn_id="diffio_default", money="Nothing is billed.")) == [
        "DiffioAuthenticationError: Diffio does not know this API key.",
        "Where: connection 'diffio_default', endpoint create_project, HTTP 401",
        (
            "What to do: Check the API key in the connection's password field and its 'key_header'.\n"
            "    There is no retry: it would end the same way."
        ),
        "Money: Nothing is billed.",
    ]


@pytest.mark.parametrize("cls", CLASSES)
def test_no_line_is_wider_than_a_screen_and_no_word_is_lost(cls: type[DiffioError]) -> None:
    error = cls(
        "The words of a long message are many. " * 12,
        project_id="proj_" + "a" * 200,
        generation_id="gen_1",
        money="It is billed once. " * 20,
    )
    texts = list(error_lines(error, conn_id="diffio_default"))
    lines = [line for text in texts for line in text.splitlines()]
    assert [line for line in lines if len(line) > LINE_WIDTH and len(line.split()) > 1] == []
    said = " ".join(" ".join(texts).split())
    for part in (error.message, error.advice, error.money, *error.facts()):
        assert " ".join(part.split()) in said


def test_money_that_only_the_advice_tells_of_is_said_too() -> None:
    error = DiffioGenerationTimeoutError("Not over.", may_be_billed=True, advice="Wait longer.")
    assert list(error_lines(error, money="Nothing is billed."))[-1] == (
        "Money: A generation exists, or may exist, and is billed."
    )


def test_ours_is_found_behind_others() -> None:
    error = DiffioInputError("No file.")
    other = RuntimeError("failed")
    other.__context__ = error
    outer = KeyError("x")
    outer.__cause__ = other
    assert diffio_error(outer) is error
    assert diffio_error(error) is error
    assert diffio_error(RuntimeError("alone")) is None
    assert diffio_error(None) is None
    # Whoever raises what was raised before makes a circle.
    error.__context__ = other
    alone = RuntimeError("a circle")
    alone.__context__, alone.__cause__ = other, alone
    assert diffio_error(alone) is error
