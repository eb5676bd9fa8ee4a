"""How long an answer says that it is good: Cache-Control and Age, read with suspicion.

Reads those fields; it is pure. An identity provider's answer may shorten or
lengthen the time between two fetches, but never to a flood and never to a key
set that is held for weeks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

#: Bounds on the lifetime that an answer may set, in seconds.
MIN_LIFETIME, MAX_LIFETIME = 15.0, 86400.0

#: delta-seconds are at least this large when they have more digits than any sensible value (RFC 9111 section 1.2.2).
_MANY_SECONDS = 2**31


def answered_lifetime(cache_control: Sequence[str], age: Sequence[str]) -> float | None:
    """Return for how many seconds an answer stays fresh from now, or None when it does not say.

    ``max-age`` minus ``Age`` (RFC 9111 section 4.2), within ``MIN_LIFETIME`` and
    ``MAX_LIFETIME``. ``no-cache``, ``no-store`` and ``max-age=0`` give the least.
    Values that are no number are ignored; of several ``max-age`` the least counts.

    Args:
        cache_control: the values of all ``Cache-Control`` fields.
        age: the values of all ``Age`` fields.
    """
    max_ages: list[int] = []
    for name, argument in _directives(cache_control):
        if name in ("no-cache", "no-store") and argument is None:
            return MIN_LIFETIME
        if name == "max-age" and (seconds := _delta_seconds(argument or "")) is not None:
            max_ages.append(seconds)
    if not max_ages:
        return None
    elapsed = _delta_seconds(age[0]) if age else None
    return min(MAX_LIFETIME, max(MIN_LIFETIME, float(min(max_ages) - (elapsed or 0))))


def _directives(values: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """Yield each directive in lower case with its argument, None without one (RFC 9111 section 5.2)."""
    for value in values:
        for part in _split_list(value):
            name, equals, argument = part.partition("=")
            yield name.strip().lower(), argument if equals else None


def _split_list(value: str) -> list[str]:
    """Split at the commas that stand outside quotes, in one pass: the sender of the value may be hostile."""
    parts, start, quoted, escaped = [], 0, False, False
    for position, character in enumerate(value):
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            parts.append(value[start:position])
            start = position + 1
    return [*parts, value[start:]]


def _delta_seconds(text: str) -> int | None:
    digits = text.strip().strip('"')
    if not digits.isascii() or not digits.isdigit():
        return None
    return int(digits) if len(digits) <= 10 else _MANY_SECONDS
