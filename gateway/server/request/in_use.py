"""What the verdict on a credential rests on that a long response or a WebSocket goes on with."""

from __future__ import annotations

from typing import Protocol

from gateway.errors import Reason
from gateway.identity import Identity


class InUse(Protocol):
    """A credential that was good, and may end while it is in use."""

    @property
    def identity(self) -> Identity:
        """The caller's identity."""
        ...

    def ended(self) -> Reason | None:
        """Return why it is no longer good; None while it is."""
        ...
