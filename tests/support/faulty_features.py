"""Features that fail on purpose, in this process and in workers: one that is well, and one whose hook fails.

What fails is an environment variable, because workers are told nothing but where the list stands. As a program, this
is ``gateway run`` with these features; its argument is a configuration in JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

from gateway.clock import Clock
from gateway.configuration import compose
from gateway.process.supervisor import run_gateway
from gateway.server.seam.feature import Core, Feature, HandOut, Part
from gateway.settings.problems import Problem, Sound
from gateway.settings.tables.root import Settings

#: Where the list stands, for workers.
LISTED = "tests.support.faulty_features:FAULTY"

#: The variable that names the hook which fails; the file to which the well one writes what becomes of it.
FAILING, NOTES = "FAULTY_HOOK", "FAULTY_NOTES"


def fail(hook: str) -> None:
    """Fail as a programming fault does, if this hook is meant to."""
    if os.environ.get(FAILING) == hook:
        raise LookupError("s3cret")


def noted() -> dict[str, list[str]]:
    """Return what became of the part that is well, by process."""
    found: dict[str, list[str]] = {}
    path = Path(os.environ[NOTES])
    for line in path.read_text().splitlines() if path.exists() else ():
        process, what = line.split()
        found.setdefault(process, []).append(what)
    return found


class WellPart(Part):
    """Notes its start and its stop."""

    async def start(self) -> None:
        self._note("started")

    async def stop(self) -> None:
        self._note("stopped")

    def _note(self, what: str) -> None:
        if path := os.environ.get(NOTES):
            with Path(path).open("a") as file:
                file.write(f"{os.getpid()} {what}\n")


class WellFeature(Feature):
    """Has such a part."""

    name = "well"

    def build(self, core: Core) -> Part:
        return WellPart()


class FaultyPart(Part):
    """Fails to start, or does not stop, however often it is cancelled; or both."""

    async def start(self) -> None:
        fail("start")
        if os.environ.get(FAILING) == "second" and len(noted()) > 1:
            raise LookupError
        if os.environ.get(FAILING) == "start-and-stop":
            raise OSError("no such file")

    async def stop(self) -> None:
        while os.environ.get(FAILING) in ("stop", "start-and-stop"):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                continue


class FaultyFeature(Feature):
    """Fails in whichever hook is named."""

    name = "faulty"

    def check(self, settings: Settings, sound: Sound) -> Iterator[Problem]:
        fail("check")
        return iter(())

    def claims(self, settings: Settings) -> frozenset[str]:
        fail("claims")
        return frozenset()

    def open_files(self, settings: Settings) -> int:
        fail("open_files")
        return 0

    def pages(self, settings: Settings, clock: Clock, hand_out: HandOut) -> Sequence[web.RouteDef]:
        fail("pages")
        return ()

    def build(self, core: Core) -> Part:
        fail("build")
        return FaultyPart()


FAULTY = (WellFeature(), FaultyFeature())


def main(configuration: Mapping[str, Any]) -> int:
    """Run a gateway with these features."""
    return run_gateway(compose(FAULTY, LISTED).model_validate(configuration))


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
