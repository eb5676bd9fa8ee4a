"""The configuration in force, as TOML with the origin of each value.

Makes the text of ``gateway config``. The danger is a secret in it: options name
files for secrets, and of URLs only what cannot be a credential is shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, SecretStr

from gateway.settings.faults import KeyPath
from gateway.settings.loading.load import Loaded
from gateway.settings.tables.root import Settings
from gateway.settings.toml import key_text, value_text

#: What stands in place of a secret.
MASK = "***"

# The query of an address, where some providers want an API key.
_QUERY = re.compile(r"(https?://[^?#]*\?)[^#]+")
# The user and password of a Redis server; other addresses are refused with either.
_USER = re.compile(r"^((?:rediss?|unix)://)[^/?#]*@")


def effective_toml(loaded: Loaded[Settings]) -> str:
    """Return all values as TOML, each with ``# from: default|file|env|flag``."""
    return "\n".join(_lines(loaded)) + "\n"


def masked(value: Any) -> Any:
    """Return ``value`` with secrets replaced by ``MASK``."""
    if isinstance(value, SecretStr):
        return MASK if value.get_secret_value() else ""
    if isinstance(value, str):
        return _USER.sub(rf"\1{MASK}@", _QUERY.sub(rf"\1{MASK}", value))
    if isinstance(value, BaseModel):
        return masked(dict(value))
    if isinstance(value, list):
        return [masked(item) for item in value]
    if isinstance(value, Mapping):
        return {key: masked(item) for key, item in value.items()}
    return value


def _lines(loaded: Loaded[Settings]) -> Iterator[str]:
    for name, value in loaded.settings:
        if isinstance(value, list):
            for index, entry in enumerate(value):
                yield f"[[{name}]]"
                yield from _table(dict(entry), (name, index), loaded)
        else:
            yield f"[{name}]"
            yield from _table(dict(value) if isinstance(value, BaseModel) else value, (name,), loaded)


def _table(values: Mapping[str, Any], place: KeyPath, loaded: Loaded[Settings]) -> Iterator[str]:
    for key, value in values.items():
        yield f"{key_text(key)} = {value_text(masked(value))}  # from: {loaded.origin((*place, key))}"
    yield ""
