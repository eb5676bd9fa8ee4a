"""The options of ``[[issuers]]``, and what follows from one entry alone.

This file has declarations only. Templates are explained in ``templates.py``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from gateway.settings import templates, values
from gateway.settings.tables.base import Name, NonEmptyText, Section, Text

#: What tokens may be signed with: asymmetric algorithms only (RFC 8725 section 3.2).
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]

#: The greatest ``leeway_seconds``. Whatever must be kept for as long as any gateway accepts a token counts with it.
MAX_LEEWAY = 300.0


def key_url(text: str) -> str:
    """Check the address of keys, which may be a template; empty is "not given"."""
    values.optional_http_url(templates.fill(text, "tenant"))
    return text


class Issuer(Section):
    """Who signs tokens, where the keys are, and what every token of this issuer must say."""

    name: Annotated[Name, Field(examples=["main"])]
    """What routes, logs and metrics call this issuer."""
    issuer: Annotated[
        NonEmptyText | Annotated[list[NonEmptyText], Field(min_length=1)], Field(examples=["https://idp.example.com/"])
    ]
    """The exact `iss` value, or a list of them. Compared byte for byte: a trailing slash counts (RFC 8725 section
    3.8). With `{tenant}` or `{tenantid}` in place of one path segment or host label it is a template, for the
    tenants that `tenants` lists or `tenant_pattern` matches."""
    tenants: list[Annotated[str, AfterValidator(templates.tenant_name)]] = []
    """Tenants of a template, as in the `iss` of their tokens. Tokens of other tenants are refused."""
    tenant_pattern: Annotated[str, AfterValidator(templates.tenant_pattern)] = ""
    """Instead of a list: a regular expression that the whole tenant matches. A tenant has at most 128 letters, digits,
    and `.`, `_`, `-` between them, whatever the pattern says."""
    tenant_claim: str = ""
    """A claim that must be exactly the tenant. Empty: `tid` for a template with `{tenantid}`, else none."""
    max_tenants: Annotated[int, Field(ge=1, le=1000)] = 100
    """With `tenant_pattern`, tenants whose keys are kept at a time: the one that was idle longest makes room. Also the
    number of tenants that may get keys within a minute, so that made-up tenants cannot cause many fetches."""
    tenant_idle_seconds: Annotated[float, Field(ge=60, le=604800)] = 3600
    """The keys of a tenant of which no token was verified for this long are given up until its next token."""
    jwks_url: Annotated[str, AfterValidator(key_url)] = ""
    """Where the keys are. Empty, without `jwks_file`: OIDC discovery from the first issuer value. For a template: with
    the same placeholder, the keys of each tenant; without it, one set for all of them."""
    jwks_file: str = ""
    """Instead of a URL: a JWKS or PEM file, read again when it changes."""
    audience: Annotated[list[NonEmptyText], Field(min_length=1, examples=[["api"]])]
    """The token must be for any of these (RFC 8725 section 3.9)."""
    audience_claim: NonEmptyText = "aud"
    """The claim that names the audience, e.g. `client_id` for providers that set no `aud`."""
    algorithms: Annotated[list[Algorithm], Field(min_length=1)] = ["RS256", "ES256"]
    """Accepted signature algorithms: asymmetric only. EdDSA and Ed25519 are two names of one algorithm for Ed25519
    keys: either admits both."""
    token_type: Literal["any", "at+jwt"] = "any"  # noqa: S105  (a type, no secret)
    """`at+jwt`: the header's `typ` must say so (RFC 9068 section 4)."""
    required_claims: list[NonEmptyText] = ["exp", "sub"]
    """Claims without which a token is refused. `iss` and the audience are always required."""
    claims: dict[str, Text] = {}
    """Exact values that every token of this issuer must carry, e.g. `{ token_use = "access" }`."""
    leeway_seconds: Annotated[float, Field(ge=0, le=MAX_LEEWAY)] = 30
    """Allowed clock difference for `exp`, `nbf` and `iat`."""
    max_lifetime_seconds: Annotated[float, Field(ge=0)] = 86400
    """A token whose `exp` is further than this after its `iat` (or after now, without `iat`) is refused. 0 = off."""
    jwks_refresh_seconds: Annotated[float, Field(ge=1, le=86400)] = 300
    """Time between two fetches of the keys. An answer with Cache-Control sets its own, within 15 s and 24 h."""
    jwks_cooldown_seconds: Annotated[float, Field(ge=0.1, le=3600)] = 10
    """Minimum time between two fetches caused by tokens with an unknown `kid`."""
    jwks_max_stale_seconds: Annotated[float, Field(gt=0, le=2592000)] = 86400
    """After this long without a good fetch the keys are stale: requests get 503."""
    jwks_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 3
    """Timeout of one fetch, from connecting to the last byte."""
    jwks_ca_file: str = ""
    """PEM bundle for the issuer's TLS certificate, instead of the system's authorities."""
    jwks_token_file: str = ""
    """File with a bearer token for the JWKS and discovery endpoints; read again at each fetch, sent to no other host.
    """
    allow_http: bool = False
    """Accept `http://` addresses that are not loopback, for an issuer inside a private network."""


def issuer_values(issuer: Issuer) -> tuple[str, ...]:
    """Return the exact ``iss`` values of an issuer entry, the first one first."""
    return (issuer.issuer,) if isinstance(issuer.issuer, str) else tuple(issuer.issuer)
