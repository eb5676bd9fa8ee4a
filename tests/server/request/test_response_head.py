"""The heads that clients get: what of the upstream's stays, and what the gateway says."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.http1.plain_response import PlainHead
from gateway.server.request.response_head import client_head, plain_client_head, switching_head

HEADERS = (
    (b"Server", b"x"),
    (b"Connection", b"keep-alive, X-Hop"),
    (b"X-Hop", b"1"),
    (b"Content-Length", b"5"),
    (b"set-cookie", b"a"),
    (b"Set-Cookie", b"b"),
)
USUAL: dict[str, Any] = {"http_11": True, "keep_alive": True, "chunked": False}


def fields(head: bytes) -> list[bytes]:
    assert head.endswith(b"\r\n\r\n")
    return head[:-4].split(b"\r\n")


@pytest.mark.parametrize(
    ("options", "last"),
    [
        pytest.param({}, [], id="usual"),
        pytest.param({"chunked": True}, [b"Transfer-Encoding: chunked"], id="chunked"),
        pytest.param({"keep_alive": False}, [b"Connection: close"], id="closing"),
        pytest.param({"http_11": False}, [b"Connection: keep-alive"], id="old-kept"),
        pytest.param({"http_11": False, "keep_alive": False}, [b"Connection: close"], id="old"),
        pytest.param({"added": ((b"Vary", b"Origin"),)}, [b"Vary: Origin"], id="added"),
        pytest.param({"date": b"now", "keep_alive": False}, [b"Connection: close", b"Date: now"], id="dated"),
    ],
)
@pytest.mark.rule("R250", "R271")
def test_upstreams_fields_stay_in_order_and_the_gateways_follow(options: dict[str, Any], last: list[bytes]) -> None:
    """Hop-by-hop fields go, several lines of one name stay several."""
    head = client_head(200, b"Fine", HEADERS, b"gw", **{**USUAL, **options})
    assert fields(head) == [
        *(b"HTTP/1.1 200 Fine", b"Server: x", b"Content-Length: 5", b"set-cookie: a", b"Set-Cookie: b", b"Via: 1.1 gw"),
        *last,
    ]


@pytest.mark.parametrize("name", [b"Date", b"date"])
@pytest.mark.rule("R413")
def test_an_upstreams_own_date_is_the_only_one(name: bytes) -> None:
    """Unless it was for the next hop alone."""
    own = (*HEADERS, (name, b"then"))
    assert [line for line in fields(client_head(200, b"", own, b"gw", **USUAL, date=b"now")) if b"now" in line] == []
    nominated = (*own, (b"Connection", b"date"))
    head = fields(client_head(200, b"", nominated, b"gw", **USUAL, date=b"now"))
    assert [line for line in head if line.lower().startswith(b"date")] == [b"Date: now"]
    assert fields(switching_head(b"", own, b"gw", None, b"now"))[-1] == b"Connection: Upgrade"


def test_plain_head_is_the_usual_one() -> None:
    plain = PlainHead(200, b"Fine", HEADERS, 5)
    assert plain_client_head(plain, b"gw", keep_alive=True) == client_head(200, b"Fine", HEADERS, b"gw", **USUAL)


def test_204_has_no_length() -> None:
    """RFC 9110 section 8.6."""
    assert not [line for line in fields(client_head(204, b"", HEADERS, b"gw", **USUAL)) if b"Length" in line]


@pytest.mark.parametrize(
    ("chosen", "offered", "told"),
    [
        pytest.param(None, None, [], id="none"),
        pytest.param(b"v1", None, [b"v1"], id="upstream-chose"),
        pytest.param(None, b"Bearer", [b"Bearer"], id="token-alone"),
        pytest.param(b"v1", b"bearer", [b"v1"], id="both"),
    ],
)
@pytest.mark.rule("R325", "R327")
def test_101_says_upgrade_anew_and_a_subprotocol(
    chosen: bytes | None, offered: bytes | None, told: list[bytes]
) -> None:
    """The upstream's choice comes before the gateway's."""
    own = [(b"Upgrade", b"WebSocket"), (b"connection", b"upgrade"), (b"Sec-WebSocket-Accept", b"k")]
    headers = [*own, *HEADERS, *([] if chosen is None else [(b"sec-websocket-protocol", chosen)])]
    lines = fields(switching_head(b"Switching", headers, b"gw", offered, b"now"))
    assert lines[0] == b"HTTP/1.1 101 Switching"
    assert lines[-3:] == [b"Upgrade: websocket", b"Connection: Upgrade", b"Date: now"]
    assert [line for line in lines if line.lower().startswith((b"upgrade", b"connection", b"content-length"))] == lines[
        -3:-1
    ]
    assert b"Sec-WebSocket-Accept: k" in lines
    assert [line.split(b": ")[1] for line in lines if line.lower().startswith(b"sec-websocket-protocol")] == told


@pytest.mark.parametrize("value", [b"a\r\nX: y", b"a\0"])
@pytest.mark.rule("R267")
def test_what_would_not_arrive_as_one_field_is_an_error(value: bytes) -> None:
    """Never written."""
    with pytest.raises(ValueError, match="control character"):
        client_head(200, b"", ((b"X", value),), b"gw", **USUAL)
    with pytest.raises(ValueError, match="control character"):
        switching_head(b"", ((b"X", value),), b"gw", None, b"now")
