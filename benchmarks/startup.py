"""What a gateway takes to start, and to keep: ``python -m benchmarks.startup``.

Measured are, in rounds that take turns: the time from the start of a process to
its first answer to a good token, with keys from a file and from a URL; the time
until 500 issuers have their keys; the memory of a process with 10,000 tokens,
of one more token and of one more kept connection. A second checkout beside this
one (``--beside``) is measured in the same rounds: machines differ, and so do
their moments.

Gateways start as installed ones do: with their bytecode written, by a start
that is not counted. Each has a core of its own where there are two.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import affinity
from benchmarks.drive import Target
from benchmarks.environment import describe
from benchmarks.peers.base import fill, nginx_binary
from benchmarks.process import ROOT, Process, accepts
from benchmarks.prove import serves
from benchmarks.tokens import AUDIENCE, CACHE, ISSUER, Material, material
from tests.support.ports import free_port

#: What each row must be and should be, at most.
GOALS = {
    "start, keys from a file, s": (0.6, 0.4),
    "start, keys from a URL, s": (0.6, 0.4),
    "500 issuers ready, s": (1.0, 1.0),
    "memory with 10,000 tokens, MiB": (70.0, 55.0),
    "memory of a token, KiB": (0.81, 0.7),
    "memory of a kept connection, KiB": (8.0, 5.0),
}

ISSUERS, TOKENS, FIRST_TOKENS, CONNECTIONS, FIRST_CONNECTIONS = 500, 10_000, 2_000, 2_000, 200

#: Seconds for a gateway to become ready, and to end.
_PATIENCE = 60.0


@dataclass(frozen=True)
class Site:
    """Where gateways run, and what stands around them.

    Attributes:
        service: the port of the service.
        provider: the port of every issuer's keys.
        scale: makes counts smaller, for a first try.
    """

    folder: Path
    keys: Material
    service: int
    provider: int
    cores: affinity.Cores
    scale: float = 1.0

    def count(self, number: int) -> int:
        """Return a count, made smaller for a first try."""
        return max(2, int(number * self.scale))


class Gateway:
    """One gateway process, from the start to its first answer; leaving the ``with`` block ends it.

    Attributes:
        begun: when it was started.
        target: where it listens.
        admin: the port of its admin pages.
    """

    def __init__(self, site: Site, checkout: Path, issuers: str) -> None:
        self.target, self.admin = Target(free_port(), tls=False), free_port()
        file = site.folder / f"{self.target.port}.toml"
        file.write_text(
            f'[server]\nlisten = "127.0.0.1:{self.target.port}"\nadmin_listen = "127.0.0.1:{self.admin}"\n'
            f'access_log = "off"\n{issuers}\n'
            f'[[upstreams]]\nname = "service"\nurls = ["http://127.0.0.1:{site.service}"]\n'
            '[[routes]]\npath = "/"\nupstream = "service"\n',
            "utf-8",
        )
        environment = {name: text for name, text in os.environ.items() if not name.startswith(("GATEWAY_", "PYTHON"))}
        bytecode = site.folder / f"bytecode{checkout.resolve().as_posix().replace('/', '-')}"
        environment |= {"PYTHONPATH": str(checkout), "PYTHONPYCACHEPREFIX": str(bytecode)}
        self._log = site.folder / f"{self.target.port}.log"
        with self._log.open("wb") as log, affinity.pinned(site.cores.subject):
            self.begun = time.perf_counter()
            self._child = subprocess.Popen(
                [sys.executable, "-m", "gateway", "run", "--config", file],
                cwd=checkout,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait_until(self, ready: Callable[[], bool]) -> float:
        """Return the seconds from the start until ``ready()`` was true.

        Raises:
            SystemExit: the process ended, or time ran out.
        """
        while not ready():
            if self._child.poll() is not None or time.perf_counter() - self.begun > _PATIENCE:
                raise SystemExit(
                    f"the gateway did not become ready:\n{self._log.read_text('utf-8', 'replace')[-2000:]}"
                )
            time.sleep(0.002)
        return time.perf_counter() - self.begun

    def serves(self, token: bytes) -> bool:
        """Tell whether a good token is answered 200 now."""
        return accepts(self.target.port) and serves(self.target, token)

    def is_ready(self) -> bool:
        """Tell whether every issuer has keys."""
        if not accepts(self.admin):
            return False
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=10)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        return False

    def processor_seconds(self) -> float:
        """Return the processor time that it has taken (Linux), whatever else runs on the machine; 0: not known."""
        with contextlib.suppress(OSError):
            return int(Path(f"/proc/{self._child.pid}/schedstat").read_text("ascii").split()[0]) / 1e9
        return 0.0

    def resident_kib(self) -> float:
        """Return its resident memory (Linux)."""
        pages = int(Path(f"/proc/{self._child.pid}/statm").read_text("ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1024

    def __enter__(self) -> Gateway:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.send_signal(signal.SIGTERM)
        try:
            self._child.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


def from_file(site: Site) -> str:
    """Return one issuer whose keys are in a file."""
    return _issuer("main", ISSUER, f'jwks_file = "{site.keys.jwks}"')


def from_url(site: Site) -> str:
    """Return one issuer whose keys are behind a URL."""
    return _issuer("main", ISSUER, f'jwks_url = "http://127.0.0.1:{site.provider}/keys/main"')


def many(site: Site) -> str:
    """Return many issuers, whose keys are at as many URLs."""
    url = f"http://127.0.0.1:{site.provider}/keys"
    numbers = range(site.count(ISSUERS))
    return "".join(_issuer(f"i{n}", f"https://i{n}.test/", f'jwks_url = "{url}/{n}"') for n in numbers)


def _issuer(name: str, issuer: str, keys: str) -> str:
    return f'[[issuers]]\nname = "{name}"\nissuer = "{issuer}"\naudience = ["{AUDIENCE}"]\n{keys}\n'


def measure(site: Site, checkout: Path) -> dict[str, float]:
    """Measure everything once, by the name of its row."""
    found: dict[str, float] = {}
    token = site.keys.token()
    for name, issuers in (("a file", from_file), ("a URL", from_url)):
        with Gateway(site, checkout, issuers(site)) as gateway:
            found[f"start, keys from {name}, s"] = gateway.wait_until(lambda: gateway.serves(token))
            found[f"start, keys from {name}, s of the processor"] = gateway.processor_seconds()
    with Gateway(site, checkout, many(site)) as gateway:
        found["500 issuers ready, s"] = gateway.wait_until(gateway.is_ready)
        found["500 issuers ready, s of the processor"] = gateway.processor_seconds()
    with Gateway(site, checkout, from_file(site)) as gateway:
        gateway.wait_until(lambda: gateway.serves(token))
        found["memory after the start, MiB"] = gateway.resident_kib() / 1024
        found |= _tokens(site, gateway)
        found |= _connections(site, gateway, token)
    return found


def _tokens(site: Site, gateway: Gateway) -> dict[str, float]:
    """Send tokens once each; the first ones also make what is made once."""
    most, first = site.count(TOKENS), site.count(FIRST_TOKENS)
    with site.keys.pool(most).open("rb") as lines, _connected(gateway.target.port) as connection:
        pool = [next(lines).strip() for _ in range(most)]
        for token in pool[:first]:
            _ask(connection, token)
        before = gateway.resident_kib()
        for token in pool[first:]:
            _ask(connection, token)
        after = gateway.resident_kib()
    return {
        "memory with 10,000 tokens, MiB": after / 1024,
        "memory of a token, KiB": (after - before) / max(1, most - first),
    }


def _connections(site: Site, gateway: Gateway, token: bytes) -> dict[str, float]:
    """Open connections, send one request on each, and keep them; the first ones also make what is made once."""
    count, first = site.count(CONNECTIONS), site.count(FIRST_CONNECTIONS)
    with contextlib.ExitStack() as stack:

        def opened(number: int) -> float:
            for _ in range(number):
                _ask(stack.enter_context(_connected(gateway.target.port)), token)
            return gateway.resident_kib()

        before = opened(first)
        return {"memory of a kept connection, KiB": (opened(count) - before) / count}


@contextlib.contextmanager
def _connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        yield connection


def _ask(connection: socket.socket, token: bytes) -> None:
    """Send one request on a kept connection, and see it answered 200."""
    connection.sendall(b"GET /items/1 HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer " + token + b"\r\n\r\n")
    answer = b""
    while not answer.endswith(b'{"id":1}'):
        received = connection.recv(1 << 16)
        answer += received
        if not received or not answer.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"a good token was not served: {answer[:200]!r}")


@contextlib.contextmanager
def _site(scale: float, cache: Path) -> Iterator[Site]:
    cores, keys = affinity.plan(), material("RS256", cache)
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as name:
        folder, port, provider = Path(name), free_port(), free_port()
        (folder / "jwks.json").write_bytes(keys.jwks.read_bytes())
        conf = fill("startup.conf", folder, FOLDER=folder, PORT=port, KEYS=provider)
        command: list[str | Path] = [nginx_binary(), "-p", folder, "-e", folder / "error.log", "-c", conf]
        with Process(command, folder / "nginx.log", cores.load) as service, affinity.pinned(cores.load):
            service.wait_until(lambda: accepts(port))
            yield Site(folder, keys, port, provider, cores, scale)


def rounds(site: Site, checkouts: Sequence[Path], count: int) -> dict[Path, dict[str, list[float]]]:
    """Measure checkouts in turns, so that a slow moment of the machine meets all of them."""
    found: dict[Path, dict[str, list[float]]] = {checkout: {} for checkout in checkouts}
    for checkout in checkouts:
        with Gateway(site, checkout, from_file(site)) as gateway:  # writes its bytecode
            gateway.wait_until(lambda gateway=gateway: gateway.serves(site.keys.token()))  # type: ignore[misc]
    for _ in range(count):
        for checkout in checkouts:
            for name, number in measure(site, checkout).items():
                found[checkout].setdefault(name, []).append(number)
    return found


def report(found: dict[str, list[float]], arguments: Sequence[str]) -> dict[str, Any]:
    """Return the content of the result file."""
    medians = {name: statistics.median(numbers) for name, numbers in found.items()}
    return {
        **describe("benchmarks.startup", arguments, ("aiohttp", "uvloop", "pydantic", "joserfc", "orjson")),
        "method": "rounds that take turns; medians; one core for the gateway, one for everything else",
        "results": {
            name: {"median": round(medians[name], 3), "least": round(min(numbers), 3), "most": round(max(numbers), 3)}
            for name, numbers in found.items()
        },
        "musts": {f"{name} <= {must:g}": medians[name] <= must for name, (must, _) in GOALS.items()},
        "aims": {f"{name} <= {aim:g}": medians[name] <= aim for name, (_, aim) in GOALS.items()},
    }


def main(arguments: Sequence[str] | None = None, cache: Path = CACHE) -> int:
    """Measure, print every row and which goals were met, write the result file; keys and tokens are kept in `cache`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--scale", type=float, default=1.0, help="make counts smaller, for a first try")
    parser.add_argument("--beside", type=Path, metavar="DIR", help="another checkout, measured in the same rounds")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("results") / "startup.json")
    options = parser.parse_args(arguments)
    checkouts = [ROOT, *([options.beside] if options.beside else [])]
    with _site(options.scale, cache) as site:
        found = rounds(site, checkouts, options.rounds)
    content = report(found[ROOT], arguments)
    for name, row in content["results"].items():
        beside = f"   beside: {statistics.median(found[options.beside][name]):.3f}" if options.beside else ""
        print(f"{name:50}{row['median']:9.3f} ({row['least']:.3f} to {row['most']:.3f}){beside}")
    for kind in ("musts", "aims"):
        for goal, met in content[kind].items():
            print(f"{'met' if met else 'MISSED'}: {kind[:-1]} {goal}")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
