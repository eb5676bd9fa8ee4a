"""Real servers that refuse an upload before they have read it: their answers arrive (R425-R427, C115-C117).

A few tries each; ``python -m tests.peers.early`` makes a hundred, of up to 20 MB.
"""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path

import pytest

from tests.peers.early import ACCEPTING, REFUSING, SIZES, SMALL, accepting, refusing, uploads, verdict
from tests.peers.programs import program
from tests.peers.services import Service
from tests.support.clients.uploads import upload
from tests.support.gateways.running import running_gateway, until

PUBLIC = ({"path": "/", "auth": "public"},)


def needs(name: str) -> None:
    """Skip when the server is a program that is missing."""
    if name == "node":
        program("node")


def has_read(service: Service, size: int) -> bool:
    return f"read {size}\n" in service.output()


@pytest.mark.parametrize("name", REFUSING)
@pytest.mark.rule("R425", "C115")
async def test_refusal_of_a_real_server_arrives(name: str, tmp_path: Path) -> None:
    """Collected and streamed, with a length and in chunks, in both lanes, access log on and off."""
    needs(name)
    async with refusing(name, tmp_path / "service") as service:
        for express in (True, False):
            for access_log in ("json", "off"):
                server = {"access_log": access_log, "express": express}
                async with running_gateway(service.url, tmp_path, routes=PUBLIC, server=server) as running:
                    outcomes = await uploads(running.app.port, (SMALL, *SIZES))
                    assert {(size, verdict(outcome)) for size, _, outcome in outcomes} == {
                        (size, "answered") for size in (SMALL, *SIZES)
                    }
                    if access_log == "json":
                        log = await running.log(len(outcomes))
                        assert {(line["status"], line["bytes_out"]) for line in log} == {(413, 10)}


@pytest.mark.parametrize("name", ACCEPTING)
@pytest.mark.rule("R427", "C117")
async def test_real_server_that_accepts_at_once_gets_the_whole_upload(name: str, tmp_path: Path) -> None:
    """The answer comes before the end of the content, and the service counts every byte of that."""
    needs(name)
    async with accepting(name, tmp_path / "service") as service:
        for express in (True, False):
            server = {"express": express}
            async with running_gateway(service.url, tmp_path, routes=PUBLIC, server=server) as running:
                for chunked in (False, True):
                    size = 3_000_000 + 2 * express + chunked  # one that the service has not counted yet
                    outcome = await asyncio.to_thread(upload, running.app.port, size, chunked=chunked, stay=True)
                    assert (outcome.status, outcome.body) == (202, b"accepted\n")
                    await until(functools.partial(has_read, service, size), within=10)
