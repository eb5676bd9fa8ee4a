"""Result files: what is written of a scenario, and how it is read again. Numbers only; judgement is the report's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.model import Row

FOLDER = Path(__file__).with_name("results")
FILE = FOLDER / "suite.json"


class ResultError(Exception):
    """A result file cannot be read."""


@dataclass(frozen=True)
class Result:
    """One scenario as it was measured.

    Attributes:
        environment: date, command, commit, machine, versions, load, cores.
        method: rounds and seconds.
    """

    environment: dict[str, Any]
    method: dict[str, Any]
    rows: dict[str, Row]


def dump(result: Result) -> dict[str, Any]:
    """Return a result as JSON members, with the medians beside the rounds for readers of the file."""
    return {
        "environment": result.environment,
        "method": result.method,
        "rows": {name: _row(row) for name, row in result.rows.items()},
    }


def _row(row: Row) -> dict[str, Any]:
    if row.skipped:
        return {"title": row.title, "skipped": row.skipped}
    members: dict[str, Any] = {"title": row.title, "failures": row.failures}
    if row.described:
        members["measured"] = row.described
    for name, numbers in row.rounds.items():
        ordered = sorted(numbers)
        members[name] = {
            "median": _short((ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2),
            "least": _short(ordered[0]),
            "most": _short(ordered[-1]),
            "rounds": [_short(number) for number in numbers],
        }
    return members


def _short(number: float) -> float:
    return float(f"{number:.5g}")


def parse(members: Mapping[str, Any]) -> Result:
    """Undo ``dump``."""
    rows = {}
    for name, said in members["rows"].items():
        described = said.get("measured", {})
        rounds = {key: said[key]["rounds"] for key in said.keys() - {"measured"} if isinstance(said[key], dict)}
        rows[name] = Row(said["title"], rounds, said.get("failures", 0), said.get("skipped", ""), described)
    return Result(members["environment"], members["method"], rows)


def write(results: Mapping[str, Result], file: Path) -> None:
    """Write results by scenario name; scenarios of the file that were not run again stay as they are."""
    known: dict[str, Any] = json.loads(file.read_text("utf-8"))["scenarios"] if file.exists() else {}
    known |= {name: dump(result) for name, result in results.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {"benchmark": "suite", "scenarios": dict(sorted(known.items()))}
    file.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def read(folder: Path = FOLDER) -> dict[str, Result]:
    """Return the newest result of each scenario in a folder.

    Raises:
        ResultError: a file is not what ``write`` writes.
    """
    found: dict[str, Result] = {}
    for file in sorted(folder.glob("*.json")):
        try:
            content = json.loads(file.read_text("utf-8"))
            results = {name: parse(members) for name, members in content.get("scenarios", {}).items()}
            for name, result in results.items():
                if name not in found or found[name].environment["date"] < result.environment["date"]:
                    found[name] = result
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ResultError(f"{file.name}: {error!r}") from error
    return found
