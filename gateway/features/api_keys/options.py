"""One API key as it is declared, in the configuration or on a line of a file, and the claims that it stands for.

Only the declaration, the checks of its values, and what follows from one entry
alone live here. Reading a file of entries is ``key_file.py``'s. The danger of
this file is a key in the place of its hash: no message repeats a value.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, TypeAdapter

from gateway.identity import TENANT
from gateway.settings import values
from gateway.settings.tables.base import Name, NonEmptyText, Scope, Section, Text

_HASH = re.compile(r"sha256:[0-9a-f]{64}")

# RFC 3339 section 5.6, with the space that its note allows.
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_DATE_TIME: TypeAdapter[Any] = TypeAdapter(AwareDatetime)

#: Claims that an entry's other options are, or that would speak for somebody else.
_OWN_CLAIMS = {
    "sub": "is `owner`",
    "client_id": "is `id`",
    "azp": "is `id`",
    "scope": "is `scopes`",
    "exp": "is `expires`",
    "nbf": "has no meaning for a key",
    "iss": "has no meaning for a key: no issuer vouches for it",
    TENANT: "has no meaning for a key: no issuer vouches for it",
}

#: Fields with a meaning of their own that an identity header may have and a credential may not: who reads, changes or
#: removes them on the way does not know that they hold a secret. Those of ``values.identity_header_name`` come on top.
# fmt: off
_OTHER_MEANINGS = frozenset({
    "allow", "cf-connecting-ip", "cf-connecting-ipv6", "client-cert", "client-cert-chain", "early-data",
    "fastly-client-ip", "front-end-https", "priority", "proxy", "save-data", "traceparent", "tracestate",
    "true-client-ip", "x-client-ip", "x-cluster-client-ip", "x-http-method", "x-http-method-override",
    "x-method-override", "x-real-ip", "x-rewrite-url", "x-url-scheme",
})
# fmt: on
_OTHER_FAMILIES = (
    *("accept-", "access-control-", "content-", "if-", "proxy-", "ssl-client"),
    *("x-client-cert", "x-forwarded", "x-original-", "x-ssl-client"),
)


def key_hash(text: str) -> str:
    """Check the stored form of a key."""
    if not _HASH.fullmatch(text):
        raise ValueError('must be "sha256:" and the 64 lower-case hex digits of the SHA-256 of the whole key')
    return text


def moment_text(text: str) -> str:
    """Check a moment in time (RFC 3339 section 5.6); empty is "never"."""
    if text:
        moment(text)
    return text


def moment(text: str) -> float:
    """Return the seconds since the epoch of an RFC 3339 date-time.

    Raises:
        ValueError: it is none, or has no offset.
    """
    problem = "must be a date-time with its offset (RFC 3339), such as 2027-01-31T00:00:00Z"
    if not _MOMENT.fullmatch(text):
        raise ValueError(problem)
    try:
        return float(_DATE_TIME.validate_python(text.upper()).timestamp())
    except ValueError:
        raise ValueError(problem) from None


def key_field(text: str) -> str:
    """Check the name of the field that holds a key and return it in lower case."""
    folded = values.fold_header_name(name := values.identity_header_name(text))
    if folded in _OTHER_MEANINGS or folded.startswith(_OTHER_FAMILIES):
        raise ValueError("this header has another meaning on its way; choose a name such as x-api-key")
    return name


def _no_own_claims(claims: dict[str, Any]) -> dict[str, Any]:
    for name in claims:
        if name in _OWN_CLAIMS:
            raise ValueError(f"`{name}` {_OWN_CLAIMS[name]}")
    return claims


def _toml_moment(value: object) -> object:
    """Take TOML's own dates and times as the text that they are."""
    text = getattr(value, "isoformat", None)
    return value if text is None else text()


class ApiKey(Section):
    """A key that callers may present instead of a token, known by its hash only. `gateway apikey new` makes one."""

    id: Annotated[Name, Field(examples=["partner"])]
    """What this key is called, and the `$client` of its callers. Two entries for one owner let keys be exchanged."""
    hash: Annotated[str, AfterValidator(key_hash), Field(examples=["sha256:" + "0" * 64])]
    """`sha256:` and the SHA-256 of the whole key, as 64 lower-case hex digits."""
    owner: str = ""
    """Whom the key speaks for: the `sub` of rules and headers. Empty: the `id`."""
    scopes: list[Scope] = []
    """The granted scopes."""
    claims: Annotated[dict[NonEmptyText, Text | list[Text]], AfterValidator(_no_own_claims)] = {}
    """Further claims, for rules and headers, e.g. `{ role = "merchant" }`."""
    expires: Annotated[str, BeforeValidator(_toml_moment), AfterValidator(moment_text)] = ""
    """From this moment on the key is refused: a date-time with its offset (RFC 3339), as text or as TOML's own. Empty:
    never."""


def expires_at(entry: ApiKey) -> float:
    """Return the seconds since the epoch from which on a key is refused; infinity for never."""
    return moment(entry.expires) if entry.expires else math.inf


def claims_of(entry: ApiKey) -> dict[str, Any]:
    """Return what a token with the same rights would claim (RFC 9068 section 2.2)."""
    claims: dict[str, Any] = {**entry.claims, "sub": entry.owner or entry.id, "client_id": entry.id}
    if entry.scopes:
        claims["scope"] = " ".join(entry.scopes)
    if entry.expires:
        seconds = expires_at(entry)
        claims["exp"] = int(seconds) if seconds.is_integer() else seconds
    return claims
