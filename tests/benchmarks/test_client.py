"""benchmarks/client.py: where a response ends, however it is framed and however it arrives."""

from __future__ import annotations

import contextlib
import selectors
from collections.abc import Iterator

import pytest

from benchmarks.client import Connection
from tests.benchmarks.service import service

GET = b"GET / HTTP/1.1\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@contextlib.contextmanager
def connected(*pieces: bytes) -> Iterator[tuple[Connection, selectors.BaseSelector]]:
    """Give a connection to a service that answers with these pieces."""
    with service(lambda _: list(pieces)) as port, selectors.DefaultSelector() as selector:
        connection = Connection(port, selector)
        yield connection, selector
        connection.close()


def receive(connection: Connection, selector: selectors.BaseSelector) -> None:
    """Read until the response is complete."""
    while True:
        for _ in selector.select(5):
            if connection.receive():
                return


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ncontent-length:0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
        CHUNKED + b"0\r\n\r\n",
    ],
)
def test_the_end_is_found_whole_or_in_pieces(response: bytes) -> None:
    """Twice on one connection: nothing of the first response is left over."""
    for pieces in ([response], [response[:7], response[7:-3], response[-3:]], [bytes([byte]) for byte in response]):
        with connected(*pieces) as (connection, selector):
            for _ in range(2):
                connection.send(GET, 1.5)
                receive(connection, selector)
                assert (connection.status, connection.received) == (int(response[9:12]), len(response))
                assert connection.due == 1.5
                assert not connection.ends


def test_content_without_a_length_ends_with_the_connection() -> None:
    with connected(b"HTTP/1.0 200 OK\r\n\r\n", b"some") as (connection, selector):
        connection.send(b"GET / HTTP/1.0\r\nX: close\r\n\r\n", 0)
        receive(connection, selector)
        assert connection.received == 23


@pytest.mark.parametrize("piece", [b"", b"HTTP/1.1 20", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", CHUNKED])
def test_an_end_before_the_end_is_an_error(piece: bytes) -> None:
    with connected(piece) as (connection, selector):
        connection.send(b"GET / HTTP/1.1\r\nX: close\r\n\r\n", 0)
        with pytest.raises(ConnectionResetError):
            receive(connection, selector)


def test_a_response_says_when_its_connection_ends() -> None:
    with connected(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n") as (connection, selector):
        connection.send(GET, 0)
        receive(connection, selector)
        assert connection.ends
