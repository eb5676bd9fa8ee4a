"""pydantic-settings over given variables: from their names and texts to tables.

Only that library's reader is set up here. Which names exist is ``environment.py``'s
business, which imports this file when there is a variable or a flag to read: the
library takes a tenth of a start that needs none.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

from pydantic import create_model
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from gateway.settings.loading.literals import is_json_list, parse_json, words
from gateway.settings.tables.root import Settings


def read_variables(
    model: type[Settings], variables: Mapping[str, str], prefix: str, whole: Collection[str]
) -> dict[str, Any]:
    """Return the tables that variables make.

    Args:
        model: the composed configuration.
        variables: their texts, by name; each can be read.
        prefix: what their names begin with.
        whole: the tables that come whole, as JSON.
    """
    return _Source(_variables_of(model), variables, prefix, whole)()


class _Source(EnvSettingsSource):
    """pydantic-settings' reader over the given variables instead of the process's own."""

    def __init__(
        self, model: type[BaseSettings], variables: Mapping[str, str], prefix: str, whole: Collection[str]
    ) -> None:
        self._given = {name.lower(): text for name, text in variables.items()}
        self._whole = whole
        super().__init__(model, env_prefix=prefix)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._given

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Decode a list: JSON, or words between commas. Tables are JSON."""
        if field_name in self._whole or is_json_list(value):
            return parse_json(value)
        return words(value)


class _Variables(BaseSettings):
    """Tells pydantic-settings how a name is put together."""

    model_config = SettingsConfigDict(
        env_nested_delimiter="_", env_nested_max_split=1, extra="ignore", defer_build=True
    )


@cache
def _variables_of(model: type[Settings]) -> type[BaseSettings]:
    fields: dict[str, Any] = {name: (info.annotation, None) for name, info in model.model_fields.items()}
    return create_model("Variables", __base__=_Variables, **fields)
