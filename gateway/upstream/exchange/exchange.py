"""One exchange with an upstream: the request out, the response's head back.

The full lane's exchange over a leased connection: framing of the request's content, waiting for the final response
head, its validation, and the translation of every fault into a GatewayError. Relaying the response's content to a
client is ``relay.py``. Head bytes come in ready-made (``headers/rewrite.py``); nothing here adds, drops or decodes a
field.
"""

from __future__ import annotations

import asyncio
import functools

from aiohttp import ClientError, ClientPayloadError, ServerDisconnectedError
from aiohttp.client_exceptions import ClientOSError, SocketTimeoutError
from aiohttp.http_exceptions import HttpProcessingError

from gateway.errors import GatewayError, Reasons
from gateway.http1.plain_response import HeadMemory
from gateway.network_errors import cause
from gateway.tasks import spawn
from gateway.upstream.exchange.reply import Reply, checked_reply, whole_reply
from gateway.upstream.exchange.upload import Content, Upload, whole_content
from gateway.upstream.exchange.whole_response import WholeReading
from gateway.upstream.pool.connection import ContentStream, ResponseMessage, UpstreamConnection
from gateway.upstream.pool.upstream_url import Lease


async def exchange(
    lease: Lease,
    head: bytes,
    content: Content | None,
    *,
    head_only: bool,
    response_timeout: float,
    idle_timeout: float,
    upgrade: bool = False,
    heads: HeadMemory | None = None,
) -> Reply:
    """Send a request over a leased connection and return the final response's head.

    Args:
        lease: the connection; it is discarded on every fault.
        head: the request's head, complete.
        content: the request's content, or None when it has none.
        head_only: the request is HEAD: the response has no content.
        response_timeout: seconds from the end of the request to the end of the response's head.
        idle_timeout: seconds between two reads of the response's content, and for which the upstream may take nothing
            of the request's; 0 for none.
        upgrade: the request asks for another protocol, so that 101 is an answer to it (RFC 9110 section 15.2.2).
        heads: reads a plain response that comes in one piece, without aiohttp's parser; None for none.

    Raises:
        GatewayError: with an ``UPSTREAM_…`` reason, or what reading ``content`` raised.
    """
    protocol = lease.protocol
    protocol.heard = False
    upload: Upload | None = None
    reading: WholeReading | None = None
    timer = _ResponseTimer(protocol, response_timeout)
    try:
        data = _whole_request(head, content)
        if data is None or heads is None or head_only or upgrade:
            protocol.expect_response(head_only=head_only, idle_timeout=idle_timeout)
        else:
            reading = WholeReading(protocol, heads, idle_timeout)
        if data is not None:
            _write(protocol, data)
        else:
            assert content is not None
            upload = Upload(protocol, head, content, timer.start)
    except BaseException as error:
        timer.stop()
        protocol.receiver = None
        lease.discard()
        if (fault := _exchange_fault(error)) is not None:
            raise fault from error
        raise
    if upload is None:
        timer.start()
    return await _receive(
        lease, upload, timer, reading, head_only=head_only, upgrade=upgrade, idle_timeout=idle_timeout
    )


async def receive(lease: Lease, *, head_only: bool, response_timeout: float) -> Reply:
    """Return the head of the response to a request that was sent already; see ``exchange``.

    Raises:
        GatewayError: with an ``UPSTREAM_…`` reason; the lease is discarded.
    """
    timer = _ResponseTimer(lease.protocol, response_timeout)
    timer.start()
    return await _receive(lease, None, timer, None, head_only=head_only)


async def _receive(
    lease: Lease,
    upload: Upload | None,
    timer: _ResponseTimer,
    reading: WholeReading | None,
    *,
    head_only: bool,
    upgrade: bool = False,
    idle_timeout: float = 0,
) -> Reply:
    protocol = lease.protocol
    try:
        if reading is not None and (whole := await reading.result()) is not None:
            return whole_reply(*whole, lease)
        message, payload = await _final_response(protocol, upload, idle_timeout)
        reply = checked_reply(message, payload, lease, upload, head_only=head_only, upgrade=upgrade)
    except BaseException as error:
        if upload is not None:
            upload.task.cancel()
        protocol.receiver = None
        lease.discard()
        if (fault := _exchange_fault(error)) is not None:
            raise fault from error
        raise
    finally:
        timer.stop()
    if upload is not None:
        upload.task.add_done_callback(functools.partial(_upload_ended, protocol))
    return reply


