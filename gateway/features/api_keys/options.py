"""One API key as it is declared, in the configuration or on a line of a file, and the claims that it stands for.

Declares an entry, checks its values, and derives what follows from one entry
alone. Reading a file of entries is ``key_file.py``'s. The danger of this file
is a key where its hash should be: no message repeats a value.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field

from gateway.identity import TENANT
from gateway.settings import values
from gateway.settings.tables.base import FeatureOptions, Name, NonEmptyText, Scope, Section, Text

_HASH = re.compile(r"sha256:[0-9a-f]{64}")

#: Claims that an entry sets by other options, or that an API key may not have.
_OWN_CLAIMS = {
    "sub": "is `owner`",
    "client_id": "is `id`",
    "azp": "is `id`",
    "scope": "is `scopes`",
    "exp": "is `expires`",
    "nbf": "is not a claim of API keys",
    "iss": "is not a claim of API keys: they have no issuer",
    TENANT: "is not a claim of API keys: they have no issuer",
}


def key_hash(text: str) -> str:
    """Check the stored form of a key."""
    if not _HASH.fullmatch(text):
        raise ValueError('must be "sha256:" and the 64 lower-case hex digits of the SHA-256 of the whole key')
    return text


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

    note = """\
How to make, hand out, exchange and withdraw them is in [api-keys.md](api-keys.md). No two entries, those of
`tokens.api_keys_file` included, have the same `id` or `hash`.
"""
    commented = True

    id: Annotated[Name, Field(examples=["partner"])]
    """Id of the key, and the `$client` of its callers. Two entries for one owner let keys be exchanged."""
    hash: Annotated[str, AfterValidator(key_hash), Field(examples=["sha256:" + "0" * 64])]
    """`sha256:` and the SHA-256 of the whole key, as 64 lower-case hex digits."""
    owner: str = ""
    """Owner of the key: the `sub` of rules and headers. Empty: the `id`."""
    scopes: list[Scope] = []
    """The granted scopes."""
    claims: Annotated[dict[NonEmptyText, Text | list[Text]], AfterValidator(_no_own_claims)] = {}
    """Further claims, for rules and headers, e.g. `{ role = "merchant" }`."""
    expires: Annotated[str, BeforeValidator(_toml_moment), AfterValidator(values.moment_text)] = ""
    """From this moment on the key is refused: a date-time with its offset (RFC 3339), as text or as TOML's own. Empty:
    never."""


class ApiKeyTables(FeatureOptions):
    """The list of tables ``[[api_keys]]`` of the whole configuration."""

    after: ClassVar[str] = "issuers"

    api_keys: list[ApiKey] = []


class TokensOptions(FeatureOptions):
    """What API keys add to ``[tokens]``."""

    api_keys_file: str = ""
    """A file of further API keys: one JSON object per line, with the keys of `[[api_keys]]`. Read again when it
    changes."""


def expires_at(entry: ApiKey) -> float:
    """Return the seconds since the epoch from which on a key is refused; infinity for never."""
    return values.moment(entry.expires) if entry.expires else math.inf


def claims_of(entry: ApiKey) -> dict[str, Any]:
    """Return what a token with the same rights would claim (RFC 9068 section 2.2)."""
    claims: dict[str, Any] = {**entry.claims, "sub": entry.owner or entry.id, "client_id": entry.id}
    if entry.scopes:
        claims["scope"] = " ".join(entry.scopes)
    if entry.expires:
        seconds = expires_at(entry)
        claims["exp"] = int(seconds) if seconds.is_integer() else seconds
    return claims
