"""What looks at every finished request, and may refuse client addresses for what it saw.

This file has the core's side. ``barring`` is read on the hot path: it is an
attribute that is False nearly always, and nothing else is asked while it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gateway.settings.feature_faults import FeatureError
from gateway.telemetry.counters import Record


class Observer(Protocol):
    """Something that watches requests end.

    Attributes:
        barring: whether requests of some client address are refused now.
        codes: of the reasons that it looks at.
    """

    barring: bool
    codes: frozenset[str]

    def finished(self, record: Record) -> None:
        """Look at a finished request whose credential was refused, or would have been on a route that observes."""
        ...

    def refused_credential(self, client: str, code: str, detail: str) -> None:
        """Look at a refusal of which no record was made."""
        ...

    def bars(self, client: str) -> bool:
        """Return whether requests of a client's address are refused where a credential is looked at."""
        ...

    def demand_unbarred(self, client: str) -> None:
        """Refuse a client whose address is barred.

        Raises:
            GatewayError: 429.
        """
        ...


class NoObserver:
    """Observes nothing."""

    barring = False
    codes = frozenset[str]()

    def finished(self, record: Record) -> None:
        """Ignore it."""

    def refused_credential(self, client: str, code: str, detail: str) -> None:
        """Ignore it."""

    def bars(self, client: str) -> bool:
        """Return False."""
        return False

    def demand_unbarred(self, client: str) -> None:
        """Refuse no address."""


def only(observers: Sequence[Observer]) -> Observer:
    """Return the one observer of the features, or one that observes nothing.

    Raises:
        FeatureError: there are several: nothing says yet in which order they would refuse.
    """
    if len(observers) > 1:
        raise FeatureError("more than one feature observes requests")
    return observers[0] if observers else NoObserver()
