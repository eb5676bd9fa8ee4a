"""What gateways that share a Redis should have in common: the options that change what one does with the other's word.

Chooses these options, as far as they are the core's. A difference is not a
fault: while a fleet is reloaded there is one. It is shown, because one that
stays makes requests fail or pass by the gateway that they happen to reach.
"""

from __future__ import annotations

from gateway.settings.feature_faults import Hook
from gateway.settings.tables.root import Settings

#: Of each issuer, and of ``[dpop]``.
_OF_ISSUERS = ("leeway_seconds", "max_lifetime_seconds")
_OF_DPOP = ("max_age_seconds", "max_future_seconds", "nonce_seconds")


def what_must_agree(settings: Settings) -> dict[str, float]:
    """Return the values of these options, and of those that features name, by their paths."""
    found = {
        f"issuers.{issuer.name}.{name}": float(getattr(issuer, name))
        for issuer in settings.issuers
        for name in _OF_ISSUERS
    }
    for feature in settings.features:
        with Hook(feature.name, "must_agree"):
            found |= feature.must_agree(settings)
    return found | {f"dpop.{name}": float(getattr(settings.dpop, name)) for name in _OF_DPOP}
