"""API keys as a kind of credential, in a request field of their own.

Adapts API keys to the interface of credentials; which keys are in force is ``keys.py``'s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from gateway.errors import Reason
from gateway.features.api_keys.keys import ApiKeys, KnownKey
from gateway.features.api_keys.reasons import MALFORMED_API_KEY
from gateway.identity import Identity
from gateway.policy.routes import Route
from gateway.server.seam.credential import Shown, Verifier
from gateway.telemetry.counters import Record


class ApiKeyKind:
    """API keys, under one configuration.

    Args:
        keys: those in force.
    """

    name = "api_key"
    title = "an API key"
    challenge = "ApiKey"
    malformed = MALFORMED_API_KEY
    is_remote = False
    knows_revocations = False

    def __init__(self, keys: ApiKeys) -> None:
        self._keys = keys

    @property
    def lookups(self) -> int:
        """How many keys were looked up."""
        return self._keys.lookups

    def field(self, route: Route) -> bytes:
        """Return the field that holds a key on a route."""
        return route.settings.api_key_header.encode("ascii")

    def verifier(self, shown: Shown, route: Route) -> Verifier:
        """Judge what stands in the field of a key."""
        return self

    def owns(self, value: bytes) -> bool:
        """Return whether this is a key, in force or expired."""
        return self._keys.owns(value)

    def lookup(self, shown: Shown, record: Record) -> Identity | None:
        """Return the identity of a key.

        Raises:
            GatewayError: 401; 503 for an unknown key while the file of keys was never read.
        """
        return self._keys.identify(shown.value)

    async def resolve(self, shown: Shown) -> Identity:
        """Return the same as ``lookup``: there is nothing to wait for.

        Raises:
            GatewayError: as ``lookup``.
        """
        return self._keys.identify(shown.value)

    def in_use(self, shown: Shown) -> KeyInUse:
        """Return a key that was good, so that it can be checked again later.

        Raises:
            GatewayError: it is no longer good.
        """
        return KeyInUse(self._keys, self._keys.find(shown.value))

    def overrides(self, route: Route) -> bool:
        """Return False: a key is never a bearer token."""
        return False

    def sheds(self, route: Route) -> Callable[[bytes], bool] | None:
        """Return None: looking a key up costs next to nothing."""
        return None


class KeyInUse(NamedTuple):
    """A key that a long response or a WebSocket depends on."""

    keys: ApiKeys
    key: KnownKey

    @property
    def identity(self) -> Identity:
        """The identity of the key."""
        return self.key.identity

    def ended(self) -> Reason | None:
        """Return why the key is no longer good; None while it is."""
        return self.keys.still_good(self.key)
