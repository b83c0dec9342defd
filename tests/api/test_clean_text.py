"""Whatever text or value comes from outside, what comes out can be stored, shown and logged."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_diffio.api.clean_text import DEPTH_LIMIT, TEXT_LIMIT, clean_text, clean_value

any_text = st.text(st.characters(codec=None) | st.characters(categories=["Cs", "Cc"]))
any_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner) | st.dictionaries(any_text, inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("plain, with ümläuts and 🙂", "plain, with ümläuts and 🙂"),
        ("two\r\nlines\tand a tab", "two\nlines\tand a tab"),
        ("half of an emoji \ud83d", "half of an emoji \ufffd"),
        ("\ude42 the other half", "\ufffd the other half"),
        ("both halves \ud83d\ude42", "both halves 🙂"),
        ("the wrong way round \ude42\ud83d", "the wrong way round \ufffd\ufffd"),
        ("NUL \x00", "NUL \ufffd"),
        ("red \x1b[31m", "red \ufffd[31m"),
        ("back to the line's start\rINFO", "back to the line's start\ufffdINFO"),
        ("C1 \x85\x9b", "C1 \ufffd\ufffd"),
        ("lines \u2028\u2029", "lines \ufffd\ufffd"),
        ("reversed \u202egpj.exe", "reversed \ufffdgpj.exe"),
        ("", ""),
        ("family 👨\u200d👩\u200d👧", "family 👨\u200d👩\u200d👧"),
    ],
)
def test_what_can_be_kept_is_kept(text: str, clean: str) -> None:
    assert clean_text(text) == clean


def test_a_long_text_is_cut_and_says_so() -> None:
    assert clean_text("x" * TEXT_LIMIT) == "x" * TEXT_LIMIT
    assert clean_text("x" * 1024 * 1024) == "x" * TEXT_LIMIT + "..."
    assert clean_text("abc🙂e", 4) == "abc🙂..."


@given(any_text)
def test_every_text_can_be_stored_and_shown(text: str) -> None:
    clean = clean_text(text)
    assert "\x00" not in clean
    assert clean.encode().decode() == clean
    assert len(clean.splitlines()) <= clean.count("\n") + 1
    assert clean_text(clean) == clean


@given(any_value)
def test_every_value_is_json_that_a_database_stores(value: Any) -> None:
    clean = clean_value(value)
    stored = json.dumps(clean, allow_nan=False, ensure_ascii=False).encode().decode()
    assert json.loads(stored) == clean
    assert "\\u0000" not in stored
    assert clean_value(clean) == clean
    with sqlite3.connect(":memory:") as database:
        assert json.loads(database.execute("SELECT json(?)", (stored,)).fetchone()[0]) == clean


def test_a_value_keeps_its_shape() -> None:
    value = {"a": [1, 2.5, True, None, "x\x00"], "b\ud800": ({"c": "d"},)}
    assert clean_value(value) == {"a": [1, 2.5, True, None, "x\ufffd"], "b\ufffd": [{"c": "d"}]}


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), 2**63, -(2**63) - 1, 10**400])
def test_a_number_that_no_database_stores_is_left_out(number: float) -> None:
    assert clean_value({"number": number}) == {"number": None}


def test_a_value_that_is_nested_too_deeply_is_cut() -> None:
    value: Any = "deep"
    for _ in range(100_000):
        value = [value]
    clean, levels = clean_value(value), 0
    while isinstance(clean, list):
        clean, levels = clean[0], levels + 1
    assert (clean, levels) == (None, DEPTH_LIMIT)


def test_what_is_no_json_becomes_its_text() -> None:
    assert clean_value({1: {2}, "object": b"bytes\x00"}) == {"1": "{2}", "object": r"b'bytes\x00'"}
