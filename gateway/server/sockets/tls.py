"""HTTPS on the public port: one context, made anew when its files change.

This file has the context of the listener and the watch over its files. A new
context is made whole and tried before it is used, so that files which do not
fit change nothing; connections that are open keep what they have. Nothing of a
file may be in a log.
"""

from __future__ import annotations

import asyncio
import logging
import ssl

from gateway import tls_contexts
from gateway.server.sockets.tls_handshake import ALERT_NO_APPLICATION_PROTOCOL, PROTOCOL, TlsObject, current
from gateway.settings.tables.server import Server
from gateway.telemetry.counters import Telemetry
from gateway.watched_file import WatchedFile

_log = logging.getLogger("gateway")

#: How often the files are looked at, in seconds.
RELOAD_SECONDS = 5.0

#: TLS 1.2 with forward secrecy and authenticated encryption only. TLS 1.3 has suites of its own, all of them sound.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


class ServerTls:
    """The TLS side of the listener.

    Args:
        settings: with ``tls_cert`` and ``tls_key``.
        telemetry: where newer files that cannot be used are counted.

    Attributes:
        context: what handshakes begin with. Each is done with the newest files all the same.

    Raises:
        OSError: a file cannot be read or does not fit (``ssl.SSLError`` is one, too).
    """

    def __init__(self, settings: Server, telemetry: Telemetry) -> None:
        self._settings = settings
        self._telemetry = telemetry
        files = (settings.tls_cert, settings.tls_key, settings.tls_client_ca)
        self._files = WatchedFile(*filter(None, files))
        self._files.take()
        self._in_force = self._doubtful = self._files.found
        self.context = self._newest = server_context(settings)
        self.context.sni_callback = self._choose

    def for_connection(self) -> ssl.SSLContext:
        """Return the context for one more connection.

        Where clients are asked for certificates it is a new one: OpenSSL
        remembers sessions in the context that a connection began with, and a
        session of TLS 1.2 that is resumed, by its id or by a ticket, brings
        its certificate back without judging it (RFC 5246 section 7.3). A new
        context remembers none, so every certificate is judged (R430).
        """
        if not self._settings.tls_client_ca:
            return self.context
        context = _empty_context(self._settings)
        context.sni_callback = self._choose
        return context

    def _choose(
        self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext
    ) -> int | None:
        """Continue a handshake that begins, with or without a server name, under the newest context."""
        handshake = current.get(None)
        if handshake is not None and handshake.no_protocol:
            return ALERT_NO_APPLICATION_PROTOCOL
        if self._newest is not context:
            connection.context = self._newest
        return None

    async def look(self) -> None:
        """Do ``refresh``, as a round of a ``Periodic``."""
        self.refresh()

    def refresh(self) -> None:
        """Take the files if they have changed and fit; else keep what there is."""
        files = self._files
        if not files.look() or files.found == self._in_force:
            return
        try:
            self._newest = server_context(self._settings)
        except OSError as error:
            if files.found != self._doubtful:
                # A certificate and its key are written one after the other: look once more.
                self._doubtful = files.found
                files.forget()
                return
            if not isinstance(error, ssl.SSLError):
                files.forget()  # what the system does not let be read now may be read later, as the same version
            if files.fails_again():
                return
            self._telemetry.tls_reload_failures += 1
            reason = getattr(error, "reason", None) or error.strerror or str(error)
            _log.warning("TLS files cannot be used: %s; the certificate loaded before stays in use", reason)
            return
        files.succeeds()
        self._in_force = self._doubtful = files.found
        _log.info("TLS certificate reloaded from %s: new connections use it", self._settings.tls_cert)


def server_context(settings: Server) -> ssl.SSLContext:
    """Return the context of an HTTPS listener.

    TLS 1.2 is the least version; HTTP/1.1 is what ALPN offers (RFC 7301).

    Raises:
        OSError: a file cannot be read or does not fit.
    """
    context = _empty_context(settings)
    context.load_cert_chain(settings.tls_cert, settings.tls_key, password=_no_password)
    if settings.tls_client_ca:
        context.load_verify_locations(settings.tls_client_ca)
    return context


def _empty_context(settings: Server) -> ssl.SSLContext:
    """Return a context with everything but what is in files."""
    context = tls_contexts.base_server_context()
    context.sslobject_class = TlsObject
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols([PROTOCOL.decode()])
    if settings.tls_client_ca:
        context.verify_mode = ssl.CERT_REQUIRED if settings.tls_client_auth == "required" else ssl.CERT_OPTIONAL
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context


def peer_certificate(transport: asyncio.BaseTransport | None) -> bytes | None:
    """Return the certificate in DER that the other end of a connection showed, if it showed one."""
    connection = None if transport is None else transport.get_extra_info("ssl_object")
    certificate: bytes | None = None if connection is None else connection.getpeercert(binary_form=True)
    return certificate


def _no_password() -> str:
    """Be asked for a password instead of the terminal."""
    raise OSError("the key is encrypted")
