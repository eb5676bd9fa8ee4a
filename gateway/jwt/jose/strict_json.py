"""The one JSON reader for bytes that came from outside: header, claims, key sets.

Reads one JSON object, by strict rules. The danger of this file is leniency:
whatever two readers of a token would understand differently (duplicate members,
other encodings, NaN, half surrogate pairs) must be refused, or a service behind
the gateway sees another token than the one that was checked (RFC 8725 sections
2.6 and 3.7).
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

import orjson

#: Arrays and objects within each other. Tokens of real issuers stay under ten.
MAX_DEPTH = 64


class StrictJsonError(ValueError):
    """The bytes are not one JSON object in the strict form.

    Attributes:
        duplicate: the fault is a member name that appears twice (RFC 7519 section 4).
    """

    def __init__(self, problem: str, *, duplicate: bool = False) -> None:
        super().__init__(problem)
        self.duplicate = duplicate


def parse_object(data: bytes) -> dict[str, Any]:
    """Return the JSON object that ``data`` holds.

    Accepted is what RFC 8259 allows in UTF-8 without a byte order mark, if no
    member name appears twice in an object, every number is finite, every
    string can be encoded again, and nothing is nested beyond ``MAX_DEPTH``.
    Integers are exact, whatever their length (within CPython's limit).

    Raises:
        StrictJsonError: for anything else, and nothing but this.
    """
    # The usual case, fast: text that is its own shortest form. When the parsed
    # value is written again as exactly these bytes, no member was lost as a
    # duplicate and no number was rounded; and orjson itself takes only strict
    # UTF-8, finite numbers and whole surrogate pairs.
    if data.count(b"{") + data.count(b"[") <= MAX_DEPTH:
        try:
            value = orjson.loads(data)
            if type(value) is dict and orjson.dumps(value) == data:
                return value
        except (orjson.JSONDecodeError, orjson.JSONEncodeError):
            pass
    return _parse_thoroughly(data)


def _parse_thoroughly(data: bytes) -> dict[str, Any]:
    try:
        value = _DECODER.decode(data.decode("utf-8"))
    except StrictJsonError:
        raise
    except RecursionError:
        raise StrictJsonError("nested too deeply") from None
    except ValueError:  # bad UTF-8, bad JSON, an integer of too many digits
        raise StrictJsonError("not JSON in UTF-8") from None
    if type(value) is not dict:
        raise StrictJsonError("not a JSON object")
    _check_depth_and_text(value)
    return value


def _check_depth_and_text(value: dict[str, Any]) -> None:
    """Refuse deep nesting and lone surrogates, without recursion."""
    level: list[Any] = [value]
    depth = 0
    while level:
        depth += 1
        inner: list[Any] = []
        for item in level:
            if isinstance(item, str):
                _check_text(item)
            elif isinstance(item, dict):
                inner.extend(item)
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        level = inner
        if depth >= MAX_DEPTH and any(isinstance(item, dict | list) for item in level):
            raise StrictJsonError("nested too deeply")


def _check_text(text: str) -> None:
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise StrictJsonError("half a surrogate pair") from None


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise StrictJsonError("a member name appears twice", duplicate=True)
    return members


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise StrictJsonError("a number out of range")
    return number


def _no_constant(_name: str) -> NoReturn:
    raise StrictJsonError("NaN and Infinity are not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique_members, parse_float=_finite, parse_constant=_no_constant, strict=True
)
