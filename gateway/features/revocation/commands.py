"""The command ``gateway revoke``: it writes a revocation where gateways read it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from typing import Any

import click

from gateway.clock import SystemClock
from gateway.features.revocation.writer import RevocationWriter, shown_end
from gateway.settings.loading.command_line import configured, load_given, refuse
from gateway.settings.tables.issuers import issuer_values
from gateway.settings.tables.root import Settings
from gateway.store.redis_link import StoreUnavailableError


def revoke_command(model: type[Settings]) -> click.Command:
    """Return the command for a composed configuration."""

    @click.command()
    @configured(model)
    @click.option("--jti", metavar="J", help="One token, by its jti.")
    @click.option("--sub", metavar="S", help="Every token of a subject; with --before only those issued before.")
    @click.option("--sid", metavar="D", help="Every token of a session.")
    @click.option("--issuer", metavar="I", help="Only tokens with this exact iss; alone it needs --before.")
    @click.option("--before", metavar="T", help="Only tokens issued before this: seconds since the epoch, or RFC 3339.")
    @click.option(
        "--expires",
        metavar="T",
        help="End of the revocation, or never.  [default: when every token issued so far has expired]",
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
        """Revoke tokens before they expire, in Redis or in the revocation file."""
        moments = {"before": _moment(before), "expires": _moment(expires)}
        _revoke(load_given(model, given).settings, {"jti": jti, "sub": sub, "sid": sid, "issuer": issuer, **moments})

    return revoke


def _revoke(settings: Settings, entry: Mapping[str, str | float | None]) -> None:
    """Write one revocation, and print its end and where it was written.

    Args:
        settings: the whole configuration.
        entry: the revocation's members; None for those that were not given.
    """
    issuer = entry["issuer"]
    writer = RevocationWriter(settings, SystemClock())
    if not writer.store:
        refuse(["neither revocation.file nor redis.url is set: set one of them to revoke"])
    try:
        revocation = writer.read(json.dumps({name: value for name, value in entry.items() if value is not None}))
    except ValueError as error:
        refuse([f"the revocation {error}"])
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


def _moment(text: str | None) -> str | float | None:
    """Return a moment as an entry has it: seconds as a number."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text
