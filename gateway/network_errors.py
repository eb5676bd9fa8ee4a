"""What ended an exchange over the network, in words for a log.

Words the cause alone; the caller names the peer and decides what follows. The
danger is an exception's own text, which may quote a password or an answer: it
is never repeated, nor is the name of a Python class.
"""

from __future__ import annotations

import os
import socket
import ssl

from aiohttp import ServerDisconnectedError


class WordedError(OSError):
    """A fault that the gateway found itself, as connecting fails: its text is for a log.

    Args:
        text: printable, without a secret.
    """

    def __init__(self, text: str) -> None:
        super().__init__(None, text)
        self.text = text


def cause(error: BaseException) -> str:
    """Return why an exchange failed: "connection refused", "timed out", "name not found".

    Libraries wrap what the system said: their ``os_error`` and ``certificate_error``, or what they were raised from,
    are looked through first.
    """
    inner = _innermost(error)
    if isinstance(inner, WordedError):
        return inner.text
    if isinstance(inner, ssl.SSLCertVerificationError):
        why = getattr(inner, "verify_message", "")  # OpenSSL's own words
        return f"certificate not accepted: {why}" if why else "certificate not accepted"
    if isinstance(inner, ssl.SSLError):
        return f"TLS handshake failed: {(getattr(inner, 'reason', None) or 'unknown reason').replace('_', ' ').lower()}"
    if isinstance(inner, socket.gaierror):
        return "name not found"
    if isinstance(inner, OSError) and inner.errno:
        return os.strerror(inner.errno).lower()
    if isinstance(inner, TimeoutError):
        return "timed out"
    if isinstance(inner, EOFError | ConnectionError | ServerDisconnectedError):
        return "connection closed by the server"
    return "connection failed" if isinstance(inner, OSError) else "unexpected error"


def _innermost(error: BaseException) -> BaseException:
    """Return the error of the system that an exception stands for, or the exception itself."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        for name in ("certificate_error", "os_error"):
            if isinstance(found := getattr(at, name, None), OSError):
                return found
        if isinstance(at, OSError | EOFError):
            return at
        at = at.__cause__ or at.__context__
    return error
