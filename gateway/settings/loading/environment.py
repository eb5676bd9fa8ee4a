"""From variables and flags to the tables of a configuration.

Names are derived here and nowhere written: ``[server] listen`` is
``GATEWAY_SERVER_LISTEN`` and ``--server-listen``. pydantic-settings finds the
values under these names; this file decides which names exist, so that a
misspelt one is a fault instead of being ignored. Flags are read as if they
were variables, so that both mean the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import create_model
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from gateway.settings.faults import Fault, KeyPath, did_you_mean, path_text
from gateway.settings.loading.literals import is_json_list, is_text, parse_json, place_of, typed, words
from gateway.settings.tables.base import single_tables
from gateway.settings.tables.root import Settings

VARIABLE_PREFIX = "GATEWAY_"

#: Names the configuration file, as ``--config`` does.
CONFIG = "GATEWAY_CONFIG"
#: The one-issuer, one-upstream case without a file.
SHORT_ISSUER, SHORT_AUDIENCE = "GATEWAY_ISSUER", "GATEWAY_AUDIENCE"
SHORT_JWKS_URL, SHORT_UPSTREAM = "GATEWAY_JWKS_URL", "GATEWAY_UPSTREAM"
SHORT_NAMES = (SHORT_ISSUER, SHORT_AUDIENCE, SHORT_JWKS_URL, SHORT_UPSTREAM)
#: What the short names stand for, and what therefore cannot come from elsewhere at the same time.
SHORT_TABLES = ("issuers", "upstreams", "routes")

# CGI/1.1 (RFC 3875 section 4.1.4) happens to own a name with our prefix.
_FOREIGN = frozenset({"GATEWAY_INTERFACE"})
# A Kubernetes Service called "gateway" or "gateway-..." puts these into the environment of every pod beside it.
_KUBERNETES = re.compile(
    r"GATEWAY(_[A-Z0-9]+)*_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_KUBERNETES_PORT = re.compile(r"GATEWAY(_[A-Z0-9]+)*_PORT")
_KUBERNETES_URL = re.compile(r"(tcp|udp|sctp)://")

_NO_TEXT = "is not UTF-8 text"


@dataclass(slots=True)
class Reading:
    """What one place of configuration says.

    Attributes:
        data: the tables, as a file would have them.
        origins: for each key found, the variable or flag.
        faults: what could not be read.
        covered: the keys that these faults are about: they are not reported as missing, too.
    """

    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    covered: set[KeyPath] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Option:
    """One option that has a variable and a flag.

    Attributes:
        section: the name of its table.
        name: its name in the table.
        info: its declaration.
    """

    section: str
    name: str
    info: FieldInfo

    @property
    def variable(self) -> str:
        """The environment variable."""
        return variable_name(self.section, self.name)

    @property
    def flag(self) -> str:
        """The flag of the command line."""
        return f"--{self.section}-{self.name}".replace("_", "-")


def variable_name(*path: str) -> str:
    """Return the environment variable of a table or of an option in one."""
    return VARIABLE_PREFIX + "_".join(path).upper()


@cache
def options(model: type[Settings]) -> tuple[Option, ...]:
    """Return the options that have a variable and a flag: those of the single tables."""
    return tuple(
        Option(section, name, info)
        for section, table in single_tables(model).items()
        for name, info in table.model_fields.items()
    )


@cache
def table_names(model: type[Settings]) -> tuple[str, ...]:
    """Return the tables that are given whole, as JSON: those with entries of the user's own number or names."""
    return tuple(name for name in model.model_fields if name not in single_tables(model))


def read_environment(model: type[Settings], variables: Mapping[str, str]) -> Reading:
    """Read the variables with our prefix, for a composed configuration. A name that means nothing is a fault.

    The four short names and ``GATEWAY_CONFIG`` are left to ``read_short_names``
    and to the caller.
    """
    ours = {name: text for name, text in variables.items() if name.startswith(VARIABLE_PREFIX)}
    known: dict[str, KeyPath] = {option.variable: (option.section, option.name) for option in options(model)}
    known.update({variable_name(name): (name,) for name in table_names(model)})
    unknown = [name for name in sorted(ours) if name not in known and not _is_other(name, ours[name])]
    reading = _read(model, {name: text for name, text in ours.items() if name in known}, known)
    names = (*known, *SHORT_NAMES, CONFIG)
    reading.faults += [Fault(name, "unknown variable" + did_you_mean(name, names)) for name in unknown]
    return reading


def read_flags(model: type[Settings], flags: Mapping[str, str]) -> Reading:
    """Read flags, given with their dashes, as if they were variables."""
    by_flag = {option.flag: option for option in options(model)}
    given = {by_flag[flag].variable: flag for flag in flags}
    known: dict[str, KeyPath] = {by_flag[flag].variable: (by_flag[flag].section, by_flag[flag].name) for flag in flags}
    reading = _read(model, {variable: flags[flag] for variable, flag in given.items()}, known)
    reading.origins = {path: given[variable] for path, variable in reading.origins.items()}
    reading.faults = [Fault(fault.path, fault.message, given[fault.origin]) for fault in reading.faults]
    return reading


