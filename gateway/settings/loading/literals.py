"""Texts of the environment and the command line as values.

What a text means for one option is decided here: words between commas, JSON,
numbers, truths. Anything else stays text, so that validation says what was
wanted.
"""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

_V6_ADDRESS = re.compile(r"\s*\[[0-9A-Fa-f:.]+\]:").match


def words(text: str) -> list[str]:
    """Return the words between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def is_text(text: str) -> bool:
    """Tell whether a text has no half characters, as Python makes of other bytes in the environment."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def typed(info: FieldInfo, text: str) -> Any:
    """Return ``text`` as the option's own type where it can be, else as it is, for validation to refuse."""
    adapter: TypeAdapter[Any] = TypeAdapter(info.rebuild_annotation())
    for strict in (True, False):  # a text stays text where the option takes text
        try:
            return adapter.validate_python(text, strict=strict)
        except ValidationError:
            continue
    try:
        value = parse_json(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, int | float) else text


def is_json_list(text: str) -> bool:
    """Tell whether the text of a list is JSON, rather than words of which the first may be ``[v6]:port``."""
    return text.lstrip().startswith("[") and _V6_ADDRESS(text) is None


def parse_json(text: str) -> Any:
    """Read JSON as strictly as TOML is read: no key twice, no NaN, whole characters only.

    Raises:
        ValueError: it is not JSON; a ``json.JSONDecodeError`` where there is a position.
        RecursionError: it is nested too deeply.
    """
    value = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_without_doubles)
    if not is_text(json.dumps(value, ensure_ascii=False)):
        raise ValueError("it has half a surrogate pair")
    return value


def place_of(error: Exception) -> str:
    """Say where JSON is broken, without its text."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg.lower()} at character {error.pos + 1}"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object as TOML would: a duplicate key is a fault, not a choice."""
    table = dict(pairs)
    if len(table) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"duplicate key {next(name for name in names if names.count(name) > 1)}")
    return table
