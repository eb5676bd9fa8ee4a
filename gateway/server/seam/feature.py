"""What an optional feature may be: its declaration, and its part in one running worker.

This file has the core's side of the seam; the features are in
``gateway/features``, one folder each, and the core imports none of them. The
danger of this file is a hook that nothing uses: each has a user, and the order
of the list of features is the order in which they are asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from aiohttp import web
from aiohttp.abc import AbstractResolver
from prometheus_client.core import Metric

from gateway.clock import Clock
from gateway.errors import Reason, Reasons
from gateway.jwt.revocations.revocations import Revocations
from gateway.policy.routes import Route
from gateway.server.seam.credential import CredentialKind
from gateway.server.seam.endpoint import Endpoints
from gateway.server.seam.guard import Guard
from gateway.server.seam.observer import Observer
from gateway.settings.feature_faults import FeatureError
from gateway.settings.tables.root import FeatureRules, Settings
from gateway.store.one_time_ids import ReplayStore
from gateway.store.redis_link import RedisLink

if TYPE_CHECKING:
    import click


#: Gives records of what was revoked, and the epoch of the log that they are in, to every worker of this gateway;
#: returns once they have them.
HandOut = Callable[[bytes, bytes], Awaitable[None]]


class UsedIdsFactory(Protocol):
    """Makes what remembers one-time ids of one purpose."""

    def __call__(self, purpose: str, window: float = 0.0) -> ReplayStore: ...


class Core(NamedTuple):
    """What a feature is built from, in one worker under one configuration.

    Attributes:
        settings: the whole configuration.
        clock: the time.
        routes: every route, compiled, in the order of the configuration.
        redis: the link to what gateways share; None without one.
        revocations: what is revoked; a feature may add sources to it.
        used_ids: returns what remembers one-time ids of one purpose, and for how long at least behind their time, in
            seconds; the core starts and stops it.
        resolver: looks up the hosts of providers; None: the system's.
        secret: the same in every worker of this gateway; empty for a gateway of one process.
    """

    settings: Settings
    clock: Clock
    routes: Sequence[Route]
    redis: RedisLink | None
    revocations: Revocations
    used_ids: UsedIdsFactory
    resolver: AbstractResolver | None
    secret: bytes


class Part:
    """One feature in one worker under one configuration. Everything is optional.

    Attributes:
        credentials: kinds of credentials besides JWTs; their order is the order in which bearer tokens are offered.
        guards: what may refuse a request for another reason than its credential.
        observer: looks at finished requests.
        endpoints: public paths that the feature answers itself.
    """

    credentials: Sequence[CredentialKind] = ()
    guards: Sequence[Guard] = ()
    observer: Observer | None = None
    endpoints: Endpoints | None = None

    def challenge_parameters(self, route: Route | None) -> Mapping[str, str]:
        """Return parameters of ``WWW-Authenticate`` on a route, by scheme: they stand behind the realm.

        Those of the empty scheme stand at the end of each challenge for a token.

        Args:
            route: None for a request without a route.
        """
        return {}

    async def start(self) -> None:
        """Start tasks. Raise only for what must end the start; ``stop`` is called then, too.

        Raises:
            OSError: its text is for the operator, and is logged. Of other errors, type and place are.
        """

    async def stop(self) -> None:
        """End them, and close what is open; all parts do so at the same time.

        What takes too long is cancelled and left behind (``parts.py``). It must not block the event loop.
        """

    def status(self) -> Mapping[str, Any]:
        """Return what ``/status`` shows, by member. If it fails, or a member is taken, it is left out and logged."""
        return {}

    def metrics(self) -> Iterator[Metric]:
        """Return the metrics of one scrape. What fails, or has a name that is taken, is left out and logged."""
        return iter(())


class Feature(FeatureRules):
    """Declare one feature. It is stateless; the list of features has one of each.

    What it says about settings is declared in ``FeatureRules``, because loading and the checks, which ask for it, stand
    below the server.

    Attributes:
        reasons: why it refuses requests.
    """

    reasons: tuple[Reason, ...] = ()

    def build(self, core: Core) -> Part | None:
        """Make the feature's part of one worker: no task, socket or write yet. None: there is nothing to do."""
        return None

    def pages(self, settings: Settings, clock: Clock, hand_out: HandOut) -> Sequence[web.RouteDef]:
        """Return pages of the admin port that change something; they exist once for all workers of a gateway.

        Args:
            settings: the whole configuration.
            clock: the time.
            hand_out: makes revocations known to all workers of this gateway.
        """
        return ()

    def commands(self, model: type[Settings]) -> Iterable[click.Command]:
        """Return what it adds to the command line.

        Args:
            model: the composed configuration, for commands that load one.
        """
        return ()


def features_of(settings: Settings | type[Settings]) -> Sequence[Feature]:
    """Return the features that a configuration was composed with: a gateway has those, and no others."""
    return cast("tuple[Feature, ...]", settings.features)


def duplicates(names: Iterable[str]) -> list[str]:
    """Return the names that are there more than once."""
    return sorted(name for name, count in Counter(names).items() if count > 1)


def demand_distinct(features: Iterable[Feature]) -> None:
    """Refuse features that logs and metrics could not tell apart, from each other or from the core.

    Raises:
        FeatureError: two have one name, or give one reason code.
    """
    given = tuple(features)
    if again := duplicates(feature.name for feature in given):
        raise FeatureError(f"several features have one name: {', '.join(again)}")
    reasons = (*Reasons.all(), *(reason for feature in given for reason in feature.reasons))
    if again := duplicates(reason.code for reason in reasons):
        raise FeatureError(f"several reasons have one code: {', '.join(again)}")
