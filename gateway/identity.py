"""The identity of a verified caller: the frozen value that authentication hands to authorization.

Holds the identity itself, the freezing of claims, the look-up of a claim by its path, the coding of claims as header
values, and the count of the memory that they take. It knows no token, no key and no route. The danger of this file is
the header value: what it returns is sent to services that trust it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from sys import getsizeof
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import quote

#: A claim's address: the name of a top-level claim, or the path into nested ones.
ClaimPath = tuple[str, ...]

#: Longest header value made from one claim, in bytes.
MAX_HEADER_VALUE = 8192

#: All identity headers of one caller, names and values, in bytes: what services still take as a head.
MAX_HEADERS_TOTAL = 32768

#: Names in ``[identity]`` that are the gateway's own, not claims.
SCOPES, ISSUER, CLIENT, TENANT = "$scopes", "$issuer", "$client", "$tenant"
OWN_NAMES = frozenset({SCOPES, ISSUER, CLIENT, TENANT})

#: The time of what has always been. One object: each identity would keep one of its own of what is calculated anew.
ALWAYS = -math.inf

# Where the token's client is named: OpenID Connect Core section 2, then RFC 9068 section 2.2.
_CLIENT_CLAIMS = ("azp", "client_id")

# Everything printable except "%" (else the coding could not be undone) and the
# space (which a field value loses at its ends, RFC 9110 section 5.5).
_SAFE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")

# Identity headers longer than this are split anew each time: what is remembered has a bound.
_MAX_REMEMBERED_LINES = 2048

# C0, DEL and C1 (Unicode's category Cc).
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]").search


class UnsafeClaimError(ValueError):
    """A claim cannot be a header value: control characters, or too long."""


class Confirmation(NamedTuple):
    """The keys whose possession a caller has to prove along with the token (RFC 7800 section 3.1).

    Attributes:
        jwk_thumbprint: of the key that signs DPoP proofs (RFC 9449 section 6.1).
        certificate_thumbprint: of the client's TLS certificate (RFC 8705 section 3.1).
    """

    jwk_thumbprint: str | None
    certificate_thumbprint: str | None


class Identity(NamedTuple):
    """A caller whose token or API key was verified. It holds nothing that depends on a route.

    A tuple, because one is made for every token that the cache does not know.

    Attributes:
        issuer_name: the ``name`` of the configured issuer; empty for an API key.
        issuer: the token's ``iss``; empty for an API key.
        subject: the token's ``sub``; None when the issuer does not require one.
        scopes: the granted scopes, whatever claim carried them (RFC 8693 section 4.2).
        claims: the top-level claims that some route rule reads, frozen.
        lines: the identity headers for the upstream, as lines of a head (``identity_lines``).
        expires_at: ``exp``; infinity when the issuer does not require one.
        not_before: ``nbf``; minus infinity when absent.
        token_id: ``jti`` when it is a string, else None.
        credential: the credential kind that the identity comes from, as the configuration names it.
        session_id: ``sid`` when it is a string, else None (OIDC Front-Channel Logout section 3).
        issued_at: ``iat``; minus infinity when absent.
        confirmation: what the caller has to prove along with the token; None for a plain bearer token or key.
        tenant: the tenant of the token, where the issuer is a template; else None.
        has_issuer: an issuer says who this is, by a token; False for a credential that this gateway gave out itself,
            such as an API key. What decides by it holds for every kind that does not say otherwise.
    """

    issuer_name: str
    issuer: str
    subject: str | None
    scopes: tuple[str, ...]
    claims: Mapping[str, Any]
    lines: bytes
    expires_at: float
    not_before: float
    token_id: str | None
    credential: str = "jwt"
    session_id: str | None = None
    issued_at: float = ALWAYS
    confirmation: Confirmation | None = None
    tenant: str | None = None
    has_issuer: bool = True

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The identity headers as pairs of name and value."""
        # Kept as lines only: tokens are many, and the pairs took three times the memory.
        return _few_pairs(self.lines) if len(self.lines) <= _MAX_REMEMBERED_LINES else header_pairs(self.lines)


