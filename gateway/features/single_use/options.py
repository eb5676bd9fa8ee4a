"""The options of tokens for one request each.

Declares them and nothing else.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from gateway.settings.tables.base import FeatureOptions


class SingleUseRouteOptions(FeatureOptions):
    """What single use adds to ``[[routes]]``."""

    after: ClassVar[str] = "sender_constrained"

    single_use: bool = False
    """Accept each token for one request: its `jti` is refused from then on, whatever became of the request."""
    single_use_failure: Literal["closed", "open"] = "closed"
    """When it is unknown whether a token of a route with `single_use` was used (Redis is unavailable, or has lost data
    from before the token was issued): `closed`: 503; `open`: it passes, once for each worker, and is counted."""
