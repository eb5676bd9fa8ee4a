"""Texts as values: what JSON is taken, and how its faults are reported."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import Field
from pydantic.fields import FieldInfo

from gateway.settings.loading.literals import is_text, parse_json, place_of, typed, words


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (str, "1", "1"),
        (int, "1", 1),
        (float, "1", 1.0),
        (bool, "yes", True),
        (bool, "0", False),
        (int | Literal["auto"], "auto", "auto"),
        (int | Literal["auto"], "4", 4),
        (Literal[401, 403], "403", 403),
        (Literal[401, 403], "404", 404),
        (int, "many", "many"),
        (int, '"4"', '"4"'),
    ],
)
def test_a_text_takes_the_type_of_its_option(annotation: Any, text: str, value: Any) -> None:
    found = typed(FieldInfo.from_annotation(annotation), text)
    assert (found, type(found)) == (value, type(value))


def test_a_number_that_its_bounds_refuse_stays_a_number() -> None:
    info = FieldInfo.from_annotated_attribute(float, Field(5, le=10))
    assert typed(info, "11") == 11


def test_words_stand_between_commas() -> None:
    assert words(" a, b c ,,d,") == ["a", "b c", "d"]
    assert words("") == []


@pytest.mark.parametrize("text", ["NaN", "-Infinity", '{"a": 1, "a": 2}', '[{"b": {"a": 1, "a": 2}}]', '"\\ud800"', ""])
def test_json_is_as_strict_as_toml(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)
    assert parse_json('{"a": ["\\ud83d\\ude00"]}') == {"a": ["\N{GRINNING FACE}"]}


def test_a_fault_of_json_is_told_by_its_position() -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_json("[1, s3cret]")
    assert place_of(caught.value) == "expecting value at character 5"
    assert place_of(RecursionError()) == "nested too deeply"


def test_half_characters_are_no_text() -> None:
    assert is_text("größe \N{GRINNING FACE}")
    assert not is_text("a\udcff")
