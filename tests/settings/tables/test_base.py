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


def test_the_text_below_an_option_is_its_description() -> None:
    assert Table.model_fields["count"].description == "A number."


@pytest.mark.parametrize("model", [Settings, Server, Tokens, Issuer, UpstreamSettings, Route, Resource])
def test_every_table_is_a_section(model: type[object]) -> None:
    assert issubclass(model, Section)
