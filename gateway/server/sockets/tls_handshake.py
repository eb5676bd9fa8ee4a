"""One TLS handshake: how its failure reaches the client, and what it is called.

This file has what happens inside a handshake. The event loop drops the alert
that OpenSSL has written when a handshake fails (RFC 8446 section 6.2), and does
not report why it failed. So the failure is noted here, the event loop hears
that more bytes are wanted, which makes it send what is there, and the
connection is ended a moment later.
"""

from __future__ import annotations

import asyncio
import ssl
from contextvars import ContextVar

#: The causes that a handshake's failure is counted under.
PLAIN_HTTP = "plain_http"
NOT_TLS = "not_tls"
TLS_VERSION = "version"
NO_SHARED_CIPHER = "no_shared_cipher"
NO_APPLICATION_PROTOCOL = "no_application_protocol"
NO_CLIENT_CERTIFICATE = "no_client_certificate"
BAD_CLIENT_CERTIFICATE = "bad_client_certificate"
SERVER_NAME = "server_name"
REFUSED_BY_CLIENT = "refused_by_client"
CLIENT_GONE = "client_gone"
TIMEOUT = "timeout"
MALFORMED = "malformed"
CAUSES = (
    *(PLAIN_HTTP, NOT_TLS, TLS_VERSION, NO_SHARED_CIPHER, NO_APPLICATION_PROTOCOL, NO_CLIENT_CERTIFICATE),
    *(BAD_CLIENT_CERTIFICATE, SERVER_NAME, REFUSED_BY_CLIENT, CLIENT_GONE, TIMEOUT, MALFORMED),
)

#: The alert "no_application_protocol" (RFC 7301 section 3.2).
ALERT_NO_APPLICATION_PROTOCOL = 120

#: What the gateway speaks.
PROTOCOL = b"http/1.1"

_BY_REASON = {
    "UNSUPPORTED_PROTOCOL": TLS_VERSION,
    "VERSION_TOO_LOW": TLS_VERSION,
    "NO_SHARED_CIPHER": NO_SHARED_CIPHER,
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": NO_CLIENT_CERTIFICATE,
    "CERTIFICATE_VERIFY_FAILED": BAD_CLIENT_CERTIFICATE,
    "CALLBACK_FAILED": SERVER_NAME,
    "UNEXPECTED_EOF_WHILE_READING": CLIENT_GONE,
}


class Handshake:
    """One handshake that a task waits for.

    Args:
        task: is cancelled when the handshake has failed.
        offered: the application protocols that the client offers; empty when it offers none, or they are not known.

    Attributes:
        error: why it failed.
    """

    def __init__(self, task: asyncio.Task[None], offered: tuple[bytes, ...] = ()) -> None:
        self._task: asyncio.Task[None] | None = task
        self.offered = offered
        self.error: ssl.SSLError | None = None

    def failed(self, error: ssl.SSLError) -> None:
        """End the waiting once what stands to be sent was sent."""
        self.error = error.with_traceback(None)  # whose frames would keep this object, until cycles are looked for
        if self._task is not None:
            asyncio.get_running_loop().call_soon(self._task.cancel)

    def ended(self) -> None:
        """Let go of the task: what runs on the connection from now on can see this object, and would keep it."""
        self._task = None

    @property
    def no_protocol(self) -> bool:
        """Whether the client speaks other application protocols only."""
        return bool(self.offered) and PROTOCOL not in self.offered

    @property
    def cause(self) -> str:
        """What its failure is counted under."""
        if self.error is None:
            return CLIENT_GONE
        cause = cause_of(self.error)
        return NO_APPLICATION_PROTOCOL if cause == SERVER_NAME and self.no_protocol else cause


#: The handshake of the running task.
current: ContextVar[Handshake] = ContextVar("handshake")


class TlsObject(ssl.SSLObject):
    """The TLS state of a connection, as a server's contexts make it (``SSLContext.sslobject_class``)."""

    def do_handshake(self) -> None:
        """Go on with the handshake; its failure goes to ``current``, if there is one.

        Raises:
            ssl.SSLWantReadError: it is not done, or has failed.
            ssl.SSLError: it has failed, and there is no ``current`` to report it to.
        """
        handshake = current.get(None)
        if handshake is None:
            super().do_handshake()
            return
        if handshake.error is not None:
            raise ssl.SSLWantReadError
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            handshake.failed(error)
            raise ssl.SSLWantReadError from None


def cause_of(error: BaseException) -> str:
    """Return what a failure is counted under."""
    if isinstance(error, TimeoutError):
        return TIMEOUT
    if not isinstance(error, ssl.SSLError):
        return CLIENT_GONE
    reason = error.reason or ""
    if "_ALERT_" in reason:
        return REFUSED_BY_CLIENT
    return _BY_REASON.get(reason, MALFORMED)


def offered_protocols(data: bytes) -> tuple[bytes, ...]:
    """Return the application protocols that a ClientHello offers (RFC 7301 section 3.1).

    Args:
        data: the first bytes of a connection. Empty is returned for anything but a whole ClientHello that offers
            some: what is wrong with it is for OpenSSL to say.
    """
    try:
        extensions = _extensions(_first_message(data))
        return tuple(_protocols(extensions.get(16, b"")))
    except (IndexError, ValueError):
        return ()


class _Reader:
    """Takes numbers and vectors from the front of bytes; raises IndexError where they end too early."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        self._at += count
        if self._at > len(self._data):
            raise IndexError
        return self._data[self._at - count : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        return self.take(self.number(size))


def _first_message(data: bytes) -> bytes:
    """Return the content of the ClientHello, which may go over several records (RFC 8446 section 5.1)."""
    records, content = _Reader(data), b""
    while len(content) < 4 or len(content) < 4 + int.from_bytes(content[1:4], "big"):
        if records.number(1) != 22:
            raise ValueError
        records.take(2)
        content += records.vector(2)
    if content[0] != 1:
        raise ValueError
    return content[4 : 4 + int.from_bytes(content[1:4], "big")]


def _extensions(hello: bytes) -> dict[int, bytes]:
    """Return the extensions of a ClientHello (RFC 8446 section 4.1.2)."""
    reader = _Reader(hello)
    reader.take(2 + 32)
    for size in (1, 2, 1):  # session id, cipher suites, compression methods
        reader.vector(size)
    extensions = _Reader(reader.vector(2))
    found = {}
    while extensions.left:
        kind = extensions.number(2)
        found[kind] = extensions.vector(2)
    return found


def _protocols(extension: bytes) -> list[bytes]:
    if not extension:
        return []
    names, found = _Reader(_Reader(extension).vector(2)), []
    while names.left:
        found.append(names.vector(1))
    return found
