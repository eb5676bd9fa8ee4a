"""Running scenarios: measured one after the other, printed as they end, written to a file."""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks import affinity, wrk
from benchmarks.drive import LoadError
from benchmarks.environment import describe
from benchmarks.measure import MEASURES, Options
from benchmarks.model import Row, Scenario, judged, limited
from benchmarks.peers import PEERS
from benchmarks.process import ProcessError
from benchmarks.prove import ProofError
from benchmarks.results import Result, write
from benchmarks.stage import Stage, stage
from benchmarks.tokens import CACHE

PACKAGES = ("aiohttp", "uvloop", "cryptography", "joserfc", "orjson")


class SuiteError(Exception):
    """Some scenarios could not be measured."""


def run(
    scenarios: Iterable[Scenario], options: Options, arguments: Sequence[str], file: Path, cache: Path = CACHE
) -> dict[str, Result]:
    """Run scenarios and write each one's result as soon as it is there.

    Args:
        arguments: what was given on the command line, for the result file.

    Raises:
        SuiteError: a scenario could not be measured; all others were, and are in the file.
    """
    raise_open_files()
    results, faults = {}, []
    with stage(cache) as built:
        for scenario in scenarios:
            try:
                rows = MEASURES[scenario.kind](scenario, built, options, tell)
            except (LoadError, OSError, ProcessError, ProofError) as error:
                faults.append(f"{scenario.name}: {error}")
                tell(faults[-1])
                continue
            results[scenario.name] = result = Result(
                {**describe("benchmarks", arguments, PACKAGES), **tools(scenario, built)},
                {"rounds": options.rounds, "seconds": options.seconds},
                rows,
            )
            print("\n".join(table(scenario, rows)), flush=True)
            faults += [f"{scenario.name}: {row.title}: {row.skipped}" for row in rows.values() if row.is_wrong]
            write({scenario.name: result}, file)
    if faults:
        raise SuiteError("not measured: " + "; ".join(faults))
    return results


def raise_open_files() -> None:
    """Let this process and those that it starts open as many files as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # some systems refuse "unlimited"
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def tools(scenario: Scenario, built: Stage) -> dict[str, object]:
    """Return what took part: versions of the peers, who made the load, and which core each had."""
    peers = {name: PEERS[name] for name in dict.fromkeys(row.peer for row in scenario.rows.values())}
    cores = {"gateway": built.cores.subject, "load and service": built.cores.load}
    return {
        "peers": {peer.title: peer.version() for peer in peers.values() if not peer.missing()},
        "load": wrk.version() if built.driver.wrk and scenario.kind == "rate" else "the bundled generator",
        "cores": cores if built.cores != affinity.Cores(None, None) else "not pinned",
    }


def table(scenario: Scenario, rows: dict[str, Row]) -> list[str]:
    """Return what a terminal shows of a scenario: medians, spreads, and each goal's ratio."""
    lines = ["", f"{scenario.name}: {scenario.title}"]
    for row in rows.values():
        if row.skipped:
            lines.append(f"  {row.title:40} skipped: {row.skipped}")
        for metric in scenario.metrics:
            if spread := row.spread(metric):
                numbers = [f"{number:,.{metric.digits}f}" for number in (spread.median, spread.least, spread.most)]
                failed = f", {row.failures} failed" if row.failures else ""
                lines.append(f"  {row.title:40}{numbers[0]:>10} {metric.title} ({numbers[1]} to {numbers[2]}{failed})")
    lines += [f"  {title}: {share:.0%} of what load and service reach alone" for title, share in limited(rows)]
    for goal in scenario.goals:
        what = f"{goal.of} / {goal.to}" if goal.to else goal.of
        found = judged(goal, rows)
        if found is None:
            lines.append(f"  {what}: not measured")
            continue
        said = [
            f"{word} {bound:g}: {'met' if goal.reached(round(found.median, 2), bound) else 'MISSED'}"
            for word, bound in (("must", goal.must), ("aim", goal.aim))
            if bound is not None
        ]
        lines.append(f"  {what}: {found.median:.2f} ({found.least:.2f} to {found.most:.2f}); {', '.join(said)}")
    return lines


def tell(line: str) -> None:
    """Show progress on standard error."""
    print(line, file=sys.stderr, flush=True)