def header_pairs(lines: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Return the names and values in what ``identity_lines`` made."""
    return tuple((name, value) for name, _, value in (line.partition(b": ") for line in lines.splitlines()))


#: The same, remembered for callers that send many requests.
_few_pairs = lru_cache(maxsize=256)(header_pairs)


@dataclass(frozen=True, slots=True)
class HeaderRule:
    """One ``[identity]`` entry: the header's name, and what fills it.

    Attributes:
        name: the header in lower case.
        path: where the claim is, or one of ``OWN_NAMES`` alone.
        start: what its line begins with.
    """

    name: bytes
    path: ClaimPath
    start: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", self.name + b": ")


def header_rules(configured: Mapping[str, str | list[str]]) -> tuple[HeaderRule, ...]:
    """Return the ``[identity]`` entries as rules."""
    return tuple(
        HeaderRule(name.lower().encode("ascii"), (source,) if isinstance(source, str) else tuple(source))
        for name, source in configured.items()
    )


def freeze(value: Any) -> Any:
    """Return a JSON value that cannot be changed: tuples and read-only mappings."""
    if isinstance(value, Mapping):
        return MappingProxyType({key: freeze(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in value)
    return value


def find_claim(claims: Mapping[str, Any], path: ClaimPath) -> Any:
    """Return the claim at ``path``, or None when any step is missing or no object.

    The path is a list of names, so a claim whose own name holds dots or is a
    URL needs no quoting and cannot be mistaken for a path.
    """
    value: Any = claims
    for name in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def header_value(value: Any) -> bytes | None:
    """Code a claim as one header value (RFC 9110 section 5.5).

    Strings of printable ASCII stand as they are; other text, and text that
    begins or ends with a space, is percent-encoded UTF-8; numbers and booleans
    are JSON; a list of strings is joined with ``,``, each coded by itself,
    unless an element holds a comma; every other list or object is JSON in
    ASCII. Text that stands as it is may hold a ``%``: a service that decodes
    must know that its issuer's values can be anything but ASCII.

    Returns:
        The value, or None for an absent or null claim: no header is sent.

    Raises:
        UnsafeClaimError: for text with control characters, for what JSON cannot
            say, and for values over ``MAX_HEADER_VALUE`` bytes.
    """
    if value is None:
        return None
    if type(value) is str:
        coded = _coded_text(value)
    elif isinstance(value, list | tuple) and all(isinstance(item, str) and "," not in item for item in value):
        coded = b",".join(_coded_text(item) for item in value)
    else:
        coded = _coded_json(value)
    if len(coded) > MAX_HEADER_VALUE:
        raise UnsafeClaimError("the claim is longer than a header value may be")
    return coded


def identity_lines(
    rules: Iterable[HeaderRule], claims: Mapping[str, Any], scopes: tuple[str, ...], tenant: str | None = None
) -> bytes:
    """Return the identity headers that ``rules`` make from verified ``claims``, as lines of a head.

    Args:
        tenant: of an issuer that is a template.

    Raises:
        UnsafeClaimError: when a claim cannot be a header value, or all headers
            together are over ``MAX_HEADERS_TOTAL`` bytes: nothing is cut off.
    """
    parts: list[bytes] = []
    for rule in rules:
        path = rule.path
        name = path[0]
        # Not a match statement: this runs for every new token, and patterns of sequences are slow.
        if len(path) > 1:
            value: Any = find_claim(claims, path)
        elif name not in OWN_NAMES:
            value = claims.get(name)
        elif name == SCOPES:
            value = _scope_text(scopes)
        elif name == ISSUER:
            value = claims.get("iss")
        elif name == TENANT:
            value = tenant
        else:
            value = next((claims[name] for name in _CLIENT_CLAIMS if isinstance(claims.get(name), str)), None)
        if (coded := header_value(value)) is not None:
            parts += (rule.start, coded, b"\r\n")
    lines = b"".join(parts)
    # Names and values count, not the four bytes around them.
    if len(lines) - 4 * (len(parts) // 3) > MAX_HEADERS_TOTAL:
        raise UnsafeClaimError("the claims are longer than a header section may be")
    return lines


def _coded_text(text: str) -> bytes:
    if text.isascii() and text.isprintable() and text.strip(" ") == text:
        return text.encode("ascii")
    return _percent_coded(text)


def _percent_coded(text: str) -> bytes:
    if _CONTROL(text):
        raise UnsafeClaimError("the claim holds a control character")
    try:
        return quote(text, safe=_SAFE).encode("ascii")
    except UnicodeEncodeError:
        raise UnsafeClaimError("the claim holds a lone surrogate") from None


def _coded_json(value: Any) -> bytes:
    try:
        text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"), default=thaw)
    except (ValueError, TypeError, RecursionError):
        raise UnsafeClaimError("the claim cannot be written as JSON") from None
    return text.encode("ascii")  # "ensure_ascii" escapes every control character, DEL too


@lru_cache(maxsize=256)
def _scope_text(scopes: tuple[str, ...]) -> str | None:
    """Return scopes for a header, None when there are none.

    An issuer that writes scopes as a list can have one with a space in it.
    Each is coded by itself, so that a service which splits at spaces finds
    the scopes that were granted and no others. Callers share few sets of scopes.
    """
    text = " ".join(scopes)
    if text.isascii() and text.isprintable() and text.count(" ") == len(scopes) - 1 and "" not in scopes:
        return text  # nearly always: no scope holds anything that needs a coding
    coded = (
        _percent_coded(scope).decode("ascii") if " " in scope else _coded_text(scope).decode("ascii")
        for scope in scopes
        if scope
    )
    return " ".join(coded) or None


def thaw(value: Any) -> Any:
    """Return what ``freeze`` made of an object as ``json`` can write it: its ``default``.

    Raises:
        TypeError: it is anything else.
    """
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(type(value).__name__)


def identity_cost(identity: Identity) -> int:
    """Return about how many bytes of memory an identity holds: its strings and the containers around them."""
    scopes = identity.scopes
    texts = (identity.issuer, identity.subject, identity.token_id, identity.session_id, *scopes)
    total = sum(map(getsizeof, texts)) + len(identity.lines) + 8 * len(scopes)
    return total + (_claims_cost(identity.claims) if identity.claims else 0)


def _claims_cost(claims: Mapping[str, Any]) -> int:
    """Return the size of the claims that some route reads; their nesting was bounded when they were read."""
    total = 0
    waiting: list[Any] = [claims]
    while waiting:
        value = waiting.pop()
        total += getsizeof(value)
        if isinstance(value, Mapping):
            # A read-only view shows its own size alone; the table behind it is the larger part.
            total += 64 + 100 * len(value)
            waiting.extend(value.keys())
            waiting.extend(value.values())
        elif isinstance(value, tuple):
            waiting.extend(value)
    return total
