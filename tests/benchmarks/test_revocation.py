"""benchmarks/revocation.py: it runs, measures what it says, and writes a result that can be judged.

Its numbers are not tested here: a loaded machine must not fail the suite.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.revocation import main, report
from tests.support.pace import paced


def test_one_short_run_writes_a_result_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All rows, with the rates of all gateways of the same run, and where it was measured."""
    output = tmp_path / "results" / "revocation.json"
    assert main(["--entries", "5000", "--rounds", "1", "--seconds", str(paced(0.4)), "--output", str(output)]) == 0
    content = json.loads(output.read_text())
    assert content["entries"] == 5000
    assert {name: len(rates) for name, rates in content["rates"].items()} == {"none": 1, "empty": 1, "full": 1}
    assert {"date", "command", "commit", "machine", "versions"} <= content.keys()
    assert len(content["results"]) == 9
    printed = capsys.readouterr().out
    assert all(title in printed for title in (*content["results"], *content["aims"]))


def test_what_misses_an_aim_is_said() -> None:
    gateway = {"rate": [100.0, 50.0], "resident_bytes": 0, "ready_seconds": 1.0}
    table = {"fill_seconds": 11.0, "longest_block_seconds": 0.021}
    table |= {f"{row}_{name}_seconds": 2e-6 for row in ("lookup", "first") for name in ("revoked", "not_revoked")}
    full = {"rate": [80.0, 40.0], "resident_bytes": 200 * 2**20, "ready_seconds": 3.0}
    found = {"table": table, "gateways": {"none": gateway, "empty": gateway, "full": full}, "server": "8.0.0"}
    content = report(1, found, [])
    assert not any(content["aims"].values())
    assert content["results"]["hot tokens against an empty list, median ratio"] == 0.8
