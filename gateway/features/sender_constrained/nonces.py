"""Nonces for DPoP proofs (RFC 9449 sections 8 and 9) that need not be stored.

Makes nonces and checks them. A nonce is the number of a slice of time with its
HMAC under the gateway's secret: every worker that has the secret knows every
nonce. It is good from the slice before to the slice after its own, so clients
that have one do not fail at each change, and clocks may differ.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha256

_TAG_BYTES = 16


class Nonces:
    """The nonces of one gateway.

    Args:
        secret: the same for all that serve one address.
        seconds: length of a slice.
        wall: the time.
    """

    def __init__(self, secret: bytes, seconds: float, wall: Callable[[], float]) -> None:
        # A key of its own, whatever else the secret is used for.
        self._key = hmac.digest(secret, b"gateway dpop nonce", sha256)
        self._seconds = seconds
        self._wall = wall
        self._slice: int | None = None
        self._good: tuple[str, ...] = ()

    @property
    def newest(self) -> str:
        """The nonce to give out now."""
        return self._current()[1]

    def accepts(self, nonce: str) -> bool:
        """Whether a proof may bear this nonce now."""
        # Foreign text need not be ASCII, which the comparison in constant time asks for.
        given = nonce.encode("utf-8", "replace")
        return any(hmac.compare_digest(given, good.encode("ascii")) for good in self._current())

    def _current(self) -> tuple[str, ...]:
        number = int(self._wall() // self._seconds)
        if number != self._slice:
            self._good = tuple(self._make(near) for near in (number - 1, number, number + 1))
            self._slice = number
        return self._good

    def _make(self, number: int) -> str:
        place = number.to_bytes(8, "big", signed=True)
        return urlsafe_b64encode(place + hmac.digest(self._key, place, sha256)[:_TAG_BYTES]).decode("ascii")
