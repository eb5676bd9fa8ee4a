"""benchmarks/startup.py: it runs, measures what it says, and writes a result that can be judged.

Its numbers are not tested here: a loaded machine must not fail the suite.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.startup import GOALS, main, report

#: What is measured beside the rows that have a goal.
BESIDE = {
    "start, keys from a file, s of the processor",
    "start, keys from a URL, s of the processor",
    "500 issuers ready, s of the processor",
    "memory after the start, MiB",
}


def test_one_short_round_writes_a_result_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every row, and where it was measured."""
    output = tmp_path / "results" / "startup.json"
    arguments = ["--rounds", "1", "--scale", "0.01", "--output", str(output)]
    assert main(arguments, tmp_path / "cache") == 0
    content = json.loads(output.read_text())
    assert set(content["results"]) == set(GOALS) | BESIDE
    assert {"date", "command", "commit", "machine", "versions", "method"} <= content.keys()
    printed = capsys.readouterr().out
    assert all(title in printed for title in (*content["results"], *content["musts"], *content["aims"]))
    assert str(tmp_path) not in json.dumps({**content, "command": ""})


def test_what_misses_a_goal_is_said() -> None:
    """Each by itself, and by the median."""
    content = report({name: [0.0, must * 1.01, must * 2] for name, (must, _) in GOALS.items()}, [])
    assert not any(content["musts"].values())
    assert all(report({name: [0.0, aim, must * 2] for name, (must, aim) in GOALS.items()}, [])["aims"].values())
