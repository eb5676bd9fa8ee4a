"""The kinds of tests: known by what a test reaches, through helpers, fixtures, classes and parameters."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.gateways.running import configuration, running_gateway
from tests.support.kinds import reached
from tests.support.stores.redis import RedisServer
from tests.support.tokens.minting import SigningKey

# Nothing below is called: it is only looked at.
pytestmark = pytest.mark.unit


def of_parts() -> object:
    return SigningKey.ec("a"), configuration("http://127.0.0.1:1", Path("unused"))


async def of_a_gateway() -> None:
    async with running_gateway("http://127.0.0.1:1", Path("unused")):
        pass


def through_a_helper() -> object:
    return [of_a_gateway() for _ in range(2)]


class Holder:
    @property
    def started(self) -> object:
        return subprocess.run(["true"], check=True)


def through_a_class() -> object:
    return Holder().started


STEPS: dict[str, Callable[..., Any]] = {"one": of_parts, "two": of_a_gateway}


def through_a_table() -> None:
    for step in STEPS.values():
        step()


@given(st.integers())
def search(number: int) -> None:
    through_a_class()


def through_a_search() -> None:
    search()


async def beside_redis() -> None:
    async with RedisServer(Path("unused")):
        await of_a_gateway()


@pytest.mark.parametrize(
    ("function", "kinds"),
    [
        (of_parts, set()),
        (of_a_gateway, {"e2e"}),
        (through_a_helper, {"e2e"}),
        (through_a_class, {"e2e"}),
        (through_a_table, {"e2e"}),
        (through_a_search, {"e2e"}),
        (beside_redis, {"e2e", "peers"}),
    ],
)
def test_what_is_reached_makes_the_kind(function: FunctionType, kinds: set[str]) -> None:
    assert reached(function) == kinds


def test_each_test_is_of_one_kind(request: pytest.FixtureRequest) -> None:
    """``-m`` chooses each test once; this file says what it is, and is believed."""
    for item in request.session.items:
        kinds = [mark.name for mark in item.own_markers if mark.name in ("unit", "e2e", "peers")]
        assert len(kinds) <= 1, item.nodeid
    assert request.node.get_closest_marker("unit") is not None
