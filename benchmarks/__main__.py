"""The benchmark suite: ``python -m benchmarks run``, ``list`` and ``report``.

Only the command line lives here.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from benchmarks import report
from benchmarks.measure import Options
from benchmarks.process import ProcessError
from benchmarks.results import FILE, ResultError
from benchmarks.scenarios import BY_NAME, SCENARIOS
from benchmarks.suite import SuiteError, run
from benchmarks.tokens import CACHE

#: A first try: enough to see that everything works, too short for numbers that mean anything.
QUICK = Options(rounds=2, seconds=2.0, scale=0.1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; 0 = done, 1 = something could not be measured or is stale."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser().parse_args(arguments)
    try:
        match options.command:
            case "run":
                return _run(options, arguments)
            case "list":
                return _list()
            case _:
                return report.check() if options.check else report.write()
    except (SuiteError, ProcessError, ResultError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    made = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.split("\n")[0])
    commands = made.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="measure scenarios, print them, write the result file")
    running.add_argument("--scenario", action="append", choices=BY_NAME, metavar="NAME", help="repeatable; else all")
    running.add_argument("--rounds", type=int, help=f"how often each row is measured (default {Options.rounds})")
    running.add_argument("--seconds", type=float, help=f"of load in each round (default {Options.seconds:g})")
    running.add_argument("--quick", action="store_true", help="a first try; its result is kept out of the report")
    running.add_argument("--output", type=Path, metavar="FILE", help="other scenarios that it holds stay in it")
    commands.add_parser("list", help="print the scenarios")
    reporting = commands.add_parser("report", help="render docs/benchmarks.md and the plots from the result files")
    reporting.add_argument("--check", action="store_true", help="change nothing; fail if they are stale")
    return made


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    base = QUICK if options.quick else Options()
    chosen = Options(options.rounds or base.rounds, options.seconds or base.seconds, base.scale)
    before = signal.signal(signal.SIGTERM, _leave)
    names = options.scenario or [scenario.name for scenario in SCENARIOS if not scenario.optional]
    file = options.output or (CACHE / "quick.json" if options.quick else FILE)
    try:
        run([BY_NAME[name] for name in names], chosen, shown(arguments), file)
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _leave(number: int, _: FrameType | None) -> None:
    """End the run as an error would: what was started for it is ended, too."""
    raise SystemExit(128 + number)


def shown(arguments: Sequence[str]) -> list[str]:
    """Return the arguments without the file's place, which says something of this machine only."""
    kept, skip = [], False
    for argument in arguments:
        if not skip and not argument.startswith("--output"):
            kept.append(argument)
        skip = argument == "--output"
    return kept


def _list() -> int:
    for scenario in SCENARIOS:
        note = " (only when it is named)" if scenario.optional else ""
        print(f"{scenario.name:16}{scenario.title}{note}\n{'':16}{', '.join(scenario.rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
