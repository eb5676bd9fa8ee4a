"""Identity headers as pairs, which tests compare more easily than lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.identity import HeaderRule, header_pairs, identity_lines


def identity_headers(
    rules: Iterable[HeaderRule], claims: Mapping[str, Any], scopes: tuple[str, ...]
) -> tuple[tuple[bytes, bytes], ...]:
    """Return what ``identity_lines`` makes, name by name."""
    return header_pairs(identity_lines(rules, claims, scopes))


def header_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return pairs as lines of a head."""
    return b"".join(name + b": " + value + b"\r\n" for name, value in headers)
