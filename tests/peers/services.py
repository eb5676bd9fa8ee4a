"""Real web servers as the services behind the gateway, each a process of its own on a loopback port.

An application is a piece of source, written into the test's folder for the
server that runs it; what it does is the test's business. Only how each server
is started lives here.
"""

from __future__ import annotations

import shutil
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.peers.process import Process
from tests.support.ports import free_port

#: The program of ``node``; None when it is not installed.
NODE = shutil.which("node")


class Service(Process):
    """One server on a loopback port; ``url`` is its base address.

    Args:
        folder: an empty folder for everything that it needs and writes.
        source: the application.
        command: how the server is started, from the file of the application, the folder and the port.
        suffix: of the application's file name.
    """

    def __init__(
        self, folder: Path, source: str, command: Callable[[Path, int], list[str | Path]], suffix: str = ".py"
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"application{suffix}"
        file.write_text(source)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        super().__init__(command(file, self.port), folder / "service.out", {"PYTHONPATH": str(folder)})

    async def start(self) -> None:
        await super().start()
        await self.wait_until(self.listens)

    def listens(self) -> bool:
        """Return whether the server listens on the port."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def _module(name: str, *arguments: str) -> Callable[[Path, int], list[str | Path]]:
    """Return the command of a server that is a Python module; ``{port}`` stands for the port."""

    def command(file: Path, port: int) -> list[str | Path]:
        return [sys.executable, "-m", name, *(argument.format(port=port) for argument in arguments)]

    return command


def script(file: Path, port: int) -> list[str | Path]:
    """Run the application itself, with the port as its argument."""
    return [sys.executable, file, str(port)]


def node(file: Path, port: int) -> list[str | Path]:
    """Run the application with Node.js, with the port as its argument."""
    assert NODE is not None
    return [NODE, file, str(port)]


#: How each server runs ``application:application`` (WSGI or ASGI) or, for the last ones, a file that is a program.
COMMANDS: Mapping[str, Callable[[Path, int], list[str | Path]]] = {
    "gunicorn-sync": _module("gunicorn", "--bind=127.0.0.1:{port}", "application:application"),
    "gunicorn-gthread": _module(
        "gunicorn", "--bind=127.0.0.1:{port}", "--worker-class=gthread", "--threads=4", "application:application"
    ),
    "hypercorn": _module("hypercorn", "--bind=127.0.0.1:{port}", "application:application"),
    "daphne": _module("daphne", "--bind=127.0.0.1", "--port={port}", "application:application"),
    "django": _module("django", "runserver", "127.0.0.1:{port}", "--noreload", "--settings=application"),
    "http.server": script,
    "tornado": script,
    "node": node,
}


def service(name: str, folder: Path, source: str) -> Service:
    """Return a server of ``COMMANDS``, not started yet, with an application."""
    return Service(folder, source, COMMANDS[name], ".js" if name == "node" else ".py")
