"""One request on its way, and what its run needs to know of the client.

This file has declarations only: both lanes make the objects,
``pipeline/runner.py`` uses them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gateway.errors import Reason
from gateway.http1.request_head import RequestHead
from gateway.http1.trusted_proxies import Peer
from gateway.policy.cors import CorsPolicy
from gateway.server.request.in_use import InUse
from gateway.telemetry.record import Record
from gateway.upstream.exchange.upload import Content


class Client(Protocol):
    """The client's side of one request."""

    @property
    def keep_alive(self) -> bool:
        """Whether the connection may serve another request after this one."""
        ...

    @property
    def gone(self) -> bool:
        """Whether nothing can be written to the client any more."""
        ...

    @property
    def draining(self) -> bool:
        """Whether the gateway itself is about to end the connection."""
        ...

    @property
    def stalled(self) -> bool:
        """Whether the connection was cut because the client did not read."""
        ...

    @property
    def certificate(self) -> bytes | None:
        """The certificate in DER that the client showed on this connection, if it showed one."""
        ...

    async def write(self, data: bytes) -> None:
        """Send bytes, waiting while the client cannot take more.

        Raises:
            ConnectionError: the client left.
        """
        ...

    def abort(self) -> None:
        """Cut the connection at once; what was written and has not left yet is lost."""
        ...

    def break_off(self, *, unread: bool) -> None:
        """End the connection behind what was written, so that a response cannot be taken for complete.

        Args:
            unread: the client still sends: a connection closed over unread input is reset, and
                the reset may overtake what was sent (RFC 9112 section 9.6). So end the sending
                only, and drop what comes for a while.
        """
        ...

    def without_end(self, begins: bool) -> None:
        """Note that a response begins whose content has no marked end but the connection's, or that it is complete.

        Between the two, every end of the connection is a reset: anything else says that
        the content is complete (RFC 9112 section 8).
        """
        ...


class ClientSideContent(Content, Protocol):
    """A request's content, and what became of it.

    Attributes:
        size: bytes read so far.
        awaited: the client waits for a 100 before it sends (RFC 9110 section 10.1.1).
    """

    size: int
    awaited: bool

    @property
    def unread(self) -> bool:
        """Whether some of it has not come in yet."""
        ...

    async def read_rest(self) -> bool:
        """Read and drop what still comes; return whether it came to its end in time."""
        ...


class Run:
    """One request on its way.

    Args:
        client: the client's side.
        head: the request's.
        peer: the other end of the client's connection.
        record: what is counted and logged of the request.
        request_id: for the upstream and for logs.

    Attributes:
        id: the request id.
        content: the request's content; None when it has none.
        started_reply: bytes of a response went to the client.
        delivered: all of an upstream's response did; the request's content may still be on its way.
        cors: what pages of other origins may do with its route, once that is known.
        in_use: the verdict on its credential, when the response is to end with it.
        cut_off: why the response was ended with its token.
        entered: it is counted among those that are being served.
        retried: it was sent once already, over a connection that turned out to be closed.
        asked_at: monotonic seconds at which a connection for it was first asked for; None before a repetition.
        answer_fields: further fields of whatever response its client gets.
    """

    # Not in __init__: most requests end without these being touched.
    content: ClientSideContent | None = None
    started_reply = False
    delivered = False
    retried = False
    asked_at: float | None = None
    cors: CorsPolicy | None = None
    in_use: InUse | None = None
    cut_off: Reason | None = None
    entered = False
    answer_fields: Sequence[tuple[bytes, bytes]] = ()

    def __init__(self, client: Client, head: RequestHead, peer: Peer, record: Record, request_id: bytes) -> None:
        self.client = client
        self.head = head
        self.peer = peer
        self.record = record
        self.id = request_id

    def add_answer_fields(self, *fields: tuple[bytes, bytes]) -> None:
        """Have further fields in whatever response the client gets."""
        self.answer_fields = (*self.answer_fields, *fields)

    def end_with_credential(self, reason: Reason) -> None:
        """End a response whose credential is no longer good, so that it cannot be taken for complete."""
        self.cut_off = reason
        self.client.abort()
