"""``gateway apikey``: the key that is printed once, and the entry that lets it in."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import cli
from tests.settings.configs import changed, toml


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, prog_name="gateway")


def test_apikey_new_prints_a_key_once_and_the_entry_to_store(tmp_path: Path) -> None:
    """The entry, put into a configuration as it is, lets the key in."""
    arguments = (
        "--id",
        "partner",
        "--owner",
        "Ann",
        "--scope",
        "a",
        "--scope",
        "b:c",
        "--expires",
        "2999-01-31T00:00:00Z",
    )
    result = _run("apikey", "new", *arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    key, _, text = result.stdout.partition("\n\n")
    assert re.fullmatch("gwk_partner_[0-9a-f]{64}", key)
    (entry,) = tomllib.loads(text)["api_keys"]
    assert entry == {
        "id": "partner",
        "hash": "sha256:" + hashlib.sha256(key.encode()).hexdigest(),
        "owner": "Ann",
        "scopes": ["a", "b:c"],
        "expires": "2999-01-31T00:00:00Z",
    }
    assert key not in text
    (tmp_path / "gateway.toml").write_text(toml(changed("routes", credentials=["api_key"])) + text)
    assert _run("check", "--config", str(tmp_path / "gateway.toml")).exit_code == 0
    assert _run("apikey", "new", *arguments).stdout.splitlines()[0] != key


def test_apikey_new_prints_a_line_for_the_file(tmp_path: Path) -> None:
    """One line with JSON below the key; what was not asked for is left out."""
    result = _run("apikey", "new", "--id", "partner", "--json")
    key, line = result.stdout.splitlines()
    hashed = "sha256:" + hashlib.sha256(key.encode()).hexdigest()
    assert json.loads(line) == {"id": "partner", "hash": hashed}
    (tmp_path / "keys.jsonl").write_text(line + "\n")
    config = {**changed("routes", credentials=["api_key"]), "tokens": {"api_keys_file": str(tmp_path / "keys.jsonl")}}
    (tmp_path / "gateway.toml").write_text(toml(config))
    assert _run("check", "--config", str(tmp_path / "gateway.toml")).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "faults"),
    [
        pytest.param([], ["--id"], id="no-id"),
        pytest.param(["--id", "a b"], ["--id: must be up to 64 letters"], id="id"),
        pytest.param(["--id", "é\udcff"], ["--id: "], id="no-text"),
        pytest.param(["--id", "a", "--scope", "x y"], ["--scope: is not a scope"], id="scope"),
        pytest.param(["--id", "a", "--owner", "x\ny"], ["--owner: cannot be sent to services"], id="owner"),
        pytest.param(["--id", "a", "--expires", "soon"], ["--expires: must be a date-time"], id="expires"),
        pytest.param(["--id", "a", "--expires", "2020-01-01T00:00:00Z"], ["--expires: is in the past"], id="past"),
        pytest.param(["--id", "a", "--claim", "x=y"], ["No such option"], id="unknown"),
        pytest.param(["--id", "-", "--scope", '"', "--expires", "x"], ["--id: ", "--scope: ", "--expires: "], id="all"),
    ],
)
@pytest.mark.rule("C82", "R381")
def test_apikey_new_makes_no_key_of_a_faulty_entry(arguments: list[str], faults: list[str]) -> None:
    """Every fault at once, exit code 2, and no key on standard output."""
    result = _run("apikey", "new", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert [fault for fault in faults if fault not in result.stderr] == []
