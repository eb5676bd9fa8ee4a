"""The whole configuration: the tables of the core, and what a feature may say about settings.

Every option of the gateway is declared once. Flags, environment names, the
configuration reference, the example file and the JSON Schema are all derived
from these models; nothing may be declared a second time elsewhere. The core
knows its own options only: ``gateway/configuration.py`` adds those of the
features, and what it makes is passed on. Checks of one value are in
``values.py``; checks that need several options are in ``checks`` and, where one
of them is a feature's, in the folder of the feature.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, NamedTuple

from pydantic import AfterValidator, Field

from gateway.settings import values
from gateway.settings.feature_faults import Hook
from gateway.settings.problems import Problem, Sound
from gateway.settings.tables.base import FeatureOptions, NonEmptyText, Section
from gateway.settings.tables.dpop import Dpop
from gateway.settings.tables.issuers import Issuer
from gateway.settings.tables.redis import Redis
from gateway.settings.tables.routes import RouteSettings
from gateway.settings.tables.server import Server
from gateway.settings.tables.tokens import Tokens
from gateway.settings.tables.upstreams import UpstreamSettings

HeaderName = Annotated[str, AfterValidator(values.identity_header_name)]
ClaimSource = Annotated[str | list[NonEmptyText], AfterValidator(values.claim_source)]

#: The ``[identity]`` mapping used when the configuration has none.
DEFAULT_IDENTITY: dict[str, str | list[str]] = {
    "x-user-id": "sub",
    "x-user-role": "role",
    "x-scope": "$scopes",
}


class Kept(NamedTuple):
    """Something that is kept in Redis.

    Attributes:
        what: in words.
        durable: what is lost at a restart of Redis lets in what should not get in.
    """

    what: str
    durable: bool


class Weakness(NamedTuple):
    """What one route does not demand, and another does.

    Attributes:
        text: as it goes on behind "which".
        lets_in: some who would be refused pass; else they pass more often.
    """

    text: str
    lets_in: bool


class FeatureRules:
    """What a feature says about settings; ``Feature`` of the server's seam adds what it does with them.

    The core calls these methods through ``Settings.features``, wherever it
    would otherwise have to know an option of a feature.

    Attributes:
        name: as its folder is called.
        tables: its own tables, as fields of what is mixed into the whole configuration.
        options: its options in tables of the core, by the table's name.
        express: of its route options, those of which the express lane may serve any value.
    """

    name = ""
    tables: type[FeatureOptions] | None = None
    options: Mapping[str, type[FeatureOptions]] = {}
    express: frozenset[str] = frozenset()

    def check(self, settings: Settings, sound: Sound) -> Iterator[Problem]:
        """Find what is wrong between options, of which at least one is the feature's.

        Args:
            settings: the configuration; where an option has a fault of its own, any value.
            sound: tells which options have none.
        """
        return iter(())

    def warnings(self, settings: Settings) -> Iterator[Problem]:
        """Find what a valid configuration says that is seldom meant."""
        return iter(())

    def weakness(self, route: RouteSettings, other: RouteSettings) -> Weakness | None:
        """Return what another route does not demand, and this one does by an option of the feature."""
        return None

    def claims(self, settings: Settings) -> frozenset[str]:
        """Return the top-level claims of verified tokens that the feature reads."""
        return frozenset()

    def replaces_keys(self, issuer: Issuer, settings: Settings) -> bool:
        """Return whether the feature judges every token of an issuer, so that its keys are not needed."""
        return False

    def calls_issuer(self, issuer: Issuer) -> bool:
        """Return whether the feature sends requests to an issuer, to which ``allow_http`` applies."""
        return False

    def open_files(self, settings: Settings) -> int:
        """Return the most connections to providers that the feature has open at one time, per worker."""
        return 0

    def must_agree(self, settings: Settings) -> Mapping[str, float]:
        """Return the options, by path, that gateways with one Redis should have in common."""
        return {}

    def kept_in_redis(self, settings: Settings) -> Iterator[Kept]:
        """Return what the feature keeps in Redis, if there is one."""
        return iter(())


class Settings(Section):
    """The whole configuration."""

    #: Whose options these settings have beside those of the core.
    features: ClassVar[tuple[FeatureRules, ...]] = ()
    #: Where the list of them stands, as "module:name": other processes of this gateway compose the same from it.
    listed: ClassVar[str] = ""

    server: Server = Server()
    tokens: Tokens = Tokens()
    issuers: list[Issuer] = []
    upstreams: Annotated[list[UpstreamSettings], Field(min_length=1)]
    routes: Annotated[list[RouteSettings], Field(min_length=1)]
    # Challenges, and the documents about resources, name its algorithms; so it is a table of the core.
    dpop: Dpop = Dpop()
    redis: Redis = Redis()
    identity: dict[HeaderName, ClaimSource] = Field(default_factory=lambda: dict(DEFAULT_IDENTITY))
    """Header -> claim. A list is a path into nested claims; `$scopes`, `$issuer`, `$client` and `$tenant` are the
    gateway's own.
    """


def needs_keys(issuer: Issuer, settings: Settings) -> bool:
    """Return whether an issuer's keys are needed: not when a feature judges all of its tokens otherwise."""
    for feature in settings.features:
        with Hook(feature.name, "replaces_keys"):
            if feature.replaces_keys(issuer, settings):
                return False
    return True
