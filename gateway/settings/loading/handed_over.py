"""A validated configuration on its way to another process of the same gateway.

Writes it as JSON, and reads it as the same settings. What comes in was
validated by the process that sends it, so no value is judged again and nothing
that validates is built. The danger is another version of the gateway at the
other end, installed while this one runs: an option that one of them does not
have must not be dropped in silence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar, cast, get_args, get_origin

from gateway.settings.tables.base import Section
from gateway.settings.tables.root import Settings

Table = TypeVar("Table", bound=Section)
Composed = TypeVar("Composed", bound=Settings)


def written(settings: Settings) -> str:
    """Return a configuration as text for ``read``."""
    return settings.model_dump_json()


def read(model: type[Composed], text: str) -> Composed:
    """Return the configuration that ``written`` made a text of.

    Args:
        model: composed of the same features.
        text: from a process that is trusted as this one is: nothing in it is checked but the names of options.

    Raises:
        ValueError: the other process knows other options.
    """
    return _table(model, json.loads(text))


def _table(model: type[Table], given: Mapping[str, Any]) -> Table:
    if unlike := given.keys() ^ model.model_fields.keys():
        names = ", ".join(sorted(unlike))
        raise ValueError(f"the supervisor runs another version of the gateway, with other options: {names}")
    fields = model.model_fields.items()
    values = {name: _value(info.annotation, given[name]) for name, info in fields}
    return cast("Table", model.model_construct(**values))


def _value(kind: Any, value: Any) -> Any:
    """Return a value with the tables in it; all others are the same in JSON."""
    if isinstance(kind, type) and issubclass(kind, Section):
        return _table(kind, value)
    if get_origin(kind) is list and isinstance(entry := get_args(kind)[0], type) and issubclass(entry, Section):
        return [_table(entry, one) for one in value]
    return value
