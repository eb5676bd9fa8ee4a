"""What commands share that load a configuration: the flags of its options, and how its faults are reported.

Exit codes: 0 done, 2 the configuration or the command line is wrong, 1 anything
else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from gateway.settings.faults import ConfigError
from gateway.settings.loading.environment import CONFIG, options
from gateway.settings.loading.load import Loaded, load
from gateway.settings.tables.root import Settings
from gateway.settings.toml import value_text

CONFIG_FAULT = 2

Function = TypeVar("Function", bound=Callable[..., Any])


def configured(model: type[Settings]) -> Callable[[Function], Function]:
    """Give a command ``--config`` and a flag for each option that has one.

    The command gets them as keyword arguments, which ``load_given`` understands.
    """

    def with_flags(command: Function) -> Function:
        for option in reversed(options(model)):
            default = value_text(option.info.default)
            text = f"{' '.join((option.info.description or '').split())}  [default: {default}]"
            command = click.option(option.flag, metavar="VALUE", help=text.replace("`", ""))(command)
        path = click.Path(path_type=Path)
        help_text = f"The TOML file.  [variable: {CONFIG}]"
        return click.option("--config", metavar="FILE", type=path, help=help_text)(command)

    return with_flags


def load_given(model: type[Settings], given: dict[str, Any]) -> Loaded[Settings]:
    """Load the configuration that the flags of a command name, or print every fault and exit."""
    flags = {f"--{name}".replace("_", "-"): text for name, text in given.items() if text is not None}
    file = flags.pop("--config", None)
    try:
        return load(model, file, os.environ, flags)
    except ConfigError as error:
        refuse(error.faults)


def refuse(faults: Iterable[object]) -> NoReturn:
    """Print what is wrong and exit."""
    for fault in faults:
        click.echo(str(fault), err=True)
    sys.exit(CONFIG_FAULT)
