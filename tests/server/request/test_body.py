"""Content that has come whole; on its way in: ``aiohttp_lane/test_content.py``."""

from __future__ import annotations

import pytest

from gateway.server.request.body import CollectedContent


@pytest.mark.rule("R427")
async def test_nothing_is_left_of_content_that_came_whole() -> None:
    """What is read and dropped; the rest of an upload is in tests/e2e/http/test_early_answers.py."""
    content = CollectedContent(b"abc")
    assert await content.read_rest()
    assert not content.unread