def _upload_ended(protocol: UpstreamConnection, upload: asyncio.Task[None]) -> None:
    """End a response that began early when the client's content turns out bad: its request will never be whole."""
    if not upload.cancelled() and (error := upload.exception()) is not None:
        protocol.set_exception(error)


class _ResponseTimer:
    """The bound on the time to the response's head, however its bytes trickle in."""

    __slots__ = ("_handle", "_protocol", "_seconds", "_stopped")

    def __init__(self, protocol: UpstreamConnection, seconds: float) -> None:
        self._protocol = protocol
        self._seconds = seconds
        self._handle: asyncio.TimerHandle | None = None
        self._stopped = False

    def start(self) -> None:
        if not self._stopped:
            self._handle = asyncio.get_running_loop().call_later(self._seconds, self._expired)

    def stop(self) -> None:
        self._stopped = True
        if self._handle is not None:
            self._handle.cancel()

    def _expired(self) -> None:
        self._protocol.set_exception(SocketTimeoutError("no response in time"))
        if (receiver := self._protocol.receiver) is not None:
            receiver.upstream_lost(False)


async def _final_response(
    protocol: UpstreamConnection, upload: Upload | None, idle_timeout: float
) -> tuple[ResponseMessage, ContentStream]:
    """Wait for the first response that is not interim (RFC 9110 section 15.2)."""
    while True:
        if upload is None:
            message, payload = await protocol.response()
        else:
            message, payload = await _response_during(protocol, upload, idle_timeout)
        if message.code == 101 or not 100 <= message.code <= 199:
            return message, payload


async def _response_during(
    protocol: UpstreamConnection, upload: Upload, idle_timeout: float
) -> tuple[ResponseMessage, ContentStream]:
    """Wait for a response while content is sent; a fault of the content ends the waiting."""
    reading = spawn(protocol.response(), "response head", awaited=True)
    try:
        ended: set[asyncio.Task[object]] = set()
        while not ended:
            left = upload.seconds_left(idle_timeout)
            if left == 0:
                raise SocketTimeoutError("the upstream does not read the request content")
            # How long content of a client that pauses may take is for its own limit to say.
            waits = {reading, upload.task}
            ended, _ = await asyncio.wait(
                waits, timeout=left or idle_timeout or None, return_when=asyncio.FIRST_COMPLETED
            )
        if not reading.done():
            # The content is sent, or could not be: a fault of the client's side is
            # raised here; one of the upstream's side shows in the response's read.
            upload.task.result()
        return await reading
    finally:
        reading.cancel()


def _whole_request(head: bytes, content: Content | None) -> bytes | None:
    """Return a request whose content has arrived completely, or that has none; else None."""
    if content is None:
        return head
    whole = whole_content(content)
    return None if whole is None else head + whole


def _write(protocol: UpstreamConnection, data: bytes) -> None:
    transport = protocol.transport
    if transport is None or transport.is_closing():
        raise ServerDisconnectedError
    transport.write(data)


def ended_by_upstream(error: GatewayError) -> bool:
    """Return whether an exchange failed because the upstream closed or reset its connection."""
    return isinstance(error.__cause__, ServerDisconnectedError | ClientOSError | ConnectionError)


def _exchange_fault(error: BaseException) -> GatewayError | None:
    """Translate what an exchange raised, the only place that does; None for what is no fault of either side."""
    if isinstance(error, GatewayError):
        return None
    if isinstance(error, TimeoutError):
        reason = Reasons.UPSTREAM_TIMEOUT
    elif isinstance(error, HttpProcessingError):
        reason = Reasons.UPSTREAM_PROTOCOL
    elif isinstance(error, ServerDisconnectedError | ConnectionError | OSError | ClientError):
        reason = Reasons.UPSTREAM_DISCONNECTED
    else:
        return None  # the gateway's own: it is logged, with its place, where the request ends
    return GatewayError(reason, detail=_in_words(error))


def _in_words(error: BaseException) -> str:
    """Return what ended an exchange, for the access log."""
    if isinstance(error, HttpProcessingError):
        return "the response is not valid HTTP"
    return "the response broke off" if isinstance(error, ClientPayloadError) else cause(error)
