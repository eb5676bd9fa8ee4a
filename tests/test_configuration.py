"""The configuration that the core's tables and the features' options make together."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from gateway.configuration import GatewaySettings, compose
from gateway.features.listed import FEATURES
from gateway.server.seam.feature import Feature
from gateway.settings.faults import ConfigError
from gateway.settings.loading.environment import options
from gateway.settings.loading.load import load
from gateway.settings.problems import Problem, Sound
from gateway.settings.rendering.effective import effective_toml
from gateway.settings.rendering.reference import document, json_schema
from gateway.settings.tables.base import FeatureOptions, Section, listed_tables
from gateway.settings.tables.root import Settings
from gateway.settings.tables.routes import RouteSettings
from tests.settings.configs import SMALL, toml


class Toys(Section):
    """What toys share."""

    most: int = 3
    """The most toys."""


class ToyTables(FeatureOptions):
    """The table of toys."""

    after: ClassVar[str] = "tokens"

    toys: Toys = Toys()


class ToyOptions(FeatureOptions):
    """What toys add to routes."""

    after: ClassVar[str] = "path"

    toy: str = ""
    """The toy of a route."""
    toy_color: str = "red"
    """Its color."""


class Toy(Feature):
    """A feature that only says something of settings."""

    name = "toy"
    tables = ToyTables
    options: Mapping[str, type[FeatureOptions]] = {"routes": ToyOptions, "server": type("Empty", (FeatureOptions,), {})}

    def check(self, settings: Settings, sound: Sound) -> Iterator[Problem]:
        for index, route in enumerate(settings.routes):
            if ToyOptions.of(route).toy == "broken" and sound(("routes", index, "toy")):
                yield ("routes", index, "toy"), "is broken"

    def warnings(self, settings: Settings) -> Iterator[Problem]:
        if ToyTables.of(settings).toys.most > 3:
            yield ("toys", "most"), "are many"


class LostOptions(FeatureOptions):
    """Options behind one that there is not."""

    after: ClassVar[str] = "nothing"

    lost: int = 0
    """It cannot be found."""


class ToyAfterNothing(Feature):
    """A feature whose options stand nowhere."""

    options: Mapping[str, type[FeatureOptions]] = {"routes": LostOptions}


MODEL = compose((*FEATURES, Toy()))


def file_of(folder: Path, **route: str) -> Path:
    file = folder / "gateway.toml"
    file.write_text(toml({**SMALL, "routes": [{**SMALL["routes"][0], **route}]}))
    return file


def test_options_of_a_feature_are_read_typed(tmp_path: Path) -> None:
    settings = load(MODEL, file_of(tmp_path, toy="car"), {"GATEWAY_TOYS_MOST": "4"}, {}).settings
    assert ToyOptions.of(settings.routes[0]).toy == "car"
    assert ToyTables.of(settings).toys.most == 4
    assert isinstance(settings, Settings)
    assert isinstance(settings.routes[0], RouteSettings)


def test_without_the_feature_its_options_are_unknown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(GatewaySettings, file_of(tmp_path, toy="car"), {"GATEWAY_TOYS_MOST": "4"}, {})
    assert [fault.path for fault in caught.value.faults] == ["GATEWAY_TOYS_MOST", "routes[0].toy"]


def test_asking_for_options_that_were_not_composed_is_an_error() -> None:
    with pytest.raises(TypeError, match="was composed without the options of tests"):
        ToyOptions.of(RouteSettings(path="/", upstream="u"))


def test_checks_and_warnings_of_a_feature_are_asked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(MODEL, file_of(tmp_path, toy="broken"), {}, {})
    assert [str(fault) for fault in caught.value.faults] == ["routes[0].toy: is broken"]
    loaded = load(MODEL, file_of(tmp_path), {"GATEWAY_TOYS_MOST": "4"}, {})
    assert [str(warning) for warning in loaded.warnings] == ["toys.most (GATEWAY_TOYS_MOST): are many"]


def test_a_check_is_asked_beside_faults_of_single_options(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(MODEL, file_of(tmp_path, toy="broken", auth="requird"), {"GATEWAY_TOYS_MOST": "many"}, {})
    assert [fault.path for fault in caught.value.faults] == ["toys.most", "routes[0].auth", "routes[0].toy"]


def test_options_stand_where_they_say_and_else_behind_all_others() -> None:
    names = list(listed_tables(MODEL)["routes"].model_fields)
    assert names[:4] == ["path", "toy", "toy_color", "match"]
    assert list(MODEL.model_fields)[:5] == ["server", "tokens", "toys", "limits", "watch"]
    issuers = list(listed_tables(MODEL)["issuers"].model_fields)
    assert issuers[-1] == "introspection_require_audience"


def test_a_composed_table_has_the_name_text_and_options_of_the_core() -> None:
    composed = listed_tables(GatewaySettings)["routes"]
    assert (composed.__name__, composed.__doc__, composed.note) == (
        RouteSettings.__name__,
        RouteSettings.__doc__,
        RouteSettings.note,
    )
    assert composed.model_fields.keys() > RouteSettings.model_fields.keys()
    assert GatewaySettings.model_fields.keys() > Settings.model_fields.keys()


def test_everything_that_is_derived_has_the_options_of_a_feature(tmp_path: Path) -> None:
    assert "`GATEWAY_TOYS_MOST` · `--toys-most`" in document(MODEL)
    assert "### `routes.toy_color`" in document(MODEL)
    assert "toy_color" in json.loads(json_schema(MODEL))["$defs"]["RouteSettings"]["properties"]
    assert "GATEWAY_TOYS_MOST" in {option.variable for option in options(MODEL)}
    assert 'toy_color = "red"  # from: default' in effective_toml(load(MODEL, file_of(tmp_path), {}, {}))


def test_settings_go_to_workers_as_json(tmp_path: Path) -> None:
    settings = load(MODEL, file_of(tmp_path, toy="car"), {}, {}).settings
    assert MODEL.model_validate_json(settings.model_dump_json()) == settings


class EverythingIsPublic(FeatureOptions):
    """An option that the core has, with another default."""

    auth: str = "public"
    """Who may pass."""


class ServerAgain(FeatureOptions):
    """A table that the core has."""

    server: Toys = Toys()


def test_nothing_is_declared_twice() -> None:
    """Neither what the core has, nor what another feature has: it would be replaced, with its meaning and default."""

    class Public(Feature):
        options: Mapping[str, type[FeatureOptions]] = {"routes": EverythingIsPublic}

    class Server(Feature):
        tables = ServerAgain

    class SecondToy(Feature):
        options: Mapping[str, type[FeatureOptions]] = {"routes": ToyOptions}

    for features, told in (
        ([Public()], "EverythingIsPublic of tests.test_configuration declares again: auth"),
        ([Server()], "ServerAgain of tests.test_configuration declares again: server"),
        ([Toy(), SecondToy()], "ToyOptions of tests.test_configuration declares again: toy, toy_color"),
    ):
        with pytest.raises(ValueError, match=re.escape(told)):
            compose(features)


def test_what_the_express_lane_may_serve_are_options_of_routes() -> None:
    for feature in FEATURES:
        own = feature.options["routes"].model_fields if "routes" in feature.options else {}
        assert feature.express <= own.keys()


def test_options_need_a_table_and_an_option_that_there_is() -> None:
    class Misspelt(Feature):
        options: Mapping[str, type[FeatureOptions]] = {"route": ToyOptions}

    with pytest.raises(ValueError, match="tables that the core does not have: route"):
        compose([Misspelt()])
    with pytest.raises(ValueError, match="stands behind an option that there is not: nothing"):
        compose([ToyAfterNothing()])


def test_the_core_alone_is_a_configuration() -> None:
    model = compose(())
    assert (model.model_fields.keys(), model.features) == (Settings.model_fields.keys(), ())
