"""What holds for every table of the configuration, wherever it is declared."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from gateway.features.resource_metadata.options import Resource
from gateway.settings.tables.base import Section
from gateway.settings.tables.server import Server
from gateway.settings.tables.upstreams import UpstreamSettings
from tests.support.composed import Issuer, Route, Settings, Tokens


class Table(Section):
    """A table for this test."""

    count: int = 1
    """A number."""
    ratio: float = 0.5
    """Another one."""


@pytest.mark.parametrize("given", [{"cuont": 2}, {"count": "2"}, {"count": 2.0}, {"ratio": float("inf")}])
def test_what_is_not_declared_like_this_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Table.model_validate(given)


def test_values_never_change() -> None:
    with pytest.raises(ValidationError):
        Table().count = 2  # type: ignore[misc]


def test_what_validates_a_table_by_itself_is_built_when_it_is_asked_for() -> None:
    """A gateway reads the composed configuration only: two thirds of the tables are never used alone."""

    class Unused(Section):
        count: int = 1

    assert not Unused.__pydantic_complete__
    assert Unused.model_validate({"count": 2}).count == 2


@pytest.mark.parametrize("model", [Settings, Server, Tokens, Issuer, UpstreamSettings, Route, Resource])
def test_every_table_is_a_section(model: type[object]) -> None:
    assert issubclass(model, Section)
