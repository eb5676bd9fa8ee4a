"""The ``gateway`` command: flags become settings, settings start things.

Declares the commands of the core. What a command does is a function of a lower floor,
and the commands of a feature are in its folder. Exit codes: 0 done, 2 the
configuration or the command line is wrong, 1 anything else.
"""

from __future__ import annotations

import contextlib
import errno
import json
import platform
import sys
from importlib.metadata import version as distribution_version
from typing import Any

import click

from gateway import __version__
from gateway.configuration import GatewaySettings
from gateway.demo import run as demo_run
from gateway.process import standard_streams
from gateway.process import supervisor as workers
from gateway.server.seam.feature import features_of
from gateway.settings.feature_faults import Hook
from gateway.settings.loading.command_line import configured, load_given
from gateway.settings.loading.load import Loaded
from gateway.settings.rendering.effective import effective_toml
from gateway.settings.rendering.reference import json_schema
from gateway.settings.tables.root import Settings

#: The libraries whose versions decide how the gateway behaves.
LIBRARIES = ("aiohttp", "joserfc", "authlib", "cryptography", "orjson", "uvloop", "pydantic")


def versions() -> str:
    """Return the version of the gateway, of Python and of ``LIBRARIES``, one a line."""
    lines = [f"gateway {__version__}", f"{platform.python_implementation()} {platform.python_version()}"]
    return "\n".join(lines + [f"{name} {distribution_version(name)}" for name in LIBRARIES])


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message=versions().replace("%", "%%"))
def cli() -> None:
    """An API gateway that verifies JWT bearer tokens and forwards requests with trusted identity headers."""


@cli.command()
@configured(GatewaySettings)
def run(**given: Any) -> None:
    """Run the gateway in the foreground, until SIGTERM or SIGINT."""
    loaded = load_given(GatewaySettings, given)
    _print_warnings(loaded)
    sys.exit(workers.run_gateway(loaded.settings))


@cli.command()
@configured(GatewaySettings)
def check(**given: Any) -> None:
    """Read and check the whole configuration without listening."""
    loaded = load_given(GatewaySettings, given)
    _print_warnings(loaded)
    counts = ((len(getattr(loaded.settings, name)), name) for name in ("issuers", "upstreams", "routes"))
    click.echo("ok: " + ", ".join(f"{count} {name if count != 1 else name[:-1]}" for count, name in counts))


@cli.command()
@configured(GatewaySettings)
@click.option("--schema", is_flag=True, help="Print the JSON Schema of the configuration instead.")
def config(schema: bool, **given: Any) -> None:
    """Print the configuration in force as TOML, with the origin of each value."""
    click.echo(
        json_schema(GatewaySettings) if schema else effective_toml(load_given(GatewaySettings, given)).rstrip("\n")
    )


@cli.command()
@click.option("--once", is_flag=True, help="Send the three requests, print the results, and end.")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Where the gateway listens.  [default: 8080, or any free one]"
)
def demo(once: bool, port: int | None) -> None:
    """Run the gateway between a small identity provider and an echoing service, all on loopback."""
    sys.exit(demo_run.run_demo(once=once, port=port))


@cli.command()
@click.option("--issuer", default=demo_run.DEFAULT_ISSUER, show_default=True, help="The demo identity provider.")
@click.option(
    "--claim",
    "claims",
    multiple=True,
    metavar="K=V",
    help="A claim: V is parsed as JSON, otherwise taken as text. Repeatable.",
)
@click.option("--expires-in", type=click.IntRange(min=1), metavar="S", help="Seconds until the token expires.")
def token(issuer: str, claims: tuple[str, ...], expires_in: int | None) -> None:
    """Print a token from a running demo identity provider."""
    sys.exit(demo_run.print_token(issuer, dict(map(_claim, claims)), expires_in))


@cli.command()
def version() -> None:
    """Print the versions of the gateway, Python and its main libraries."""
    click.echo(versions())


for feature in features_of(GatewaySettings):
    with Hook(feature.name, "commands"):
        for command in feature.commands(GatewaySettings):
            cli.add_command(command)


def main() -> None:
    """Run the command line of this process."""
    standard_streams.open_closed()
    try:
        cli(prog_name="gateway")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EIO):  # of the output; others are reported where they happen
            raise
        with contextlib.suppress(OSError):
            click.echo(f"the output cannot be written: {(error.strerror or '').lower()}", err=True)
        standard_streams.drop_unwritten()
        sys.exit(1)


def _print_warnings(loaded: Loaded[Settings]) -> None:
    for warning in loaded.warnings:
        with contextlib.suppress(OSError):  # a full disk under the log is no reason not to start
            click.echo(f"warning: {warning}", err=True)


def _claim(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.BadParameter("must be name=value", param_hint="'--claim'")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
