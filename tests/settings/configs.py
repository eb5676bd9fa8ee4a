"""Configurations for tests: a small valid one, changes to it, and what loading says. Nothing here is a test."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.settings.faults import ConfigError
from gateway.settings.loading.load import Loaded
from gateway.settings.toml import key_text, value_text
from tests.support.composed import Settings, load

#: One issuer, one upstream, one route; everything else by default.
SMALL: dict[str, Any] = {
    "issuers": [{"name": "main", "issuer": "https://idp.test/", "audience": ["api"]}],
    "upstreams": [{"name": "orders", "urls": ["http://127.0.0.1:9000"]}],
    "routes": [{"path": "/orders", "upstream": "orders"}],
}


def toml(config: Mapping[str, Any]) -> str:
    """Write a configuration as a TOML document."""
    lines = []
    for name, value in config.items():
        tables = (
            value if isinstance(value, list) and all(isinstance(entry, Mapping) for entry in value) and value else None
        )
        if tables is not None:
            for entry in tables:
                lines += [f"[[{key_text(name)}]]", *_pairs(entry)]
        elif isinstance(value, Mapping):
            lines += [f"[{key_text(name)}]", *_pairs(value)]
        else:
            lines.insert(0, f"{key_text(name)} = {value_text(value)}")
    return "\n".join(lines) + "\n"


def changed(table: str, **options: Any) -> dict[str, Any]:
    """Return ``SMALL`` with other options in a table; in the first entry of a list of tables."""
    config = copy.deepcopy(SMALL)
    place = config.setdefault(table, {})
    (place[0] if isinstance(place, list) else place).update(options)
    return config


def load_text(directory: Path, text: str, env: Mapping[str, str] | None = None, **flags: str) -> Loaded[Settings]:
    """Load a TOML text, with an environment and flags (``server_listen="..."``)."""
    file = directory / "gateway.toml"
    file.write_text(text, encoding="utf-8")
    return load(file, env or {}, {f"--{name}".replace("_", "-"): value for name, value in flags.items()})


def faults_of(directory: Path, config: Mapping[str, Any] | str, env: Mapping[str, str] | None = None) -> list[str]:
    """Return the lines that loading a configuration complains with; none when it is valid."""
    try:
        load_text(directory, config if isinstance(config, str) else toml(config), env)
    except ConfigError as error:
        return [str(fault) for fault in error.faults]
    return []


def warnings_of(directory: Path, config: Mapping[str, Any]) -> list[str]:
    """Return the warnings about a valid configuration."""
    return [str(warning) for warning in load_text(directory, toml(config)).warnings]


def _pairs(table: Mapping[str, Any]) -> list[str]:
    return [f"{key_text(key)} = {value_text(value)}" for key, value in table.items()]
