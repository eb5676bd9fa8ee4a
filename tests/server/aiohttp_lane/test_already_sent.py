"""The stand-in for a response that was written already."""

from __future__ import annotations

from typing import cast

import pytest
from aiohttp import web

from gateway.server.aiohttp_lane.already_sent import Sent, sent


@pytest.mark.parametrize("keep_alive", [True, False])
async def test_it_tells_whether_to_keep_the_connection_and_writes_nothing(keep_alive: bool) -> None:
    """aiohttp calls these three after a handler; with no request to write to, any write would fail."""
    response = sent(keep_alive=keep_alive)
    assert isinstance(response, Sent)
    assert response.keep_alive is keep_alive
    await response.prepare(cast(web.BaseRequest, None))
    await response.write_eof()


def test_it_holds_nothing_else() -> None:
    """One is made for each request."""
    assert not hasattr(sent(keep_alive=True), "__dict__")
