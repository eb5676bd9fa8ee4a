"""Rows that are no gateways: the service asked directly, and a sketch of a proxy whose file the caller names."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks.peers.base import Peer, Place, Setup, Work

#: Names the file of the sketch: a program with the arguments PORT UPSTREAM_PORT [log], which believes tokens.
SKETCH = "BENCH_SKETCH"


class Direct(Peer):
    """No gateway at all: what load and service reach on their core, above which no row can come."""

    title = "no gateway: load and service alone"
    work = Work.NOTHING

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        return "-"

    def command(self, setup: Setup, place: Place) -> list[str | Path]:
        return [sys.executable, "-c", "import signal; signal.pause()"]

    def access_log(self, place: Place) -> Path:
        return place.folder / "none"

    def port(self, place: Place) -> int:
        return place.upstream

    def offers(self, setup: Setup) -> str | None:
        return "the service speaks no TLS" if setup.tls else None


class Sketch(Peer):
    """The least that a Python proxy with a token cache could do; only where ``BENCH_SKETCH`` names its file."""

    title = "sketch that believes tokens"
    work = Work.BELIEVES

    def missing(self) -> str | None:
        file = os.environ.get(SKETCH)
        if not file:
            return f"{SKETCH} names no file"
        return None if Path(file).is_file() else f"{SKETCH} does not name a file"

    def version(self) -> str:
        return f"uvloop {version('uvloop')}"

    def command(self, setup: Setup, place: Place) -> list[str | Path]:
        log = ["log"] if setup.log else []
        return [sys.executable, os.environ[SKETCH], str(place.port), str(place.upstream), *log]

    def environment(self, place: Place) -> dict[str, str]:
        return {"TMPDIR": str(place.folder)}

    def access_log(self, place: Place) -> Path:
        return place.folder / f"one_pass.{place.port}.log"

    def offers(self, setup: Setup) -> str | None:
        return "it does less than this asks for" if setup.tls or setup.chunked or setup.trusted else None
