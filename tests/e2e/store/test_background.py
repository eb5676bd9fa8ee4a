"""What goes on in the background of a whole gateway: all of it, with rounds that fail."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway import tasks
from gateway.tasks import Periodic, periodic
from tests.support.certificates import authority
from tests.support.clients.websockets import socket_upstream
from tests.support.clock import FakeClock, eventually, settle
from tests.support.composed import Settings
from tests.support.gateways.running import RunningGateway, configuration, running
from tests.support.stores.scripted_redis import RespServer
from tests.support.tokens.api_keys import entry, write_keys
from tests.support.tokens.minting import SigningKey, jwks

ROOT = Path(__file__).parents[3]


class Odd(BaseException):
    """An exception that no code expects."""


#: One that code expects, and two that it does not.
FAULTS: tuple[BaseException, ...] = (ValueError("secret"), asyncio.CancelledError(), Odd())


@contextlib.asynccontextmanager
async def everything(folder: Path, clock: FakeClock) -> AsyncIterator[tuple[RunningGateway, RespServer]]:
    """Run a gateway that has to keep up with everything that there is."""
    key, file = SigningKey.rsa("a"), folder / "jwks.json"
    file.write_bytes(jwks(key))
    write_keys(folder / "keys", entry())
    (folder / "revoked").write_text("")
    own = authority(folder / "ca").sign("localhost", "localhost")
    async with socket_upstream() as upstream, RespServer() as store:
        made = configuration(
            upstream.url,
            file,
            routes=[{"path": "/"}, {"path": "/keys", "credentials": ["api_key"]}],
            server={"tls_cert": str(own.cert), "tls_key": str(own.key)},
            upstream={"health_path": "/up"},
            redis={"url": store.url, "timeout_seconds": 2},
            revocation={"file": str(folder / "revoked")},
            tokens={"api_keys_file": str(folder / "keys")},
        )
        tenants = {"name": "many", "issuer": "https://{tenant}.test/", "audience": ["api"], "tenants": ["a", "b"]}
        made["issuers"].append({**tenants, "jwks_url": "https://{tenant}.test/keys"})
        async with running(Settings.model_validate(made), key, clock=clock) as gateway:
            yield gateway, store


def failing(each: Periodic, heard: dict[Periodic, int]) -> Callable[[], Awaitable[None]]:
    """Return work that fails in every way there is, and then does what it did before."""
    work, faults = each.work, list(FAULTS)

    async def fail() -> None:
        if faults:
            raise faults.pop()
        heard[each] += 1  # before: one of them goes on for as long as all is well
        await work()

    return fail


@pytest.mark.rule("R406")
async def test_every_task_does_its_next_round_after_any_failure(
    tmp_path: Path, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them, found by walking over what runs; failures are counted and shown."""
    monkeypatch.setattr("gateway.spare_memory.MEMORY_LOOK_SECONDS", 0.01)  # the one task in real time
    clock = FakeClock()
    async with everything(tmp_path, clock) as (gateway, store):
        await eventually(lambda: store.subscribers)
        found = sorted(periodic(), key=lambda each: each.name)
        before = dict(tasks.failures)
        good = dict.fromkeys(found, 0)
        for each in found:
            each.work = failing(each, good)
        store.tell(b":5\r\n")  # the channel is heard in one long round: nonsense ends it
        for _ in range(200):
            await clock.advance(5)
            await asyncio.sleep(0.005)  # for what speaks to a server
            if all(good.values()):
                break
        assert [each.name for each, count in good.items() if not count] == []
        for each in found:
            assert each.failures >= len(FAULTS), each.name
            assert tasks.failures[each.kind] - before.get(each.kind, 0) >= len(FAULTS)
        shown = (await gateway.admin("/metrics")).body.decode()
        for each in found:
            assert f'gateway_task_failures_total{{task="{each.kind}"}}' in shown
        assert "secret" not in caplog.text
        assert {each.kind for each in found} == documented() - {"token watch"}
    await settle()
    assert not periodic()


def documented() -> set[str]:
    """Return the names in the table of the operators' page."""
    text = (ROOT / "docs" / "operations.md").read_text()
    section = text.split("## Work in the background\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `([^`]+)`[,|\s]", section, re.MULTILINE))
