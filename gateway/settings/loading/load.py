"""The way from a file, variables and flags to one valid configuration.

Joins the sources by precedence: flag, environment, file, default. Each source
has its own reader. Everything that is wrong is found in one go: an entry with a faulty
option is still compared with the others, by what is sound in it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from pydantic import ValidationError, create_model

from gateway.settings.checks import all_checks as checks
from gateway.settings.checks.warnings import find_warnings
from gateway.settings.faults import ConfigError, Fault, KeyPath, path_text, translate
from gateway.settings.loading.environment import CONFIG, Reading, read_environment, read_flags, read_short_names
from gateway.settings.readable import without_mark
from gateway.settings.tables.base import Section, listed_tables, single_tables
from gateway.settings.tables.root import Settings

_NOTHING = "name a file with --config, or set GATEWAY_ISSUER, GATEWAY_AUDIENCE and GATEWAY_UPSTREAM"

Model = TypeVar("Model", bound=Settings)
Model_co = TypeVar("Model_co", bound=Settings, covariant=True)


@dataclass(frozen=True, slots=True)
class ValueOrigin:
    """Where a value came from.

    Attributes:
        kind: ``default``, ``file``, ``env`` or ``flag``.
        name: the variable or flag; empty for the others.
    """

    kind: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind} ({self.name})" if self.name else self.kind


@dataclass(frozen=True, slots=True)
class Loaded(Generic[Model_co]):
    """A configuration that can be used.

    Attributes:
        settings: all values.
        origins: where each value that is no default came from, by the path of its key.
        warnings: what is allowed but probably not meant.
    """

    settings: Model_co
    origins: Mapping[KeyPath, ValueOrigin]
    warnings: tuple[Fault, ...]

    def origin(self, path: KeyPath) -> ValueOrigin:
        """Return where the value at ``path`` came from."""
        return self.origins.get(path, ValueOrigin("default"))


def load(model: type[Model], file: Path | None, env: Mapping[str, str], flags: Mapping[str, str]) -> Loaded[Model]:
    """Read, join and check the whole configuration.

    Args:
        model: the composed configuration.
        file: the TOML file; None takes ``GATEWAY_CONFIG``, and without that no file.
        env: the environment.
        flags: texts by flag, e.g. ``{"--server-listen": "[::]:8080"}``.

    Raises:
        ConfigError: with every fault of every place.
    """
    if file is None and env.get(CONFIG):
        file = Path(env[CONFIG])
    from_file = _read_file(model, file) if file else Reading()
    from_env, from_flags = read_environment(model, env), read_flags(model, flags)
    from_short = read_short_names(env, {**from_file.data, **from_env.data})
    readings = (from_short, from_file, from_env, from_flags)  # a later one wins
    data: dict[str, Any] = {}
    origins: dict[KeyPath, ValueOrigin] = {}
    for reading, kind in zip(readings, ("env", "file", "env", "flag"), strict=True):
        _join(model, data, reading, kind, origins)
    faults = [fault for reading in readings for fault in reading.faults]
    covered = {path for reading in readings for path in reading.covered}
    settings = _validate(model, data, origins, covered, faults)
    if faults or settings is None:
        raise ConfigError(_in_order(model, faults))
    return Loaded(settings, origins, tuple(_fault(*found, origins) for found in find_warnings(settings)))


def _read_file(model: type[Settings], file: Path) -> Reading:
    """Read a TOML file. When it cannot be read, nothing else that is missing is its fault."""
    reading = Reading()
    try:
        reading.data = tomllib.loads(without_mark(file.read_bytes()).decode("utf-8"))
    except OSError as error:
        message = f"cannot be read: {(error.strerror or type(error).__name__).lower()}"
    except UnicodeDecodeError as error:
        message = f"is not UTF-8 text, at byte {error.start}"
    except tomllib.TOMLDecodeError as error:
        message = f"is not TOML: {error}"
    except ValueError as error:
        message = str(error)
    except RecursionError:
        message = "is not TOML that can be read: nested too deeply"
    else:
        return reading
    reading.faults.append(Fault(str(file), message))
    reading.covered.update((name,) for name in model.model_fields)
    return reading


def _join(
    model: type[Settings], data: dict[str, Any], reading: Reading, kind: str, origins: dict[KeyPath, ValueOrigin]
) -> None:
    """Lay a reading over what is there: single tables option by option, the others whole."""
    for name, value in reading.data.items():
        below = data.get(name)
        if name in single_tables(model) and isinstance(value, Mapping) and isinstance(below, Mapping):
            data[name] = {**below, **value}
        else:
            data[name] = value
            for path in [path for path in origins if path[0] == name]:
                del origins[path]
        whole = ValueOrigin("file") if kind == "file" else ValueOrigin(kind, reading.origins.get((name,), ""))
        if kind == "file" or (name,) in reading.origins:
            origins.update(dict.fromkeys(_options(name, value), whole))
    origins.update({path: ValueOrigin(kind, name) for path, name in reading.origins.items()})


def _options(name: str, value: Any) -> list[KeyPath]:
    """Return the paths of the options that a table gives."""
    if isinstance(value, Mapping):
        return [(name, key) for key in value]
    if isinstance(value, list):
        return [(name, index, key) for index, entry in enumerate(value) if isinstance(entry, Mapping) for key in entry]
    return [(name,)]


def _validate(
    model: type[Model],
    data: dict[str, Any],
    origins: Mapping[KeyPath, ValueOrigin],
    covered: set[KeyPath],
    faults: list[Fault],
) -> Model | None:
    """Return the settings, or None; add what is wrong to ``faults``."""
    found: dict[KeyPath, str] = {}
    settings: Model | None = None
    try:
        settings = model.model_validate(data)
        sound = settings
    except ValidationError as error:
        found = translate(error.errors(include_url=False), data, model.model_json_schema())
        sound = _sound_part(model, data, set(found))
    found = {path: text for path, text in found.items() if path not in covered}
    if not data and not faults:
        found = {path: f"{text}; {_NOTHING}" for path, text in found.items()}
    names = data.get("identity")
    crossed = checks.find_faults(sound, set(found) | covered, list(names) if isinstance(names, Mapping) else [])
    faults += [_fault(path, text, origins) for path, text in (*found.items(), *crossed)]
    return settings


def _sound_part(model: type[Model], data: Mapping[str, Any], faulty: set[KeyPath]) -> Model:
    """Return what can still be compared: faulty options have their defaults, or are empty where they have none."""
    values: dict[str, Any] = {}
    single, listed = single_tables(model), listed_tables(model)
    for name in model.model_fields:
        raw = data.get(name)
        if name in listed:
            entries = raw if isinstance(raw, list) else []
            values[name] = [_sound_entry(listed[name], entry, (name, i), faulty) for i, entry in enumerate(entries)]
        else:
            values[name] = _sound_entry(single[name], raw, (name,), faulty) if name in single else {}
    return cast("Model", model.model_construct(**values))


def _sound_entry(model: type[Section], raw: Any, place: KeyPath, faulty: set[KeyPath]) -> Section:
    bad = {path[len(place)] for path in faulty if len(path) > len(place) and path[: len(place)] == place}
    good = {key: value for key, value in raw.items() if key not in bad} if isinstance(raw, Mapping) else {}
    return _with_empty_defaults(model).model_validate(good)


@cache
def _with_empty_defaults(model: type[Section]) -> type[Section]:
    """Return the model with empty values in place of required ones."""
    fields: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        if info.is_required():
            empty: str | list[str] = [] if name in ("audience", "urls") else ""
            fields[name] = (info.rebuild_annotation(), empty)
    return create_model(model.__name__, __base__=model, **fields)


def _fault(path: KeyPath, message: str, origins: Mapping[KeyPath, ValueOrigin]) -> Fault:
    """Make a fault that names the variable or flag behind its key, or behind the table that holds it."""
    nearest = next(
        (origins[path[:end]] for end in range(len(path), 0, -1) if path[:end] in origins), ValueOrigin("file")
    )
    return Fault(path_text(path), message, nearest.name)


def _in_order(model: type[Settings], faults: list[Fault]) -> list[Fault]:
    """Put faults in the order of the file's tables, other places first."""
    tables = list(model.model_fields)

    def table(fault: Fault) -> tuple[int, int]:
        name, _, rest = fault.path.partition("[")
        index = rest.partition("]")[0]
        name = name.partition(".")[0]
        return (tables.index(name) if name in tables else -1, int(index) if index.isdigit() else -1)

    return sorted(dict.fromkeys(faults), key=table)
