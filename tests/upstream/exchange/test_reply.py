"""Which response heads are believed, how their content is framed, and what becomes of the connection."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from aiohttp.http_parser import RawResponseMessage
from aiohttp.http_writer import HttpVersion
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.errors import GatewayError, Reasons
from gateway.http1.plain_response import PlainReader
from gateway.upstream.exchange.reply import Reply, checked_reply, whole_reply
from gateway.upstream.pool.upstream_url import Lease


class CountingLease:
    """Tells how a lease ended; everything else about leases is tested with real ones."""

    def __init__(self, broken: bool = False) -> None:
        self.ended: list[str] = []
        self.protocol = self
        self.broken = broken
        self.transport = None

    def release(self) -> None:
        self.ended.append("release")

    def discard(self) -> None:
        self.ended.append("discard")


def message(
    *headers: tuple[bytes, bytes],
    code: int = 200,
    version: tuple[int, int] = (1, 1),
    reason: str = "OK",
    closes: bool = False,
) -> Any:
    return RawResponseMessage(
        HttpVersion(*version), code, reason, CIMultiDictProxy(CIMultiDict()), headers, closes, None, False, False
    )


def check(*headers: tuple[bytes, bytes], head_only: bool = False, lease: Any = None, **values: Any) -> Reply:
    lease = cast(Lease, lease or CountingLease())
    return checked_reply(message(*headers, **values), EMPTY_PAYLOAD, lease, None, head_only=head_only)


LENGTH, CHUNKED = (b"Content-Length", b"5"), (b"Transfer-Encoding", b"chunked")

FRAMED = [
    # headers, other facts, (length, bodyless, until_close)
    pytest.param((LENGTH,), {}, (5, False, False), id="length"),
    pytest.param(((b"CONTENT-LENGTH", b"0"),), {}, (0, False, False), id="zero"),
    pytest.param(((b"content-length", b"005"),), {}, (5, False, False), id="leading-zeros"),
    pytest.param(((b"Content-Length", b"9" * 19),), {}, (10**19 - 1, False, False), id="longest"),
    pytest.param((CHUNKED,), {}, (None, False, False), id="chunked"),
    pytest.param(((b"transfer-encoding", b"CHUNKED"),), {}, (None, False, False), id="chunked-case"),
    pytest.param((), {}, (None, False, True), id="until-close"),
    pytest.param((), {"version": (1, 0)}, (None, False, True), id="old-until-close"),
    pytest.param((LENGTH,), {"version": (1, 0)}, (5, False, False), id="old-length"),
    pytest.param((LENGTH,), {"head_only": True}, (5, True, False), id="head-length"),
    pytest.param((CHUNKED,), {"head_only": True}, (None, True, False), id="head-chunked"),
    pytest.param((), {"head_only": True}, (None, True, False), id="head-none"),
    pytest.param((), {"code": 204}, (None, True, False), id="204"),
    pytest.param((LENGTH,), {"code": 304}, (5, True, False), id="304-length"),
    pytest.param((LENGTH,), {"code": 205}, (5, False, False), id="205-is-framed-by-its-fields"),
    pytest.param((LENGTH,), {"code": 599}, (5, False, False), id="599"),
]


@pytest.mark.parametrize(("headers", "facts", "framing"), FRAMED)
@pytest.mark.rule("R276", "R287", "R288", "R289")
async def test_framing_is_what_rfc_9112_section_6_3_says(
    headers: tuple[tuple[bytes, bytes], ...], facts: dict[str, Any], framing: tuple[int | None, bool, bool]
) -> None:
    reply = check(*headers, **facts)
    assert (reply.length, reply.bodyless, reply.until_close) == framing
    assert reply.headers == headers


REFUSED = [
    pytest.param((LENGTH, LENGTH), {}, id="same-length-twice"),
    pytest.param((LENGTH, (b"Content-Length", b"6")), {}, id="two-lengths"),
    pytest.param((LENGTH, CHUNKED), {}, id="length-and-chunked"),
    pytest.param((CHUNKED, CHUNKED), {}, id="chunked-twice"),
    pytest.param(((b"Transfer-Encoding", b"gzip"),), {}, id="gzip"),
    pytest.param(((b"Transfer-Encoding", b"gzip, chunked"),), {}, id="gzip-chunked"),
    pytest.param(((b"Transfer-Encoding", b"chunked, chunked"),), {}, id="chunked-chunked"),
    pytest.param(((b"Transfer-Encoding", b"identity"),), {}, id="identity"),
    pytest.param(((b"Transfer-Encoding", b""),), {}, id="empty-coding"),
    pytest.param((CHUNKED,), {"version": (1, 0)}, id="old-chunked"),
    pytest.param(((b"Content-Length", b"+5"),), {}, id="plus"),
    pytest.param(((b"Content-Length", b"-5"),), {}, id="minus"),
    pytest.param(((b"Content-Length", b"5, 5"),), {}, id="list"),
    pytest.param(((b"Content-Length", b"0x5"),), {}, id="hex"),
    pytest.param(((b"Content-Length", b""),), {}, id="empty-length"),
    pytest.param(((b"Content-Length", b"5 "),), {}, id="space"),
    pytest.param(((b"Content-Length", b"\xd9\xa5"),), {}, id="arabic-digit"),
    pytest.param(((b"Content-Length", b"9" * 20),), {}, id="longer-than-any-number"),
    pytest.param((), {"code": 101}, id="101"),
    pytest.param((), {"code": 99}, id="99"),
    pytest.param((), {"code": 100}, id="interim"),
    pytest.param((), {"code": 600}, id="600"),
    pytest.param((), {"code": 0}, id="0"),
    *(pytest.param(((b"X", b"a%cb" % octet),), {}, id=f"value-{octet:02x}") for octet in (0, 8, 10, 13, 27, 127)),
    *(pytest.param(((b"X%cY" % octet, b"a"),), {}, id=f"name-{octet:02x}") for octet in (0, 10, 13, 127)),
]


@pytest.mark.parametrize("head_only", [False, True])
@pytest.mark.parametrize(("headers", "facts"), REFUSED)
@pytest.mark.rule("R271", "R275", "R276", "R291", "R292")
async def test_head_without_one_reading_is_a_bad_gateway(
    headers: tuple[tuple[bytes, bytes], ...], facts: dict[str, Any], head_only: bool
) -> None:
    """Also where no content follows: a cache behind would store what it says."""
    with pytest.raises(GatewayError) as raised:
        check(*headers, head_only=head_only, **facts)
    assert raised.value.reason is Reasons.UPSTREAM_PROTOCOL


@pytest.mark.parametrize("octet", [9, *range(32, 127), *range(128, 256)])
async def test_value_may_hold_every_other_octet(octet: int) -> None:
    """RFC 9110 section 5.5: VCHAR, obs-text, space and tab."""
    assert check((b"X", b"a%cb" % octet)).headers == ((b"X", b"a%cb" % octet),)


@pytest.mark.parametrize(
    ("reason", "phrase"),
    [("OK", b"OK"), ("", b""), ("Not Here!", b"Not Here!"), ("caf\xe9", b""), ("a\tb", b""), ("a\x00b", b"")],
)
@pytest.mark.rule("R272")
async def test_phrase_is_kept_only_if_it_is_plain(reason: str, phrase: bytes) -> None:
    assert check(reason=reason).phrase == phrase


class _Protocol:
    """What a stream asks of its connection."""

    connected = True

    def pause_reading(self) -> None: ...

    def resume_reading(self, resume_parser: bool = True) -> None: ...


def stream(*, ended: bool) -> StreamReader:
    made = StreamReader(cast(Any, _Protocol()), 2**16, loop=asyncio.get_running_loop())
    if ended:
        made.feed_eof()
    return made


class _Sending:
    """An upload that is still running, or has ended in one of its ways."""

    def __init__(self, how: str) -> None:
        self.how = how
        self.whole = how == "whole"
        self.task = asyncio.ensure_future(self._send())

    @property
    def running(self) -> bool:
        return not self.task.done()

    async def _send(self) -> None:
        if self.how == "running":
            await asyncio.Event().wait()
        if self.how == "failed":
            raise GatewayError(Reasons.BODY_TOO_LARGE)


@pytest.mark.parametrize("upload", ["none", "whole", "running", "failed", "closed"])
@pytest.mark.parametrize("ended", [True, False])
async def test_connection_is_kept_only_after_a_whole_exchange(upload: str, ended: bool) -> None:
    """RFC 9112 section 9.3: a request or a response that is not whole leaves bytes that belong to no message."""
    lease, early = CountingLease(), upload in ("running", "failed", "closed")
    sending = None if upload == "none" else _Sending(upload)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    content = stream(ended=ended)
    reply = checked_reply(message(LENGTH), content, cast(Lease, lease), cast(Any, sending), head_only=False)
    assert (reply.answered_early, reply.reads_on) == (early, upload == "running")
    reply.finish()
    assert lease.ended == ["release" if ended and not early else "discard"]
    if sending is not None:
        await asyncio.wait([sending.task])
        assert not reply.reads_on
        assert sending.task.cancelled() or (sending.task.exception() is not None) is (upload == "failed")


@pytest.mark.parametrize(
    ("code", "closes", "reads_on"), [(202, False, True), (202, True, False), (399, False, True), (400, False, False)]
)
@pytest.mark.rule("R427")
async def test_upstream_that_refuses_or_says_it_closes_does_not_keep_the_clients_connection(
    code: int, closes: bool, reads_on: bool
) -> None:
    """The client is asked to stop sending when the rest may not be read."""
    sending = _Sending("running")
    said = message(LENGTH, code=code, closes=closes)
    reply = checked_reply(said, stream(ended=True), cast(Lease, CountingLease()), cast(Any, sending), head_only=False)
    assert reply.reads_on is reads_on
    reply.abort()
    await asyncio.wait([sending.task])


@pytest.mark.parametrize(("first", "ended"), [("finish", "release"), ("abort", "discard")])
def test_connection_is_given_up_once(first: str, ended: str) -> None:
    """What was returned may serve another exchange by now, over the same lease."""
    lease = CountingLease()
    reply = check(LENGTH, lease=lease)
    getattr(reply, first)()
    reply.abort()
    reply.finish()
    assert lease.ended == [ended]


async def test_plain_response_in_one_piece_is_complete() -> None:
    lease = CountingLease()
    known = PlainReader(b"gw").read(b"HTTP/1.1 404 No\r\n%b: %b\r\n\r\n" % LENGTH)
    assert known is not None
    reply = whole_reply(known, b"abcde", cast(Lease, lease))
    assert (reply.status, reply.phrase, reply.fields, reply.length) == (404, b"No", (LENGTH,), 5)
    assert (reply.bodyless, reply.until_close, reply.answered_early) == (False, False, False)
    assert (reply.whole, reply.known) == (b"abcde", known)
    reply.finish()
    assert lease.ended == ["release"]


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize(("headers", "until_close"), [((), True), ((LENGTH,), False), ((CHUNKED,), False)])
@pytest.mark.rule("R287")
async def test_content_that_ends_with_its_connection_is_whole_only_after_an_orderly_end(
    headers: tuple[tuple[bytes, bytes], ...], until_close: bool, broken: bool
) -> None:
    assert check(*headers, lease=CountingLease(broken)).truncated() is (until_close and broken)