def read_short_names(variables: Mapping[str, str], other: Mapping[str, Any]) -> Reading:
    """Read the four short names into an issuer, an upstream and a route.

    Args:
        variables: the environment; empty short names count as not set.
        other: what flags, variables and the file gave. If it has an issuer, an
            upstream or a route, the short names are refused: it would not be clear which was meant.
    """
    given = {name: variables[name].strip() for name in SHORT_NAMES if variables.get(name, "").strip()}
    reading = Reading(faults=[Fault(name, _NO_TEXT) for name, text in given.items() if not is_text(text)])
    if not given or reading.faults:
        return reading
    if taken := [name for name in SHORT_TABLES if name in other]:
        message = f"only for a configuration without issuers, upstreams and routes of its own; this one has {taken[0]}"
        reading.faults += [Fault(name, message) for name in given]
        return reading
    upstream: dict[str, Any] = {"name": "default"}
    issuer: dict[str, Any] = {"name": "default"}
    places: dict[str, tuple[dict[str, Any], KeyPath]] = {
        SHORT_ISSUER: (issuer, ("issuers", 0, "issuer")),
        SHORT_AUDIENCE: (issuer, ("issuers", 0, "audience")),
        SHORT_JWKS_URL: (issuer, ("issuers", 0, "jwks_url")),
        SHORT_UPSTREAM: (upstream, ("upstreams", 0, "urls")),
    }
    for name, (table, path) in places.items():
        if name in given:
            table[str(path[-1])] = words(given[name]) if name in (SHORT_AUDIENCE, SHORT_UPSTREAM) else given[name]
            reading.origins[path] = name
        elif name != SHORT_JWKS_URL:
            reading.faults.append(Fault(name, f"is needed together with {next(iter(given))}"))
            reading.covered.add(path)
    made: tuple[tuple[KeyPath, str], ...] = (
        (("issuers", 0, "name"), SHORT_ISSUER),
        (("upstreams", 0, "name"), SHORT_UPSTREAM),
        (("routes", 0, "path"), SHORT_UPSTREAM),
        (("routes", 0, "upstream"), SHORT_UPSTREAM),
    )
    reading.origins.update(made)
    reading.data = {"issuers": [issuer], "upstreams": [upstream], "routes": [{"path": "/", "upstream": "default"}]}
    return reading


class _Source(EnvSettingsSource):
    """pydantic-settings' reader over the given variables instead of the process's own."""

    def __init__(self, model: type[Settings], variables: Mapping[str, str]) -> None:
        self._given = {name.lower(): text for name, text in variables.items()}
        self._whole = table_names(model)
        super().__init__(_variables_of(model))

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
        env_prefix=VARIABLE_PREFIX, env_nested_delimiter="_", env_nested_max_split=1, extra="ignore"
    )


@cache
def _variables_of(model: type[Settings]) -> type[BaseSettings]:
    fields: dict[str, Any] = {name: (info.annotation, None) for name, info in model.model_fields.items()}
    return create_model("Variables", __base__=_Variables, **fields)


def _read(model: type[Settings], variables: Mapping[str, str], known: Mapping[str, KeyPath]) -> Reading:
    """Read known variables. Those whose text is not the JSON that it should be are faults."""
    reading = Reading()
    readable = {}
    lists = {option.variable for option in options(model) if _takes_list(option.info.annotation)}
    for name, text in variables.items():
        if not is_text(text):
            reading.faults.append(Fault(path_text(known[name]), _NO_TEXT, name))
            reading.covered.add(known[name])
            continue
        if len(known[name]) == 1 or (name in lists and is_json_list(text)):
            try:
                parse_json(text)
            except (ValueError, RecursionError) as error:
                reading.faults.append(Fault(path_text(known[name]), f"is not JSON: {place_of(error)}", name))
                reading.covered.add(known[name])
                continue
        readable[name] = text
        reading.origins[known[name]] = name
    reading.data = _Source(model, readable)()
    for option in options(model):
        table = reading.data.get(option.section, {})
        text = table.get(option.name)
        if isinstance(text, str):  # not decoded by pydantic-settings: no list, or an empty one
            table[option.name] = words(text) if option.variable in lists else typed(option.info, text)
    return reading


def _takes_list(annotation: Any) -> bool:
    """Tell whether an option is a list, or one value or a list of them."""
    kind = get_origin(annotation)
    if kind is Annotated:
        return _takes_list(get_args(annotation)[0])
    return kind is list or (kind in (Union, UnionType) and any(map(_takes_list, get_args(annotation))))


def _is_other(name: str, text: str) -> bool:
    """Tell whether a variable with our prefix is known, but no option."""
    if name in SHORT_NAMES or name == CONFIG or name in _FOREIGN or _KUBERNETES.fullmatch(name):
        return True
    return bool(_KUBERNETES_PORT.fullmatch(name) and _KUBERNETES_URL.match(text))
