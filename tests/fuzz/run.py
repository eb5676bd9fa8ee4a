"""The bounded fuzz run behind ``scripts/fuzz``: many mutated tokens, two judges, one verdict.

Every token is put to the gateway's own verification as the pipeline calls it,
and every ``WIRE``-th also to its port over a socket. The oracle says
independently whether it may pass. A finding is any disagreement, any outcome
but acceptance and a refusal with 400, 401 or 403, and any error in the log.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random, SystemRandom

import uvloop

from tests.fuzz.oracle import acceptable
from tests.fuzz.stage import Stage, stage
from tests.fuzz.tokens import PUBLISHED, TokenMaker
from tests.support.gateways.lanes import running_in

#: One token in so many also goes over a socket.
WIRE = 50

#: A head with a token longer than this may be refused for its size.
LARGE = 60_000

#: Findings shown before the run gives up.
MAX_FINDINGS = 20


@dataclass
class Run:
    """One fuzz run: what to make, and what came out."""

    stage: Stage
    maker: TokenMaker
    seed: str
    outcomes: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    kinds: Counter[tuple[str, bool]] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    async def one(self, index: int) -> None:
        """Make token number ``index`` and judge it."""
        kind, token = self.maker.make(Random(f"{self.seed} {index}"))
        may_pass = acceptable(token, PUBLISHED, self.stage.now)
        self.kinds[kind, may_pass] += 1
        try:
            outcome = await self.stage.outcome(token)
        except Exception as error:
            outcome = type(error).__name__
            self._found(index, kind, f"the verification let out {outcome}")
        self.outcomes[outcome] += 1
        if (outcome == "accepted") != may_pass:
            self._found(index, kind, f"the gateway says {outcome}, the oracle {may_pass}")
        if index % WIRE == 0:
            await self._over_the_wire(index, kind, token, may_pass)

    async def _over_the_wire(self, index: int, kind: str, token: bytes, may_pass: bool) -> None:
        upstream, log = self.stage.upstream, self.stage.gateway.out
        before, logged = len(upstream.requests), len(log.getvalue())
        status = await self.stage.status(token)
        self.statuses[status] += 1
        # What stands after a line end is a field of its own, and blanks around a field's value are no part of it.
        received = token.partition(b"\r\n")[0].strip(b" \t")
        accepted = status == 200
        too_large = status == 431 and len(token) > LARGE
        if status not in (0, 200, 400, 401, 403) and not too_large:
            self._found(index, kind, f"status {status}")
        if (may_pass and not accepted) or (accepted and not acceptable(received, PUBLISHED, self.stage.now)):
            self._found(index, kind, f"status {status}, the oracle says {may_pass}")
        if len(upstream.requests) - before != accepted:
            self._found(
                index, kind, f"status {status}, but the upstream saw {len(upstream.requests) - before} requests"
            )
        await self.stage.gateway.settled()
        said = log.getvalue()[logged:].encode()
        if any(len(part) >= 30 and part in said for part in token.split(b".")):
            self._found(index, kind, "a part of the token is in the access log")

    def _found(self, index: int, kind: str, what: str) -> None:
        self.findings.append(f"{kind}: {what}\n    ./scripts/fuzz --seed {self.seed} --start {index} --count 1")


async def fuzz(count: int, seed: str, start: int, directory: Path) -> Run:
    """Judge ``count`` tokens from number ``start`` on."""
    async with stage(directory) as made:
        run = Run(made, TokenMaker(made.now), seed)
        for index in range(start, start + count):
            await run.one(index)
            if len(run.findings) >= MAX_FINDINGS:
                break
    run.findings += made.faults
    return run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0 when nothing was found."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="tokens to make (default: %(default)s)")
    parser.add_argument(
        "--seed", default=str(SystemRandom().randrange(1 << 32)), help="repeat a run (default: by chance)"
    )
    parser.add_argument("--lane", choices=("express", "full"), default="express", help="(default: %(default)s)")
    parser.add_argument("--access-log", choices=("json", "off"), default="json", help="(default: %(default)s)")
    parser.add_argument("--start", type=int, default=0, help="number of the first token (default: %(default)s)")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    with (
        running_in(options.lane, options.access_log),
        tempfile.TemporaryDirectory() as directory,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        run = runner.run(fuzz(options.count, options.seed, options.start, Path(directory)))
    _report(run, time.monotonic() - began)
    return 1 if run.findings else 0


def _report(run: Run, seconds: float) -> None:
    total, wire = sum(run.outcomes.values()), sum(run.statuses.values())
    print(f"seed {run.seed}: {total} tokens in {seconds:.1f} s, {wire} of them over sockets")
    print("\nverification:")
    for outcome, count in run.outcomes.most_common():
        print(f"  {count:7} {outcome}")
    print("\nmutation, and how many may pass:")
    for kind in dict(run.kinds):
        if kind[1] is False or (kind[0], False) not in run.kinds:
            print(f"  {run.kinds[kind[0], False] + run.kinds[kind[0], True]:7} {kind[0]}: {run.kinds[kind[0], True]}")
    print("\nstatus over sockets (0: closed without an answer):")
    for status, count in sorted(run.statuses.items()):
        print(f"  {count:7} {status}")
    print(f"\n{len(run.findings)} findings" + "".join(f"\n- {finding}" for finding in run.findings))


if __name__ == "__main__":
    sys.exit(main())
