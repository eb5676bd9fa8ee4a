"""What an answer of Redis must be to count as one: a reader for each kind that the gateway asks for.

Reads answers; it is pure. The danger is an answer that decides something by
what it happens to be in Python: a list, ``None`` or a negative number is true
or false as well. So each reader takes exactly what its command can answer and
raises for everything else, which ``redis_link.py`` turns into a store that is
unavailable.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

#: The longest number that is read, in digits: Redis' own are exact that far.
_MAX_DIGITS = 15


class OddAnswerError(ValueError):
    """An answer of another kind than was asked for. It quotes nothing of the answer."""


def done(answer: Any) -> None:
    """Read the answer ``OK``."""
    if answer != b"OK":
        raise OddAnswerError


def done_or_not(answer: Any) -> bool:
    """Read the answer of a ``SET`` with ``NX``: ``OK``, or nil where the key was there."""
    if answer is None:
        return False
    done(answer)
    return True


def count(answer: Any) -> int:
    """Read a whole number from 0 that came as an integer."""
    if type(answer) is not int or answer < 0:
        raise OddAnswerError
    return answer


def text(answer: Any) -> bytes:
    """Read a string, which may be empty."""
    if type(answer) is not bytes:
        raise OddAnswerError
    return answer


def number(answer: Any) -> int:
    """Read a whole number from 0 that came as a string of digits."""
    digits = text(answer)
    if not digits.isdigit() or len(digits) > _MAX_DIGITS:
        raise OddAnswerError
    return int(digits)


def items(answer: Any, length: int) -> Sequence[Any]:
    """Read a list of just so many values, of which nothing is said yet."""
    if type(answer) is not list or len(answer) != length:
        raise OddAnswerError
    return answer


def read_info(answer: Any) -> dict[str, str]:
    """Read an answer to ``INFO``."""
    return dict(_pairs(text(answer)))


def _pairs(answer: bytes) -> Iterator[tuple[str, str]]:
    for line in answer.decode("ascii", "replace").splitlines():
        name, colon, value = line.partition(":")
        if colon and not line.startswith("#"):
            yield name, value
