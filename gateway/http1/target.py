"""The path guard: one reading of a request target, or a refusal.

Reads the request target (RFC 9112 section 3.2, RFC 3986). The danger of this
file is a path that the rules read in one way and the upstream in another: a
client that finds one is past every rule. So a target with two plausible
readings is refused, never repaired, and the upstream gets what the client sent,
byte for byte. The reading that the rules use is ``Target.match_path``:

* percent-encoding is decoded once, so ``/%61dmin`` is ``/admin`` and
  ``/%252e`` is the text ``/%2e``;
* path parameters (``;x``) are left out, segment by segment;
* ``%2F`` is not a separator: it stays as the text ``%2F``, and only a route
  that allows it may serve it;
* letters keep their case, and a trailing slash, dot or space counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

from gateway.errors import GatewayError, Reasons

# Ordinary targets, recognised by one pass in C: no escapes, no parameters, nothing outside RFC 3986 in the path; any
# visible ASCII but "#" in the query. No segment is empty or begins with a dot, so no possible dot segment is "plain".
_FIRST = rb"[A-Za-z0-9\-_~!$&'()*+,=:@]"
_REST = rb"[A-Za-z0-9\-._~!$&'()*+,=:@]*+"
_PLAIN = re.compile(rb"(/(?:" + _FIRST + _REST + rb"/)*+(?:" + _FIRST + _REST + rb")?)(?:\?([!\"$-~]*+))?").fullmatch

_QUERY = re.compile(rb"[!\"$-~]*").fullmatch

# Absolute form (RFC 9112 section 3.2.2). The authority's grammar is the Host field's.
_ABSOLUTE = re.compile(rb"(https?)://([^/?#@]+)(.*)", re.IGNORECASE | re.DOTALL).fullmatch

# What makes a path ambiguous. Each alternative is searched on the raw bytes, so
# nothing is decoded before it is known to be harmless.
_AMBIGUOUS = re.compile(
    rb"""
      [^!-~] | \\ | //                        # raw control, space or non-ASCII; backslash; empty segment
    | %(?![0-9A-Fa-f]{2})                     # no percent-encoding
    | %(?:[01][0-9A-Fa-f]|7[Ff]|5[Cc])        # encoded control, DEL or backslash
    | (?:/|%2[Ff]) (?:\.|%2[Ee]){1,2} (?:/|;|%2[Ff]|%3[Bb]|\Z)  # dot segment, also with parameters
    | /(?:;|%3[Bb])[^/]*/                     # a segment of parameters only: empty for those who strip them
    """,
    re.VERBOSE,
).search

_ENCODED_SLASH = re.compile(rb"%2[Ff]")
_PARAMETERS = re.compile(rb";[^/]*")

#: Longest plain target whose reading is remembered, so that the memory stays below 4 MiB.
_MAX_REMEMBERED = 256
_C1_CONTROL = re.compile("[\x80-\x9f]").search


@dataclass(slots=True)
class Target:
    """A request target that has one meaning. It does not change: its types say so, which costs nothing.

    Attributes:
        path: the path as received, in origin form; begins with ``/``.
        query: what follows the ``?``, as received; None without a ``?``.
        match_path: the path as the rules read it; never sent anywhere.
        encoded_slash: the path holds ``%2F``: to be refused unless the route allows it.
        authority: of a target in absolute form; it replaces the Host field.
    """

    path: Final[bytes]
    query: Final[bytes | None]
    match_path: Final[str]
    encoded_slash: Final[bool]
    authority: Final[bytes | None]

    def raw(self) -> bytes:
        """Return path and query for a request line, as received."""
        return self.path if self.query is None else self.path + b"?" + self.query


def parse_target(method: str, target: bytes, *, secure: bool = False) -> Target:
    """Read a request target (RFC 9112 section 3.2).

    Args:
        method: the request's method.
        target: the bytes between the two spaces of the request line.
        secure: the request came over TLS, or from a trusted proxy that vouches
            for it. Only then may an absolute form say ``https``: such a
            resource must not be served over a connection that is not secured
            (RFC 9110 section 7.4).

    Raises:
        GatewayError: ``BAD_PATH`` for a path with more than one reading,
            ``BAD_TARGET`` for every other fault: fragment, query outside
            visible ASCII, user information, another scheme, authority form, ``*``.
    """
    plain = _read_plain(target) if len(target) <= _MAX_REMEMBERED else _read_plain.__wrapped__(target)
    return _parse_unusual(method, target, secure) if plain is None else plain


@lru_cache(maxsize=4096)  # a pure function of bytes, and clients repeat themselves
def _read_plain(target: bytes) -> Target | None:
    plain = _PLAIN(target)
    if plain is None:
        return None
    path, query = plain.groups()
    return Target(path, query, path.decode("ascii"), False, None)


def _parse_unusual(method: str, target: bytes, secure: bool) -> Target:
    authority = None
    if not target.startswith(b"/"):
        authority, target = _split_absolute(method, target, secure)
    path, mark, query = target.partition(b"?")
    if b"#" in path or _QUERY(query) is None:
        raise GatewayError(Reasons.BAD_TARGET)
    if _AMBIGUOUS(path) is not None:
        raise GatewayError(Reasons.BAD_PATH)
    match_path, encoded_slash = _match_path(path)
    return Target(path, query if mark else None, match_path, encoded_slash, authority)


def _split_absolute(method: str, target: bytes, secure: bool) -> tuple[bytes, bytes]:
    """Return authority and origin form of a target in absolute form."""
    absolute = _ABSOLUTE(target)
    if absolute is None:
        raise GatewayError(Reasons.BAD_TARGET)
    scheme, authority, rest = absolute.groups()
    if rest[:1] not in (b"/", b"?", b""):
        raise GatewayError(Reasons.BAD_TARGET)  # user information or a fragment
    if not rest and method == "OPTIONS":
        raise GatewayError(Reasons.BAD_TARGET)  # the absolute spelling of "*" (RFC 9112 section 3.2.4)
    if scheme.lower() == b"https" and not secure:
        raise GatewayError(Reasons.BAD_TARGET)
    return authority, rest if rest.startswith(b"/") else b"/" + rest


def _match_path(path: bytes) -> tuple[str, bool]:
    """Return the rules' reading of an unambiguous path, and whether it holds ``%2F``."""
    stripped = _PARAMETERS.sub(b"", path)
    # The text "%2F" must survive the one decoding.
    kept, slashes = _ENCODED_SLASH.subn(b"%252F", stripped)
    try:
        text = unquote_to_bytes(kept).decode("utf-8")
    except UnicodeDecodeError:  # overlong forms and encoded surrogates too
        raise GatewayError(Reasons.BAD_PATH) from None
    if _C1_CONTROL(text) is not None:
        raise GatewayError(Reasons.BAD_PATH)
    return text, bool(slashes) or _ENCODED_SLASH.search(path) is not None
