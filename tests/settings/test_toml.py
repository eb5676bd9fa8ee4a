"""What is written as TOML is read back as it was."""

from __future__ import annotations

import datetime
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings.toml import key_text, value_text

_TEXT = st.text(st.characters(codec="utf-8"))
_NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
_VALUES = st.recursive(
    _TEXT | st.booleans() | _NUMBERS,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(_TEXT, values, max_size=3),
    max_leaves=8,
)


@given(_TEXT, _VALUES)
def test_any_key_and_value_come_back(key: str, value: object) -> None:
    text = f"{key_text(key)} = {value_text(value)}"
    assert "\n" not in text
    assert tomllib.loads(text) == {key: value}


def test_values_are_written_as_people_do() -> None:
    assert value_text(30.0) == "30"
    assert value_text(0.25) == "0.25"
    assert value_text(["a", 1, True]) == '["a", 1, true]'
    assert value_text({"role": ["a"], "a b": "c"}) == '{ role = ["a"], "a b" = "c" }'
    assert value_text({}) == "{}"


def test_what_toml_cannot_hold_is_refused() -> None:
    for value in (None, datetime.date(2020, 1, 1), b"bytes"):
        with pytest.raises(TypeError, match="TOML has no"):
            value_text(value)
