"""Content that has come whole, and whether there is any; on its way in: ``aiohttp_lane/test_content.py``."""

from __future__ import annotations

import pytest

from gateway.server.request.body import CollectedContent, has_content
from gateway.server.request.facts import scan

CHUNKED = (b"Transfer-Encoding", b"chunked")
EXPECT = (b"Expect", b"100-continue")


def length(count: int) -> tuple[bytes, bytes]:
    return (b"Content-Length", b"%d" % count)


@pytest.mark.parametrize(
    ("headers", "announced"),
    [
        ((), False),
        ((length(0),), False),
        (((b"content-length", b"000"),), False),
        ((length(1),), True),
        ((CHUNKED,), True),
        ((EXPECT,), False),
    ],
)
@pytest.mark.rule("R300")
def test_content_is_announced_by_length_or_coding_alone(
    headers: tuple[tuple[bytes, bytes], ...], announced: bool
) -> None:
    """RFC 9112 section 6.3; a length of zero is no content."""
    assert has_content(scan(headers)) is announced


@pytest.mark.rule("R427")
async def test_nothing_is_left_of_content_that_came_whole() -> None:
    """What is read and dropped; the rest of an upload is in tests/e2e/http/test_early_answers.py."""
    content = CollectedContent(b"abc")
    assert await content.read_rest()
    assert not content.unread
