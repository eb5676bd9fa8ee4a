"""The options of ``[dpop]``: proofs that come with tokens which are bound to a key of their sender (RFC 9449).

They are the core's, because more than the feature ``sender_constrained`` reads them: metadata documents say which
algorithms count, and gateways that share a Redis compare the times.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from gateway.settings import values
from gateway.settings.tables.base import Section
from gateway.settings.tables.issuers import Algorithm


def proof_origin(text: str) -> str:
    """Check an origin; the one for any has no meaning here."""
    if text == "*":
        raise ValueError("is not an origin (scheme://host or scheme://host:port)")
    return values.web_origin(text)


def usable_nonce_seconds(seconds: float) -> float:
    """Check how often nonces change: a client must be able to use one."""
    if 0 < seconds < 1:
        raise ValueError("must be 0, for no nonces, or at least 1")
    return seconds


class Dpop(Section):
    """Proofs that come with tokens which are bound to a key of their sender (RFC 9449)."""

    algorithms: Annotated[list[Algorithm], Field(min_length=1)] = ["ES256", "EdDSA", "PS256", "RS256"]
    """Signature algorithms of proofs; listed in challenges. Asymmetric only. EdDSA and Ed25519 admit each other."""
    max_age_seconds: Annotated[float, Field(gt=0, le=3600)] = 60
    """A proof is good for this long after its `iat`."""
    max_future_seconds: Annotated[float, Field(ge=0, le=300)] = 5
    """How far the `iat` of a proof may be ahead of this gateway's clock."""
    origins: list[Annotated[str, AfterValidator(proof_origin)]] = []
    """Origins that are accepted in the `htu` of a proof, such as `https://api.example.com`. Empty: where the request
    went, by TLS and Host, or by what a trusted proxy says of them; on a route with `hosts` only those. With neither a
    client chooses the name, so that a proof that was made for another server is good here."""
    nonce_seconds: Annotated[float, Field(ge=0, le=3600), AfterValidator(usable_nonce_seconds)] = 0
    """Require nonces in proofs, and change them at this interval. A nonce is good for two to three times as long. 0 =
    no nonces."""
    nonce_secret_file: str = ""
    """File with at least 32 random bytes, from which nonces are made; the same for all gateways that serve one address.
    Read at the start. Empty: a secret of the running gateway, shared by its workers."""
