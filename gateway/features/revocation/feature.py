"""Where revoked credentials are read from, and how they are revoked.

Declares the feature; what runs is imported when the feature is built.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from aiohttp import web

from gateway.clock import Clock
from gateway.features.revocation.checks import from_redis, revocation_problems, revocation_warnings
from gateway.features.revocation.options import RevocationTables
from gateway.server.seam.feature import Core, Feature, HandOut, Part
from gateway.settings.problems import Problem, Sound
from gateway.settings.tables.root import Kept, Settings

if TYPE_CHECKING:
    import click


class RevocationFeature(Feature):
    """Where revoked credentials are read from, and how they are revoked."""

    name = "revocation"
    tables = RevocationTables

    def check(self, settings: Settings, sound: Sound) -> Iterator[Problem]:
        return revocation_problems(settings, sound)

    def warnings(self, settings: Settings) -> Iterator[Problem]:
        return revocation_warnings(settings)

    def kept_in_redis(self, settings: Settings) -> Iterator[Kept]:
        if from_redis(settings):
            yield Kept("revocations", durable=True)

    def commands(self, model: type[Settings]) -> Iterable[click.Command]:
        from gateway.features.revocation.commands import revoke_command  # noqa: PLC0415 - only a command line needs it

        return (revoke_command(model),)

    def build(self, core: Core) -> Part | None:
        """Make the feature's part of one worker."""
        from gateway.features.revocation.part import RevocationPart  # noqa: PLC0415 - only a worker needs it

        return RevocationPart(core)

    def pages(self, settings: Settings, clock: Clock, hand_out: HandOut) -> Sequence[web.RouteDef]:
        """Return the call that revokes, where a secret for it is configured."""
        from gateway.features.revocation.admin_call import revoke_call  # noqa: PLC0415 - only an admin port needs it

        return revoke_call(settings, clock, hand_out)
