"""What single use says of settings to the core."""

from __future__ import annotations

import pytest

from gateway.features.single_use.feature import SingleUseFeature
from gateway.settings.tables.root import Kept, Weakness
from tests.support.composed import Route, Settings

FEATURE = SingleUseFeature()
ONCE, FREE = Route(path="/once", upstream="orders", single_use=True), Route(path="/", upstream="orders")


def test_a_route_that_takes_a_token_again_is_weaker() -> None:
    assert FEATURE.weakness(ONCE, FREE) == Weakness("accepts a token more than once", lets_in=True)
    assert FEATURE.weakness(FREE, ONCE) is FEATURE.weakness(ONCE, ONCE) is None


@pytest.mark.parametrize("options", [{"auth": "public"}, {"observe": True}])
def test_a_route_that_refuses_no_token_has_nothing_to_lose(options: dict[str, object]) -> None:
    assert FEATURE.weakness(ONCE.model_copy(update=options), FREE) is None


@pytest.mark.parametrize(("route", "kept"), [(ONCE, [Kept("used tokens", durable=True)]), (FREE, [])])
def test_used_tokens_must_not_be_lost(route: Route, kept: list[Kept]) -> None:
    assert list(FEATURE.kept_in_redis(Settings.model_construct(upstreams=[], routes=[route]))) == kept
