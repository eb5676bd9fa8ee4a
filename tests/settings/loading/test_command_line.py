"""What commands share: flags that are options, faults on standard error, exit code 2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from gateway.settings.loading.command_line import CONFIG_FAULT, configured, load_given, refuse
from tests.settings.configs import SMALL, toml
from tests.support.composed import Settings


@click.command()
@configured(Settings)
def show(**given: Any) -> None:
    click.echo(load_given(Settings, given).settings.server.listen)


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(toml({**SMALL, "server": {"listen": "127.0.0.1:1"}}))
    assert CliRunner().invoke(show, ["--config", str(file)]).stdout == "127.0.0.1:1\n"
    given = ["--config", str(file), "--server-listen", "127.0.0.1:2"]
    assert CliRunner().invoke(show, given).stdout == "127.0.0.1:2\n"


def test_options_of_features_have_flags_too() -> None:
    assert "--watch-refuse-seconds" in CliRunner().invoke(show, ["--help"]).stdout


def test_every_fault_is_a_line() -> None:
    result = CliRunner().invoke(show, ["--tokens-cache-size", "x", "--limits-max-callers", "1"])
    assert (result.exit_code, result.stdout) == (CONFIG_FAULT, "")
    lines = [line.partition(" ")[0] for line in result.stderr.splitlines()]
    assert [line for line in lines if line in ("tokens.cache_size", "limits.max_callers")] == [
        "tokens.cache_size",
        "limits.max_callers",
    ]


def test_what_is_refused_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        refuse(["a", "b"])
    assert caught.value.code == CONFIG_FAULT
    assert capsys.readouterr().err == "a\nb\n"
