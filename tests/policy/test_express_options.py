"""What the express lane may serve is a positive list of route options: whatever is not on it goes the long way."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.features.listed import FEATURES
from gateway.policy.express_options import REMEMBERED, SERVED, is_within
from gateway.policy.routes import RouteTable
from tests.support.composed import Route

#: Options that are not on the list, with a value that is not the default, and why the lane has no step for them.
NOT_SERVED: dict[str, tuple[Any, str]] = {
    "cors_credentials": (True, "preflights and the fields of answers to pages are made by the shared run"),
    "cors_expose_headers": (["X-A"], "the same"),
    "cors_headers": (["X-A"], "the same"),
    "cors_max_age_seconds": (1, "the same"),
    "cors_methods": (["GET"], "the same"),
    "cors_origins": (["https://a.test"], "the same"),
    "end_at_expiry": (True, "a response is watched in a task"),
}

#: Those that are served, and never remembered.
EACH_TIME: dict[str, tuple[Any, str]] = {
    "forward_authorization": (True, "the token is a part of the head for the upstream"),
    "observe": (True, "a refusal is counted, and the request goes on"),
    "sender_constrained": ("dpop", "a proof is another one each time"),
}

FROM_FEATURES = frozenset[str]().union(*(feature.express for feature in FEATURES))


def compiled(**options: Any) -> Any:
    return RouteTable([Route.model_validate({"path": "/", "upstream": "u", **options})], FROM_FEATURES).routes[0]


def test_every_option_of_a_route_is_on_the_list_or_off_it() -> None:
    """A new option is served by the express lane only when the list says so."""
    listed = [SERVED, FROM_FEATURES, frozenset(NOT_SERVED)]
    assert sum(map(len, listed)) == len(frozenset().union(*listed)), "an option is listed twice"
    assert frozenset().union(*listed) == set(Route.model_fields)
    assert set(EACH_TIME) == SERVED - REMEMBERED


def test_route_as_by_default_is_served_and_remembered() -> None:
    assert (compiled().express_serves, compiled().express_remembers) == (True, True)


@pytest.mark.parametrize("name", NOT_SERVED)
def test_option_off_the_list_sends_its_route_the_long_way(name: str) -> None:
    route = compiled(**{name: NOT_SERVED[name][0]})
    assert (route.express_serves, route.express_remembers) == (False, False)


@pytest.mark.parametrize("name", EACH_TIME)
def test_option_that_is_served_each_time_is_not_remembered(name: str) -> None:
    route = compiled(**{name: EACH_TIME[name][0]})
    assert (route.express_serves, route.express_remembers) == (True, False)


def test_options_of_features_count_only_where_a_feature_names_them() -> None:
    limited = Route.model_validate({"path": "/", "upstream": "u", "single_use": True})
    assert is_within(limited, REMEMBERED | FROM_FEATURES)
    assert not RouteTable([limited]).routes[0].express_serves


def test_default_that_is_written_out_changes_nothing() -> None:
    assert compiled(cors_origins=[], observe=False).express_remembers
