"""Who sends nothing more is waited for while there is something to send."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from gateway.server import half_closed
from gateway.server.half_closed import HalfClosed
from tests.support.gateway import until


class Transport:
    """A connection: whether it was cut, and what waits in it."""

    def __init__(self) -> None:
        self.cut = False
        self.waiting = 0

    def abort(self) -> None:
        self.cut = True

    def get_write_buffer_size(self) -> int:
        return self.waiting


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_closed, "PATIENCE", 0.02)


@pytest.mark.parametrize("kind", ["sent", "waits"])
async def test_client_is_kept_while_it_is_sent_something_or_has_something_to_take(kind: str) -> None:
    """R285: a client that left is distinguished from one that waits by that alone."""
    transport, pieces, looks = Transport(), 0, 0
    transport.waiting = 5 if kind == "waits" else 0

    def sent() -> int:
        nonlocal pieces, looks
        looks += 1
        pieces += kind == "sent"
        return pieces

    watch = HalfClosed(cast(asyncio.Transport, transport), sent)
    await until(lambda: looks > 4)
    assert not transport.cut
    kind, transport.waiting = "", 0
    await until(lambda: transport.cut)
    watch.stop()


async def test_nothing_is_cut_once_it_is_stopped() -> None:
    transport = Transport()
    HalfClosed(cast(asyncio.Transport, transport), lambda: 0).stop()
    await asyncio.sleep(0.06)
    assert not transport.cut
