"""The ``gateway`` command: flags become settings, settings start things.

Only the commands and the writing of faults live here; what a command does is a
function of a lower floor. Exit codes: 0 done, 2 the configuration or the
command line is wrong, 1 anything else.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
from pydantic import ValidationError

from gateway import __version__
from gateway.clock import SystemClock
from gateway.demo import run as demo_run
from gateway.features.api_keys.key_file import header_problem
from gateway.features.api_keys.keys import hash_of, new_key
from gateway.features.api_keys.options import ApiKey, expires_at
from gateway.features.revocation.writer import RevocationWriter, shown_end
from gateway.identity import header_rules
from gateway.process import standard_streams
from gateway.process import supervisor as workers
from gateway.settings import environment
from gateway.settings.effective import effective_toml
from gateway.settings.faults import ConfigError, translate
from gateway.settings.load import Loaded, load
from gateway.settings.reference import json_schema
from gateway.settings.tables.issuers import issuer_values
from gateway.settings.tables.root import DEFAULT_IDENTITY
from gateway.settings.toml import value_text
from gateway.store.redis_link import StoreUnavailableError

#: The libraries whose versions decide how the gateway behaves.
LIBRARIES = ("aiohttp", "joserfc", "authlib", "cryptography", "orjson", "uvloop", "pydantic")

CONFIG_FAULT = 2

Function = TypeVar("Function", bound=Callable[..., Any])


def versions() -> str:
    """Return the version of the gateway, of Python and of ``LIBRARIES``, one a line."""
    lines = [f"gateway {__version__}", f"{platform.python_implementation()} {platform.python_version()}"]
    return "\n".join(lines + [f"{name} {distribution_version(name)}" for name in LIBRARIES])


def configured(command: Function) -> Function:
    """Give a command ``--config`` and a flag for each option that has one.

    The command gets them as keyword arguments, which ``_load`` understands.
    """
    for option in reversed(environment.options()):
        default = value_text(option.info.default)
        text = f"{' '.join((option.info.description or '').split())}  [default: {default}]"
        command = click.option(option.flag, metavar="VALUE", help=text.replace("`", ""))(command)
    path = click.Path(path_type=Path)
    help_text = f"The TOML file.  [variable: {environment.CONFIG}]"
    return click.option("--config", metavar="FILE", type=path, help=help_text)(command)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message=versions().replace("%", "%%"))
def cli() -> None:
    """An API gateway that verifies JWT bearer tokens and forwards requests with trusted identity headers."""


@cli.command()
@configured
def run(**given: Any) -> None:
    """Run the gateway in the foreground, until SIGTERM or SIGINT."""
    loaded = _load(given)
    _print_warnings(loaded)
    sys.exit(workers.run(loaded.settings))


@cli.command()
@configured
def check(**given: Any) -> None:
    """Read and check the whole configuration without listening."""
    loaded = _load(given)
    _print_warnings(loaded)
    counts = ((len(getattr(loaded.settings, name)), name) for name in ("issuers", "upstreams", "routes"))
    click.echo("ok: " + ", ".join(f"{count} {name if count != 1 else name[:-1]}" for count, name in counts))


@cli.command()
@configured
@click.option("--schema", is_flag=True, help="Print the JSON Schema of the configuration instead.")
def config(schema: bool, **given: Any) -> None:
    """Print the configuration in force as TOML, with the origin of each value."""
    click.echo(json_schema() if schema else effective_toml(_load(given)).rstrip("\n"))


@cli.command()
@click.option("--once", is_flag=True, help="Send the three requests, print the results, and end.")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Where the gateway listens.  [default: 8080, or any free one]"
)
def demo(once: bool, port: int | None) -> None:
    """Run the gateway between a small identity provider and an echoing service, all on loopback."""
    sys.exit(demo_run.demo(once=once, port=port))


@cli.command()
@click.option("--issuer", default=demo_run.DEFAULT_ISSUER, show_default=True, help="The demo identity provider.")
@click.option("--claim", "claims", multiple=True, metavar="K=V", help="A claim; V is JSON, or else text. Repeatable.")
@click.option("--expires-in", type=click.IntRange(min=1), metavar="S", help="Seconds until the token expires.")
def token(issuer: str, claims: tuple[str, ...], expires_in: int | None) -> None:
    """Print a token from a running demo identity provider."""
    sys.exit(demo_run.token(issuer, dict(map(_claim, claims)), expires_in))


@cli.group()
def apikey() -> None:
    """API keys: what callers may present instead of a token."""


@apikey.command()
@click.option("--id", "name", required=True, metavar="I", help="What the key is called, in the configuration and here.")
@click.option("--owner", default="", metavar="O", help="Whom it speaks for.  [default: the id]")
@click.option("--scope", "scopes", multiple=True, metavar="S", help="A scope that it grants. Repeatable.")
@click.option("--expires", default="", metavar="T", help="Its end, such as 2027-01-31T00:00:00Z.  [default: never]")
@click.option("--json", "as_line", is_flag=True, help="Print the entry as a line for `api_keys_file`, not as TOML.")
def new(name: str, owner: str, scopes: tuple[str, ...], expires: str, as_line: bool) -> None:
    """Make a key: print it, this once, and below it the entry to store, which holds its hash only."""
    key = new_key(name)
    options = {"id": name, "hash": hash_of(key), "owner": owner, "scopes": list(scopes), "expires": expires}
    given = {option: value for option, value in options.items() if value}
    try:
        entry = ApiKey.model_validate(given)
    except ValidationError as error:
        found = translate(error.errors(include_url=False), given, ApiKey.model_json_schema())
        _refuse(f"--{str(path[0]).replace('scopes', 'scope')}: {text}" for path, text in found.items())
    if problem := header_problem(entry, header_rules(DEFAULT_IDENTITY)):
        _refuse([f"--{problem[0]}: {problem[1]}"])
    if expires_at(entry) <= SystemClock().wall():
        _refuse(["--expires: is in the past"])
    click.echo(key)
    click.echo(json.dumps(given) if as_line else "\n[[api_keys]]")
    if not as_line:
        click.echo("\n".join(f"{option} = {value_text(value)}" for option, value in given.items()))


@cli.command()
@configured
@click.option("--jti", metavar="J", help="One token, by its jti.")
@click.option("--sub", metavar="S", help="Every token of a subject; with --before only those issued before.")
@click.option("--sid", metavar="D", help="Every token of a session.")
@click.option("--issuer", metavar="I", help="Only tokens with this exact iss; alone it needs --before.")
@click.option("--before", metavar="T", help="Only tokens issued before this: seconds since the epoch, or RFC 3339.")
@click.option(
    "--expires", metavar="T", help="Until when; or never.  [default: until no token issued so far can be good any more]"
)
def revoke(
    jti: str | None,
    sub: str | None,
    sid: str | None,
    issuer: str | None,
    before: str | None,
    expires: str | None,
    **given: Any,
) -> None:
    """Take tokens back before they expire: in Redis, or without it in the file of revocations."""
    settings = _load(given).settings
    writer = RevocationWriter(settings, SystemClock())
    if not writer.store:
        _refuse(["revocation.file: is empty, and so is redis.url: there is nowhere to write a revocation to"])
    entry = {
        "jti": jti,
        "sub": sub,
        "sid": sid,
        "issuer": issuer,
        "before": _moment(before),
        "expires": _moment(expires),
    }
    try:
        revocation = writer.read(json.dumps({name: value for name, value in entry.items() if value is not None}))
    except ValueError as error:
        _refuse([f"the revocation {error}"])
    if issuer and not any(issuer in issuer_values(one) for one in settings.issuers):
        click.echo("warning: --issuer: no configured issuer has this value", err=True)
    try:
        asyncio.run(writer.write([revocation]))
    except StoreUnavailableError as error:
        click.echo(f"nothing was revoked: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        click.echo(f"nothing was revoked: the file cannot be written: {(error.strerror or '').lower()}", err=True)
        sys.exit(1)
    click.echo(f"revoked, {shown_end(revocation)}; written to {writer.store}")


@cli.command()
def version() -> None:
    """Print the version, and those of Python and of the libraries that matter."""
    click.echo(versions())


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


def _load(given: dict[str, Any]) -> Loaded:
    """Load the configuration, or print every fault and exit."""
    flags = {f"--{name}".replace("_", "-"): text for name, text in given.items() if text is not None}
    file = flags.pop("--config", None)
    try:
        return load(file, os.environ, flags)
    except ConfigError as error:
        _refuse(error.faults)


def _refuse(faults: Iterable[object]) -> NoReturn:
    for fault in faults:
        click.echo(str(fault), err=True)
    sys.exit(CONFIG_FAULT)


def _print_warnings(loaded: Loaded) -> None:
    for warning in loaded.warnings:
        with contextlib.suppress(OSError):  # a full disk under the log is no reason not to start
            click.echo(f"warning: {warning}", err=True)


def _moment(text: str | None) -> str | float | None:
    """Return a moment as an entry has it: seconds as a number."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def _claim(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.BadParameter("must be name=value", param_hint="'--claim'")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
