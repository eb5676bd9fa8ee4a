"""Writing TOML: one key, one value (the standard library only reads it).

Makes text only; what is written, and where, is for ``reference.py`` and
``effective.py``. The danger is a string that ends its quotes too early, so
everything but plain printable text is escaped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def key_text(key: str) -> str:
    """Write one key: bare where TOML allows it, else quoted."""
    return key if _BARE_KEY.fullmatch(key) else string_text(key)


def string_text(text: str) -> str:
    """Write a basic string (TOML 1.0, "String")."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def value_text(value: Any) -> str:
    """Write a string, boolean, finite number, list or table of these on one line.

    Raises:
        TypeError: for anything else.
    """
    if isinstance(value, str):
        return string_text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) and value == int(value) and abs(value) < 1e6 else repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(value_text, value))}]"
    if isinstance(value, Mapping):
        entries = ", ".join(f"{key_text(key)} = {value_text(item)}" for key, item in value.items())
        return f"{{ {entries} }}" if entries else "{}"
    raise TypeError(f"TOML has no {type(value).__name__}")
