"""The admin port itself: who may call it by which name, and how long and how many connections are held.

This file has what happens around the pages; the pages are ``pages.py``'s and
``process/worker_pages.py``'s. The danger of this file is that the port has no
authentication: a browser inside the network must not be led to it by a name
that resolves to its address (DNS rebinding, CWE-350), and connections that say
nothing must not keep out those that scrape and probe.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
from collections.abc import Awaitable, Callable, Iterable
from email.utils import formatdate
from ipaddress import ip_address
from typing import Any, cast

import orjson
from aiohttp import hdrs, web
from aiohttp.http_exceptions import LineTooLong

from gateway import turns
from gateway.errors import GatewayError
from gateway.http1.host import parse_host
from gateway.http1.target import parse_target
from gateway.server.aiohttp_lane.placeholders import sent
from gateway.server.aiohttp_lane.protocol import NO_REQUEST_CONTENT, RequestStream, ServerProtocol
from gateway.server.sockets.listen import listen
from gateway.settings.tables.server import Server
from gateway.settings.values import host as canonical
from gateway.settings.values import split_address
from gateway.tasks import where

_log = logging.getLogger("gateway.admin")

#: Most connections at a time; fewer where the process may open few files. Scrapes and probes need a handful. A new
#: one takes the place of the one that has waited longest for the end of its header section, or for anything at all.
MAX_CONNECTIONS = 128

#: The share of the files that the process may open, as a divisor; with a limit of 1,024 there are 32 connections.
_FILES_FOR_ONE = 32

#: Most bytes of a header section.
MAX_HEAD_BYTES = 16_384

#: How much of what has come is looked at in one go, in bytes: it may be requests, or chunks, of a few bytes each.
PIECE = 1024

#: From a whole header section to the end of its answer, in seconds: content that is sent slowly, and answers that are
#: read slowly, end with it.
ANSWER_SECONDS = 30.0

#: How long content that no page reads is taken before its connection is closed, in seconds.
_LINGER = 2.0

# Fields of a header section; and how long a connection is kept without a request, in seconds, for which the other
# limits are shorter.
_MAX_FIELDS, _KEEPALIVE = 128, 3630.0

_UNKNOWN_HOST = "Call the admin port by an IP address, as localhost, or by a name in server.admin_hosts."

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def open_admin(made: web.Application, settings: Server, stop: contextlib.AsyncExitStack) -> int:
    """Serve the pages until ``stop`` is closed; return their port, 0 for a Unix socket.

    Raises:
        OSError: the address cannot be listened on.
    """
    runner = web.AppRunner(made, access_log=None, handle_signals=False, shutdown_timeout=1)
    made.middlewares.append(_guarded(settings))
    made.on_response_prepare.append(_say_little)
    await runner.setup()
    stop.push_async_callback(runner.cleanup)
    assert runner.server is not None
    most = most_connections(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    port = AdminPort(runner.server, settings.request_head_timeout_seconds, most)
    listening = await listen(port, settings.admin_listen, backlog=most)
    stop.callback(listening.close)
    return listening.number


def most_connections(files: int) -> int:
    """Return how many connections are held at a time.

    Args:
        files: how many the process may open, or ``RLIM_INFINITY``.
    """
    if files == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(8, min(MAX_CONNECTIONS, files // _FILES_FOR_ONE))


def known_names(settings: Server) -> frozenset[str]:
    """Return the names, besides IP addresses, by which the admin port may be called."""
    names = {"localhost", *settings.admin_hosts}
    if not settings.admin_listen.startswith("unix:"):
        name = split_address(settings.admin_listen)[0]
        names.add(canonical(f"[{name}]" if ":" in name else name))
    return frozenset(names)


def is_known(host: str, names: Iterable[str]) -> bool:
    """Tell whether a canonical host is one of these names or an IP address.

    Any other name may be a stranger's that resolves to this address. An address may not: a browser lets pages read
    only what is under their own host.
    """
    if host in names:
        return True
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _guarded(settings: Server) -> Any:
    """Return what looks at each request before the pages do."""
    names = known_names(settings)
    by_socket = settings.admin_listen.startswith("unix:")
    logged = False

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        nonlocal logged
        cast("_Connection", request.protocol).begin_answer()
        try:
            host = _host(request)
        except GatewayError:
            return _refusal(400, "bad_request", "The Host or the target is malformed.")
        # A browser has no way to a Unix socket, and HTTP/1.0, which may do without a Host, is spoken by none.
        if by_socket or not host or is_known(host, names):
            return await handler(request)
        if not logged:
            logged = True
            _log.warning(
                "admin port: answered 421, Host is not an IP address, localhost or in server.admin_hosts (logged once)"
            )
        return _refusal(421, "misdirected_request", _UNKNOWN_HOST)

    return guard


def _host(request: web.Request) -> str:
    """Return the host that a request is for; empty for HTTP/1.0 without one.

    Raises:
        GatewayError: there is not one, or it is malformed.
    """
    authority = None
    if not request.raw_path.startswith("/"):
        authority = parse_target(request.method, request.raw_path.encode("utf-8", "surrogateescape")).authority
    values = [value for name, value in request.raw_headers if name.lower() == b"host"]
    return parse_host(values, authority, http_11=request.version >= (1, 1))


async def _say_little(request: web.Request, response: web.StreamResponse) -> None:
    """Name no software and no version (CWE-200), and end the connection with the answer: scrapes are seldom."""
    response.headers.popall(hdrs.SERVER, None)
    response.headers[hdrs.CONNECTION] = "close"  # aiohttp has written its fields already
    response.force_close()


def _refusal(status: int, error: str, text: str) -> web.Response:
    return web.Response(
        status=status,
        body=orjson.dumps({"error": error, "error_description": text}),
        headers={"Content-Type": "application/json", "Cache-Control": "no-store"},
    )


class AdminPort:
    """Makes a protocol for each connection to the pages, and bounds how many there are.

    Args:
        server: aiohttp's, which knows the pages.
        head_seconds: from the connection to the end of its header section.
        most: connections at a time.
    """

    def __init__(self, server: web.Server, head_seconds: float, most: int = MAX_CONNECTIONS) -> None:
        self.server = server
        self.most = most
        self.head_seconds = head_seconds
        self._silent: dict[_Connection, None] = {}  # nothing has come yet; the oldest first
        self._partial: dict[_Connection, None] = {}  # the begin of a header section has come
        self._answering: set[_Connection] = set()

    def __call__(self) -> ServerProtocol:
        return _Connection(self, asyncio.get_running_loop())

    def __len__(self) -> int:
        return len(self._silent) + len(self._partial) + len(self._answering)

    def admit(self, connection: _Connection) -> bool:
        """Take a new connection in, at the cost of the one that has waited longest; say whether there was room."""
        if len(self) >= self.most:
            oldest = next(iter(self._partial or self._silent), None)
            if oldest is None:
                return False
            self.leave(oldest)
            oldest.cut()
        self._silent[connection] = None
        return True

    def begin(self, connection: _Connection) -> None:
        """Note that a connection has sent something, and no whole request yet."""
        if connection in self._silent:
            del self._silent[connection]
            self._partial[connection] = None

    def answer(self, connection: _Connection) -> None:
        """Note that a connection has a whole request."""
        if connection in self._silent or connection in self._partial:
            self.leave(connection)
            self._answering.add(connection)

    def leave(self, connection: _Connection) -> None:
        """Note that a connection is gone."""
        self._silent.pop(connection, None)
        self._partial.pop(connection, None)
        self._answering.discard(connection)


class _Connection(ServerProtocol):
    """One connection, for one request: what follows it is not looked at."""

    __slots__ = ("_admin", "_before_head", "_content", "_in_turn", "_pending", "_timer")

    def __init__(self, admin: AdminPort, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            admin.server,
            loop,
            max_head_bytes=MAX_HEAD_BYTES,
            max_fields=_MAX_FIELDS,
            keepalive_seconds=_KEEPALIVE,
            lingering_seconds=_LINGER,
        )
        self._admin = admin
        self._content: RequestStream | None = None  # of the request, once its header section is whole
        self._pending = memoryview(b"")  # what has come and was not looked at
        self._in_turn = False
        self._before_head = 0  # bytes that have come before the first whole header section
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not self._admin.admit(self):
            self.begin_without_task(transport)
            self.cut()
            return
        self._timer = self.loop.call_later(self._admin.head_seconds, self.cut)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._admin.leave(self)
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)
        self._pending = memoryview(b"")
        self.forget_requests_ahead()  # what followed the request is not served any more

    def arrived(self, data: bytes) -> None:
        if not self._over:
            self._pending = memoryview(bytes(self._pending) + data) if self._pending else memoryview(data)
            if not self._in_turn:
                self._look()

    @property
    def _over(self) -> bool:
        """Whether all of the request has come."""
        return self.input_dropped or (self._content is not None and self._content.is_eof())

    def _look(self) -> None:
        """Look at a piece of what has come, and at the rest in a later turn, unless no page takes the content."""
        self._in_turn = False
        piece, self._pending = bytes(self._pending[:PIECE]), self._pending[PIECE:]
        if piece and self.transport is not None:
            self._take(piece)
        if self._over or self.transport is None:
            self._pending = memoryview(b"")
        self._wait_for_turn()
        if bool(self._pending) is not self.input_paused:
            if self._pending:
                self.pause_input()
            else:
                self.resume_input()

    def _wait_for_turn(self) -> None:
        if self._pending and not (self._in_turn or self.content_paused):
            self._in_turn = True
            turns.later(self._look)

    def content_taken(self) -> None:
        self._wait_for_turn()

    @property
    def may_resume_input(self) -> bool:
        return not self._pending

    def _take(self, data: bytes) -> None:
        self._before_head += len(data)
        self.parse(data)
        if self.has_parsed_request:
            if self._content is None and self.requests_ahead:
                self._content = self.request_ahead(0) or NO_REQUEST_CONTENT
            self._admin.answer(self)  # a head is whole, or was refused
        elif self._before_head > MAX_HEAD_BYTES:
            self._write(431, b"Request Header Fields Too Large")
            self.force_close()
        else:
            self._admin.begin(self)

    def begin_answer(self) -> None:
        """Give the request, which is whole but for its content, the time for its answer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self.loop.call_later(ANSWER_SECONDS, self.cut)

    def cut(self) -> None:
        """Close the connection at once."""
        if self.transport is not None:
            self.transport.abort()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what is no HTTP request, or a page that failed; nothing of the request is quoted."""
        if isinstance(exc, LineTooLong):
            self._write(431, b"Request Header Fields Too Large")
        elif status < 500:
            self._write(400, b"Bad Request")
        else:
            _log.error("admin port: page failed: %s", where(exc) if exc is not None else "no answer")
            self._write(503, b"Service Unavailable")
        return sent(keep_alive=False)

    def log_fault(self, error: object) -> None:
        _log.error(
            "admin port: unexpected error, connection closed: %s",
            where(error) if isinstance(error, BaseException) else "a fault",
        )

    def _write(self, status: int, phrase: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            date = formatdate(usegmt=True).encode("ascii")
            fields = b"Content-Length: 0\r\nConnection: close\r\nDate: " + date
            self.transport.write(b"HTTP/1.1 %d %b\r\n%b\r\n\r\n" % (status, phrase, fields))
