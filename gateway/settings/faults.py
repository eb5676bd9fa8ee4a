"""What is wrong with a configuration, in words for the person who wrote it.

This file has the fault itself, the path of a key, and the translation of
pydantic's errors. A message never repeats a configured value, because the value
may be a secret at the wrong place; the one exception is a word close to one of
the fixed words of an option, which is then no secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic_core import ErrorDetails

from gateway.settings.toml import key_text

#: The place of a key: names of tables and options, and indices of lists.
KeyPath = tuple[str | int, ...]

_TYPES = {
    "string_type": "a string",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
}
#: Algorithms that other software accepts: a shared secret (which a public key then may be taken for), or no signature.
_NO_ALGORITHMS = ("HS256", "HS384", "HS512", "NONE")
_BOUNDS = {
    "greater_than": ("gt", "must be more than {}"),
    "greater_than_equal": ("ge", "must be at least {}"),
    "less_than": ("lt", "must be less than {}"),
    "less_than_equal": ("le", "must be at most {}"),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong, or in a warning: doubtful.

    Attributes:
        path: the key as TOML shows it, e.g. ``routes[2].scopes``; the name of a
            file, variable or flag when no key can be named.
        message: what is wrong and what would be right.
        origin: the variable or flag that gave the value; empty for the file.
    """

    path: str
    message: str
    origin: str = ""

    def __str__(self) -> str:
        where = f"{self.path} ({self.origin})" if self.origin and self.origin != self.path else self.path
        return f"{where}: {self.message}"


class ConfigError(Exception):
    """A configuration that cannot be used: every fault that was found."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = tuple(faults)


def path_text(path: KeyPath) -> str:
    """Write a key's place as TOML users read it: ``issuers[0].claims."a b"``."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + key_text(step)
    return text


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return ``; did you mean `x`?`` when ``word`` is close to a known one, else nothing."""
    matches = get_close_matches(word, list(known), n=1, cutoff=0.6) if isinstance(word, str) else []
    return f"; did you mean `{matches[0]}`?" if matches else ""


def translate(errors: Sequence[ErrorDetails], data: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[KeyPath, str]:
    """Turn pydantic's errors about ``data`` into one sentence for each key.

    Args:
        errors: of one validation, with inputs.
        data: what was validated.
        schema: the JSON Schema of the model, which names the keys that exist.
    """
    by_place: dict[KeyPath, list[ErrorDetails]] = {}
    for error in errors:
        by_place.setdefault(_place(error, data), []).append(error)
    return {
        place: _sentence(found, place, schema)
        for place, found in by_place.items()
        if not (_only_types(found) and any(other != place and other[: len(place)] == place for other in by_place))
    }


def _only_types(errors: Sequence[ErrorDetails]) -> bool:
    """Tell whether all errors are about the type: of a union, then, branches that were not meant."""
    return all(error["type"] in _TYPES for error in errors)


def _place(error: ErrorDetails, data: object) -> KeyPath:
    """Return the error's location without the names of union branches that pydantic puts in."""
    place: list[str | int] = []
    value: object = data
    for number, step in enumerate(error["loc"]):
        is_last = number == len(error["loc"]) - 1
        if isinstance(value, Mapping) and (step in value or (is_last and error["type"] == "missing")):
            place.append(step)
            value = value.get(step)
        elif isinstance(value, list | tuple) and isinstance(step, int):
            place.append(step)
            value = value[step] if step < len(value) else None
    return tuple(place)


def _sentence(errors: list[ErrorDetails], place: KeyPath, schema: Mapping[str, Any]) -> str:
    """Say what is wrong with one key, whose errors may come from several branches of a union."""
    if not _only_types(errors):
        error = next(error for error in errors if error["type"] not in _TYPES)
        message = _message(error, place, schema)
        if error["type"] != "literal_error":
            return message
        besides = [_TYPES[other["type"]] for other in errors if other["type"] in _TYPES]
        return message.replace("must be ", "must be " + "".join(f"{kind} or " for kind in besides), 1)
    wanted = [_TYPES[error["type"]] for error in errors]
    if "a number" in wanted and "a whole number" in wanted:
        wanted.remove("a whole number")
    hint = ""
    if wanted == ["a list"] and len(place) == 1:
        hint = f" of tables: [[{place[0]}]]"
    elif wanted == ["a list"] and isinstance(errors[0]["input"], str):
        hint = ', e.g. ["..."]'
    return f"must be {' or '.join(wanted)}{hint}"


def _message(error: ErrorDetails, place: KeyPath, schema: Mapping[str, Any]) -> str:
    """Say what one error means."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return "unknown key" + did_you_mean(place[-1], known_keys(schema, place[:-1]))
    if kind == "missing":
        return "is required"
    if kind == "literal_error":
        words = str(context["expected"]).replace("'", '"')
        if place[-2:-1] == ("algorithms",) and str(error["input"]).upper() in _NO_ALGORITHMS:
            return f"must be {words}; HMAC and none are never accepted: tokens are signed with a private key"
        return f"must be {words}{did_you_mean(error['input'], [word.strip() for word in words.split(chr(34))[1::2]])}"
    if kind == "value_error":
        return str(context["error"])
    if kind in _BOUNDS:
        name, text = _BOUNDS[kind]
        return text.format(f"{context[name]:.15g}")
    if kind in ("too_short", "string_too_short"):
        return "must not be empty"
    if kind == "finite_number":
        return "must be a finite number"
    if kind == "string_pattern_mismatch":
        return "must be up to 64 letters, digits, dots, hyphens and underscores, and begin with a letter or digit"
    return error["msg"].removeprefix("Input ")


def known_keys(schema: Mapping[str, Any], place: KeyPath) -> list[str]:
    """Return the keys that the table at ``place`` may have."""
    node: Mapping[str, Any] = schema
    for step in place:
        if not isinstance(step, int):
            node = node.get("properties", {}).get(step, {})
        elif "properties" not in node:
            node = node.get("items", {})
        # An option that is one table or several: the same keys either way.
        node = next((kind for kind in node.get("anyOf", ()) if "$ref" in kind), node)
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    return list(node.get("properties", {}))
