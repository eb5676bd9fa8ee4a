"""API keys from the configuration and from a file: read, checked one by one and against each other.

Reads entries when the configuration is checked and whenever the file has
changed. The danger is a secret where it does not belong, such as a key instead
of its hash: no fault repeats anything that a file holds, except the names of
options.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pydantic import ValidationError

from gateway.features.api_keys.options import ApiKey, claims_of
from gateway.identity import HeaderRule, UnsafeClaimError, header_rules, identity_lines
from gateway.settings.faults import did_you_mean, path_text, translate
from gateway.settings.loading.literals import parse_json, place_of
from gateway.settings.readable import read_regular, without_mark

#: The largest file that is read, in bytes.
MAX_KEY_FILE_BYTES = 16 * 1024 * 1024

#: Faults that are listed one by one; the rest are only counted.
MAX_FAULTS = 100

_SCHEMA = ApiKey.model_json_schema()


class KeyFileError(ValueError):
    """A file of keys that cannot be used.

    Attributes:
        faults: everything that is wrong with it, each with its line and key.
        for_now: the file was not read at all: that may change while the file stays as it is.
    """

    def __init__(self, faults: Sequence[str], *, for_now: bool = False) -> None:
        super().__init__(faults[0] if len(faults) == 1 else f"{faults[0]} (and {len(faults) - 1} more)")
        self.faults = tuple(faults)
        self.for_now = for_now


def read_keys(file: str, given: Sequence[ApiKey], identity: Mapping[str, str | list[str]]) -> list[ApiKey]:
    """Return the entries of a file with one JSON object (RFC 8259) a line; empty lines are skipped.

    Args:
        file: its name.
        given: the configuration's own entries, which the file must not repeat.
        identity: the ``[identity]`` headers, which every entry must be able to fill.

    Raises:
        KeyFileError: with every fault.
    """
    try:
        data = read_regular(file, MAX_KEY_FILE_BYTES)
    except ValueError as error:
        raise KeyFileError([str(error)], for_now=True) from None
    try:
        data = without_mark(data)
    except ValueError as error:
        raise KeyFileError([str(error)]) from None
    rules = header_rules(identity)
    faults: list[str] = []
    entries: list[tuple[str, ApiKey]] = [(path_text(("api_keys", index)), entry) for index, entry in enumerate(given)]
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line.strip():
            found = _entry(line, rules)
            faults += [f"{file}, line {number}{text}" for text in found] if isinstance(found, list) else []
            if isinstance(found, ApiKey):
                entries.append((f"line {number}", found))
    faults += [f"{file}, {place}, {key}: {text}" for place, key, text in repeated(entries) if place.startswith("line")]
    if faults:
        more = [f"{file}: {len(faults) - MAX_FAULTS} more faults"] if len(faults) > MAX_FAULTS else []
        raise KeyFileError(faults[:MAX_FAULTS] + more)
    return [entry for _, entry in entries[len(given) :]]


def repeated(entries: Sequence[tuple[str, ApiKey]]) -> Iterator[tuple[str, str, str]]:
    """Find entries with the id or the hash of an earlier one: position, option and sentence.

    Args:
        entries: each with its position, in words.
    """
    first: dict[tuple[str, str], str] = {}
    for place, entry in entries:
        for key, value in (("id", entry.id), ("hash", entry.hash)):
            if (earlier := first.setdefault((key, value), place)) != place:
                yield place, key, f"is also the {key} of {earlier}"


def header_problem(entry: ApiKey, rules: Sequence[HeaderRule]) -> tuple[str, str] | None:
    """Return the option of an entry for which it cannot fill the identity headers, and why; None when it can."""
    try:
        identity_lines(rules, claims_of(entry), tuple(entry.scopes))
    except UnsafeClaimError as error:
        return ("claims" if entry.claims else "owner"), f"cannot be sent to services as headers: {error}"
    return None


def _entry(line: bytes, rules: Sequence[HeaderRule]) -> ApiKey | list[str]:
    """Return the entry on a line, or its faults."""
    try:
        value = parse_json(line.decode("utf-8"))
    except UnicodeDecodeError:
        return [": is not UTF-8 text"]
    except (ValueError, RecursionError) as error:
        text = place_of(error)
        return [f": is not JSON: {'duplicate key' if text.startswith('duplicate key ') else text}"]
    if not isinstance(value, dict):
        return [": must be an object with the keys of [[api_keys]]"]
    try:
        entry = ApiKey.model_validate(value)
    except ValidationError as error:
        found = translate(error.errors(include_url=False), value, _SCHEMA)
        return [_fault(path, text) for path, text in found.items()]
    problem = header_problem(entry, rules)
    return entry if problem is None else [f", {problem[0]}: {problem[1]}"]


def _fault(path: tuple[str | int, ...], text: str) -> str:
    if path[0] not in ApiKey.model_fields:
        return f": unknown key{did_you_mean(path[0], ApiKey.model_fields)}"
    # Below the options, names are the file's own.
    return f", {path[0]}: {text}"
