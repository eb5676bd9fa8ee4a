"""From the ``iss`` of a token to the one issuer that it names: its rules and its keys.

Only finding the issuer lives here. A token's ``iss`` leads to one issuer's
rules and keys, and to nobody else's (RFC 8725 section 3.8); near misses are
shown to the operator and never accepted.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.clock import Clock
from gateway.errors import GatewayError, Reason
from gateway.settings import schema
from gateway.settings.introspection import needs_keys
from gateway.tokens.claims import unknown_issuer
from gateway.tokens.jwks_fetch import make_source
from gateway.tokens.jwks_refresh import IssuerKeys
from gateway.tokens.model import IssuerPolicy, Unverified, compile_policy

#: How many configured issuers a refusal's detail shows when none is similar.
_SHOWN_ISSUERS = 3


def build_issuers(settings: schema.Settings, clock: Clock, first_wait: float = 0.0) -> dict[str, IssuerKeys]:
    """Return the keys of each configured issuer that needs some, by its name, not yet started.

    Args:
        first_wait: seconds before the first fetch over a network.
    """
    return {
        issuer.name: IssuerKeys(issuer, make_source(issuer), clock, first_wait=0.0 if issuer.jwks_file else first_wait)
        for issuer in settings.issuers
        if needs_keys(issuer, settings.routes)
    }


class Issuers:
    """The issuers of one configuration, by their ``iss`` values.

    Args:
        settings: the whole configuration.
        keys: the keys of each issuer that it names (``build_issuers``).
    """

    def __init__(self, settings: schema.Settings, keys: Mapping[str, IssuerKeys]) -> None:
        self._known: dict[str, tuple[IssuerPolicy, IssuerKeys]] = {}
        self._similar: dict[str, list[str]] = {}
        for issuer in settings.issuers:
            if issuer.name not in keys:
                continue  # it is asked about its tokens, and verifies none here
            policy = compile_policy(issuer, settings)
            for value in schema.issuer_values(issuer):
                self._known[value] = (policy, keys[issuer.name])
                self._similar.setdefault(_without_slash(value), []).append(value)

    def of(self, token: Unverified) -> tuple[IssuerPolicy, IssuerKeys]:
        """Return the rules and the keys for a token.

        Raises:
            GatewayError: ``UNKNOWN_ISSUER``.
        """
        found = self._known.get(token.issuer) if token.issuer is not None else None
        if found is None:
            # All of a long list would cost more to write than the token to refuse.
            similar = self._similar.get(_without_slash(token.issuer or ""))
            raise unknown_issuer(token.issuer, similar or list(self._known)[:_SHOWN_ISSUERS])
        return found


def cannot_decide(issuer: IssuerKeys) -> GatewayError:
    """Return what is said while an issuer has no keys that may be believed."""
    return GatewayError(
        issuer.usable() or Reason.NO_KEYS, detail=f"issuer {issuer.name}", retry_after=issuer.retry_after()
    )


def _without_slash(issuer: str) -> str:
    """Return what two issuers share that people take for the same one; never used to accept a token."""
    return issuer.rstrip("/").lower()
