"""The tables of the configuration that have options of features, as the gateway composes them, with their types.

The composed models are made when the gateway starts, so a type checker knows
nothing of their options: they are declared here, and only tests need it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.configuration import GatewaySettings
from gateway.settings.loading import load as loading
from gateway.settings.tables.base import listed_tables, single_tables

if TYPE_CHECKING:
    from gateway.features.abuse_watch import options as watch
    from gateway.features.api_keys import options as api_keys
    from gateway.features.introspection import options as introspection
    from gateway.features.rate_limits import options as limits
    from gateway.features.resource_metadata import options as resources
    from gateway.features.revocation import options as revocation
    from gateway.features.single_use import options as single_use
    from gateway.settings.tables import issuers, root, routes
    from gateway.settings.tables import tokens as core_tokens

    class Tokens(core_tokens.Tokens, api_keys.TokensOptions): ...

    class Issuer(issuers.Issuer, introspection.IssuerOptions): ...

    class Route(
        routes.RouteSettings, limits.LimitRouteOptions, single_use.SingleUseRouteOptions, resources.ResourceRouteOptions
    ): ...

    class Settings(
        root.Settings,
        watch.WatchTables,
        api_keys.ApiKeyTables,
        limits.LimitTables,
        resources.ResourceTables,
        revocation.RevocationTables,
    ):
        tokens: Tokens = Tokens()
        issuers: list[Issuer] = []  # type: ignore[assignment]
        routes: list[Route]  # type: ignore[assignment]
else:
    Settings = GatewaySettings
    Tokens = single_tables(Settings)["tokens"]
    Issuer, Route = (listed_tables(Settings)[name] for name in ("issuers", "routes"))


def load(file: Path | None, env: Mapping[str, str], flags: Mapping[str, str]) -> loading.Loaded[Settings]:
    """Load a configuration of the gateway with all features."""
    return loading.load(Settings, file, env, flags)
