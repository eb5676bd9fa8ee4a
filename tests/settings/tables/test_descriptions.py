"""The text below an option is its description, in whichever class of a composed table it stands."""

from __future__ import annotations

from gateway.settings.rendering.reference import json_schema
from gateway.settings.tables.base import FeatureOptions, Section
from gateway.settings.tables.descriptions import descriptions
from tests.support.composed import Route, Settings


class Table(Section):
    """A table for this test."""

    count: int = 1
    """A number,
    on two lines."""
    silent: int = 1
    ratio: float = 0.5
    """Another one."""


class More(FeatureOptions):
    """What a feature adds to it."""

    ratio: float = 0.75
    """Another one, differently."""


class Composed(More, Table):
    pass


def test_the_text_below_an_option_is_its_description() -> None:
    assert descriptions(Table) == {"count": "A number,\non two lines.", "ratio": "Another one."}


def test_the_nearest_declaration_of_an_option_counts() -> None:
    assert descriptions(Composed) == {"count": "A number,\non two lines.", "ratio": "Another one, differently."}


def test_every_option_of_a_composed_table_has_one() -> None:
    """Those of the core and those of features."""
    assert set(descriptions(Route)) == set(Route.model_fields)


def test_a_table_without_its_source_has_none() -> None:
    made = type("Made", (Section,), {"__module__": "nowhere"})
    assert descriptions(made) == {}


def test_they_are_in_the_json_schema() -> None:
    assert descriptions(Route)["rate_limit"].partition(":")[0] in json_schema(Settings)
