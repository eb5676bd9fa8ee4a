"""The command ``gateway apikey``: it makes keys, of which the configuration gets the hash."""

from __future__ import annotations

import json

import click
from pydantic import ValidationError

from gateway.clock import SystemClock
from gateway.features.api_keys.key_file import header_problem
from gateway.features.api_keys.keys import hash_of, new_key
from gateway.features.api_keys.options import ApiKey, expires_at
from gateway.identity import header_rules
from gateway.settings.faults import translate
from gateway.settings.loading.command_line import refuse
from gateway.settings.tables.root import DEFAULT_IDENTITY
from gateway.settings.toml import value_text


@click.group()
def apikey() -> None:
    """API keys: what callers may present instead of a token."""


@apikey.command()
@click.option("--id", "name", required=True, metavar="I", help="Id of the key.")
@click.option("--owner", default="", metavar="O", help="Owner of the key (`sub`).  [default: the id]")
@click.option("--scope", "scopes", multiple=True, metavar="S", help="A scope that it grants. Repeatable.")
@click.option("--expires", default="", metavar="T", help="Expiry time, such as 2027-01-31T00:00:00Z.  [default: never]")
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
        refuse(f"--{str(path[0]).replace('scopes', 'scope')}: {text}" for path, text in found.items())
    if problem := header_problem(entry, header_rules(DEFAULT_IDENTITY)):
        refuse([f"--{problem[0]}: {problem[1]}"])
    if expires_at(entry) <= SystemClock().wall():
        refuse(["--expires: is in the past"])
    click.echo(key)
    click.echo(json.dumps(given) if as_line else "\n[[api_keys]]")
    if not as_line:
        click.echo("\n".join(f"{option} = {value_text(value)}" for option, value in given.items()))
