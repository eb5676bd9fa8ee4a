"""A response's head as the upstream sent it, and whether it can be believed.

This file has the frozen facts of a response and the checks of its framing (RFC
9112 section 6.3, RFC 9110 section 15). What cannot be framed for sure is a
failure of the upstream: guessing is how responses get split.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.errors import GatewayError, Reasons
from gateway.http1.plain_response import IN_CHUNKS, PlainHead
from gateway.upstream.exchange.upload import Upload, unacknowledged
from gateway.upstream.pool.connection import NO_CONTENT, ContentStream, ResponseMessage
from gateway.upstream.pool.upstream_url import Lease

_DIGITS = re.compile(rb"[0-9]{1,19}")
# RFC 9110 section 5.5: no control characters but the tab in a field value.
_FORBIDDEN = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(slots=True)
class Reply:
    """A response whose head has arrived.

    Attributes:
        status: its status code.
        phrase: its reason phrase, cleaned of what may not stand there.
        headers: its fields as received, unless ``known`` has them; see ``fields``.
        length: content length; None when the content ends with the last chunk or the connection.
        bodyless: the response has no content, whatever its fields say (RFC 9112 section 6.3).
        until_close: the content ends when the connection does.
        content: where the content comes from.
        lease: the connection, until ``finish``.
        upload: the request's content, unless it was sent in one piece with the head.
        persistent: the upstream has not said that it closes the connection after this response.
        begun: bytes of it were written to the client.
        relayed: content bytes that were written to the client so far.
        delivered: all of it was.
        whole: the content, when all of it came with the head; nothing is left in ``content`` then.
        known: the head of a plain response that came with all of its content.
        ended: the connection is no longer this exchange's.
    """

    status: int
    phrase: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    length: int | None
    bodyless: bool
    until_close: bool
    content: ContentStream
    lease: Lease
    upload: Upload | None
    persistent: bool = True
    begun: bool = False
    relayed: int = 0
    delivered: bool = False
    whole: bytes | None = None
    known: PlainHead | None = None
    ended: bool = False

    @property
    def fields(self) -> tuple[tuple[bytes, bytes], ...]:
        """The fields of its head as received."""
        return self.headers if self.known is None else self.known.headers

    @property
    def answered_early(self) -> bool:
        """Whether the upstream answered before it had the whole request."""
        return self.upload is not None and not self.upload.whole

    @property
    def reads_on(self) -> bool:
        """Whether the upstream has accepted a request that it still reads, so that the connections may stay open."""
        return self.upload is not None and self.upload.running and self.persistent and self.status < 400

    @property
    def upstream_left(self) -> bool:
        """Whether the upstream closed the connection behind its response, with content of the request unread."""
        return self.upload is not None and self.upload.left

    async def finish_upload(self, idle_timeout: float) -> None:
        """Let an upload go on whose response is complete, then close the connection.

        It is not used again: a service that answers without having read may take the rest of the
        content for its next request, and answer that.

        Args:
            idle_timeout: see ``Upload.finished``.

        Raises:
            GatewayError: the rest of the content could not be had.
        """
        assert self.upload is not None
        self.lease.protocol.force_close()
        await self.upload.finished(idle_timeout)
        self.finish()

    def finish(self) -> None:
        """Return the connection to the pool, or close it when the exchange is not whole."""
        if self.answered_early or not self.content.is_eof():
            self.abort()
        elif not self.ended:
            self.ended = True
            if self.upload is not None and unacknowledged(self.lease.protocol.transport):
                self.lease.protocol.force_close()  # closed behind the rest: the next request would wait for its reader
            self.lease.release()

    def abort(self) -> None:
        """Close the connection at once, unless it was returned: it may serve another exchange by now."""
        if self.ended:
            return
        self.ended = True
        if self.upload is not None:
            self.upload.task.cancel()
        self.lease.discard()

    def truncated(self) -> bool:
        """Whether a response that ends with its connection ended by a fault instead (R287, R409)."""
        return self.until_close and self.lease.protocol.broken


def checked_reply(
    message: ResponseMessage,
    payload: ContentStream,
    lease: Lease,
    upload: Upload | None,
    *,
    head_only: bool,
    upgrade: bool = False,
) -> Reply:
    """Refuse a response whose head or framing is not sound (RFC 9112 section 6.3, RFC 9110 section 15)."""
    if not (200 <= message.code <= 599 or (upgrade and message.code == 101)):
        raise GatewayError(Reasons.UPSTREAM_PROTOCOL, detail="status code")
    lengths, codings = [], []
    for name, value in message.raw_headers:
        if _FORBIDDEN.search(value) or _FORBIDDEN.search(name):
            raise GatewayError(Reasons.UPSTREAM_PROTOCOL, detail="control character in a field")
        match name.lower():
            case b"content-length":
                lengths.append(value)
            case b"transfer-encoding":
                codings.append(value)
    bodyless = head_only or message.code in (101, 204, 304)
    if len(lengths) > 1 or (lengths and codings) or len(codings) > 1:
        raise GatewayError(Reasons.UPSTREAM_PROTOCOL, detail="conflicting framing")
    if lengths and not _DIGITS.fullmatch(lengths[0]):
        raise GatewayError(Reasons.UPSTREAM_PROTOCOL, detail="content length")
    if codings and (codings[0].lower() != b"chunked" or message.version < (1, 1)):
        raise GatewayError(Reasons.UPSTREAM_PROTOCOL, detail="transfer coding")
    return Reply(
        status=message.code,
        phrase=_clean_phrase(message.reason),
        headers=message.raw_headers,
        length=int(lengths[0]) if lengths else None,
        bodyless=bodyless,
        until_close=not (bodyless or lengths or codings),
        content=payload,
        lease=lease,
        upload=upload,
        persistent=not message.should_close,
    )


def whole_reply(known: PlainHead, content: bytes, lease: Lease) -> Reply:
    """Return a plain response that came in one piece; its head was read strictly (``PlainReader``)."""
    return Reply(
        status=known.status,
        phrase=known.phrase,
        headers=(),
        length=None if known.length == IN_CHUNKS else known.length,
        bodyless=False,
        until_close=False,
        content=NO_CONTENT,
        lease=lease,
        upload=None,
        whole=content,
        known=known,
    )


async def rest_of_reply(status: int, lease: Lease) -> Reply:
    """Return a response in chunks whose beginning was relayed already (``UpstreamConnection.expect_rest``)."""
    return Reply(
        status=status,
        phrase=b"",
        headers=(),
        length=None,
        bodyless=False,
        until_close=False,
        content=await lease.protocol.rest_of_content(),
        lease=lease,
        upload=None,
        begun=True,
    )


def _clean_phrase(reason: str) -> bytes:
    """Keep a reason phrase only if it is plain text (RFC 9112 section 4: clients ignore it)."""
    return reason.encode("ascii") if reason.isascii() and reason.isprintable() else b""
