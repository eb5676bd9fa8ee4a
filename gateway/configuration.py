"""The core's tables and the features' tables and options become one model of the configuration.

Composes the models, and holds the one that the gateway runs with.
Nothing of the core imports it: loading, checks and everything that reads
options takes the model, or settings that are an instance of it, as an argument.

``python -m gateway.configuration`` renders the reference of the options.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Sequence
from copy import copy
from typing import Any, Final, cast

from pydantic import create_model

from gateway.features.listed import FEATURES
from gateway.settings.feature_faults import FeatureError
from gateway.settings.tables.base import FeatureOptions, Section, listed_tables, single_tables
from gateway.settings.tables.root import FeatureRules, Settings


def compose(features: Iterable[FeatureRules], listed: str = "") -> type[Settings]:
    """Return the model of a configuration with the options of the core and of features.

    Of each table, the options of the core come first, then those of the features in their order, except for those
    that say behind which option they stand.

    Args:
        features: those of the gateway.
        listed: where their list stands, as "module:name"; a gateway with several workers needs it.

    Raises:
        FeatureError: a feature has options for a table that there is not, or behind an option that there is not, or one
            that is declared already: it would replace that, with its meaning and default.
    """
    features = tuple(features)
    single, lists = single_tables(Settings), listed_tables(Settings)
    for feature in features:
        if unknown := feature.options.keys() - {*single, *lists}:
            text = f"options for tables that the core does not have: {', '.join(sorted(unknown))}"
            raise FeatureError(f'feature "{feature.name}": {text}')
    fields: dict[str, Any] = {}
    for name, core in (single | lists).items():
        added = [(feature.name, feature.options[name]) for feature in features if name in feature.options]
        if added:
            table: Any = _mixed(core, added)
            fields[name] = (table, table()) if name in single else (list[table], copy(Settings.model_fields[name]))
    tables = [(feature.name, feature.tables) for feature in features if feature.tables is not None]
    composed = cast("type[Settings]", _mixed(Settings, tables, fields))
    composed.features, composed.listed = features, listed
    return composed


def composed_of(listed: str) -> type[Settings]:
    """Return the model of a configuration with the features of a list.

    Args:
        listed: where it stands, as "module:name".
    """
    if listed == GatewaySettings.listed:
        return GatewaySettings
    module, _, name = listed.partition(":")
    return compose(getattr(importlib.import_module(module), name), listed)


def _mixed(
    core: type[Section], added: Sequence[tuple[str, type[FeatureOptions]]], fields: dict[str, Any] | None = None
) -> type[Section]:
    """Return a table of the core with more options.

    Args:
        core: the table.
        added: what is mixed into it, each with the name of its feature.
        fields: declarations that replace those of the core.
    """
    # pydantic orders fields as their names first appear, from the last base class on: here in one that orders them.
    order = create_model("Order", __base__=Section, **cast("Any", dict.fromkeys(_order(core, added), (Any, None))))
    bases: tuple[type[Section], ...] = (*(options for _, options in reversed(added)), core, order)
    return create_model(
        core.__name__, __base__=bases, __doc__=core.__doc__, __module__=__name__, **cast("Any", fields or {})
    )


def _order(core: type[Section], added: Sequence[tuple[str, type[FeatureOptions]]]) -> list[str]:
    names = list(core.model_fields)
    for feature, options in added:
        which = f'feature "{feature}": {options.__qualname__} of {options.__module__}'
        if again := sorted(options.model_fields.keys() & set(names)):
            raise FeatureError(f"{which} declares again: {', '.join(again)}")
        if options.after and options.after not in names:
            raise FeatureError(f"{which} stands behind an option that there is not: {options.after}")
        place = names.index(options.after) + 1 if options.after else len(names)
        names[place:place] = options.model_fields
    return names


#: The configuration of a gateway with all features.
GatewaySettings: Final = compose(FEATURES, "gateway.features.listed:FEATURES")


if __name__ == "__main__":
    from gateway.settings.rendering import reference

    sys.exit(reference.main(sys.argv[1:], GatewaySettings))
