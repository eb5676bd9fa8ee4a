"""The words for what ended an exchange over the network."""

import errno
import socket
import ssl

import pytest
from aiohttp import ClientConnectorCertificateError, ClientConnectorError, ServerDisconnectedError
from aiohttp.client_reqrep import ConnectionKey

from gateway.network_errors import WordedError, cause

SECRET = "hunter2"

KEY = ConnectionKey("idp.example", 443, True, True, None, None, None)


def _wrapped(inner: Exception) -> Exception:
    outer = RuntimeError(SECRET)
    outer.__context__ = inner
    return outer


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, SECRET), "connection refused"),
        (ClientConnectorError(KEY, OSError(errno.ENETUNREACH, SECRET)), "network is unreachable"),
        (ClientConnectorError(KEY, socket.gaierror(socket.EAI_NONAME, SECRET)), "name not found"),
        (ClientConnectorError(KEY, OSError(SECRET)), "connection failed"),
        (ClientConnectorCertificateError(KEY, ssl.CertificateError(SECRET)), "certificate not accepted"),
        (ssl.SSLError(1, SECRET), "TLS handshake failed: unknown reason"),
        (ClientConnectorError(KEY, WordedError("the gateway's own words")), "the gateway's own words"),
        (TimeoutError(SECRET), "timed out"),
        (ConnectionResetError(SECRET), "connection closed by the server"),
        (EOFError(SECRET), "connection closed by the server"),
        (_wrapped(ConnectionRefusedError(errno.ECONNREFUSED, SECRET)), "connection refused"),
        (ServerDisconnectedError(SECRET), "connection closed by the server"),
        (ValueError(SECRET), "unexpected error"),
    ],
)
def test_a_failure_is_told_in_words_and_never_in_its_own_text(error: Exception, words: str) -> None:
    assert cause(error) == words
