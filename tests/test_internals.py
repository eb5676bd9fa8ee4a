"""What the gateway rests on that no library promises, so that an upgrade fails here, in one readable place.

Each row names one attribute, signature or line of a library, and why it is needed. Behaviour is tested where it is
used; these tests say what is missing when that behaviour fails without a sound.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Generic, NamedTuple

import pytest
from aiocache import RedisCache
from aiohttp import BaseConnector, ClientRequest, http_exceptions, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage, RawResponseMessage
from aiohttp.http_writer import StreamWriter
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import PayloadAccessError, RequestHandler, RequestPayloadError
from joserfc.jwk import ECKey
from joserfc.jws import JWSRegistry
from pydantic_settings import EnvSettingsSource
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection, SSLConnection

from gateway.server.aiohttp_lane.protocol import TOO_MANY_FIELDS, ServerProtocol

GATEWAY = Path(__file__).parents[1] / "gateway"


class Row(NamedTuple):
    """One thing that is rested on.

    Attributes:
        owner: what has it.
        name: the attribute.
        why: what it is needed for, and what breaks without it.
        takes: the names of a method's parameters, without ``self``; one that ends with ``...`` may have others.
    """

    owner: Any
    name: str
    why: str
    takes: str | None = None


#: By ``server/aiohttp_lane/protocol.py``.
SERVER = (
    Row(
        RequestHandler,
        "__init__",
        "the limits of a head and the buffer of content; else a TypeError for each connection",
        "manager, loop, keepalive_timeout, access_log, max_line_size, max_headers, max_field_size, lingering_time,"
        " read_bufsize, auto_decompress, ...",
    ),
    Row(RequestHandler, "_loop", "the event loop, for times and timers"),
    Row(RequestHandler, "_close", "the connection ends behind the running request: keep-alive is told wrongly"),
    Row(RequestHandler, "_force_close", "nothing more is read; draining and lingering stop working, silently"),
    Row(RequestHandler, "_manager", "None: no task is made for a connection that is turned away"),
    Row(RequestHandler, "_messages", "the requests that no handler has begun: idle connections never close"),
    Row(RequestHandler, "_waiter", "a request is waited for: idle connections survive a drain"),
    Row(RequestHandler, "_request_count", "the admin port: a head is whole, or was refused"),
    Row(RequestHandler, "_buffer_paused", "the client is held back: unbounded memory for what it sends ahead"),
    Row(RequestHandler, "_reading_paused", "the reader of content has enough"),
    Row(RequestHandler, "_pause_reading_for_buffer", "holds the client back", ""),
    Row(RequestHandler, "_resume_reading_for_buffer", "lets it go on", ""),
    Row(RequestHandler, "_resume_reading_if_drained", "overridden: aiohttp would read on too early", ""),
    Row(RequestHandler, "_resume_transport_reading", "a lingering connection is read, whatever was held back", ""),
    Row(RequestHandler, "data_received", "overridden: every byte is looked at first", "data"),
    Row(RequestHandler, "resume_reading", "overridden: content is read on in turns", "resume_parser"),
    Row(
        RequestHandler,
        "handle_error",
        "overridden (R274): answers quote nothing",
        "request, status, exc, message",
    ),
    Row(RequestHandler, "log_exception", "overridden (R274): logs quote nothing", "*args, **kw"),
    Row(RequestHandler, "log_debug", "overridden (R274): logs quote nothing", "*args, **kw"),
    Row(RequestHandler, "ssl_context", "the client speaks TLS to this port"),
    Row(RequestHandler, "peername", "who the client is"),
    Row(RequestHandler, "sockname", "which port it came in on"),
    Row(RequestHandler, "writing_paused", "the client takes nothing: writes wait"),
    Row(web.Server, "__init__", "a handler ends when its client leaves", "handler, handler_cancellation, ..."),
    Row(web.Server, "connections", "the connections that a drain closes"),
    Row(web.BaseRequest, "raw_path", "tells which stand-in a request was parsed from"),
    Row(web.BaseRequest, "protocol", "the connection of a request"),
    Row(web.BaseRequest, "writer", "waits while the client cannot take more"),
)

#: By ``upstream/pool/connection.py`` and ``upstream/exchange/upload.py``.
UPSTREAM = (
    Row(
        ResponseHandler,
        "set_response_params",
        "the limits of a response; else it is read without any",
        "skip_payload, read_until_eof, auto_decompress, read_timeout, read_bufsize, max_line_size, max_field_size,"
        " max_headers, ...",
    ),
    Row(ResponseHandler, "_drop_timeout", "a tunnel has no time limit for reading", ""),
    Row(ResponseHandler, "_tail", "what came behind a 101 is lost"),
    Row(ResponseHandler, "_payload", "a reader of broken content waits without end"),
    Row(ResponseHandler, "_upgraded", "another protocol has the connection"),
    Row(ResponseHandler, "_reading_paused", "the reader of content has enough"),
    Row(ResponseHandler, "_drain_helper", "waits until the kernel has the whole upload", ""),
    Row(ResponseHandler, "data_received", "overridden: plain responses are read without the parser", "data"),
    Row(ResponseHandler, "pause_reading", "overridden: what has arrived at the end is read", ""),
    Row(ResponseHandler, "resume_reading", "overridden: content is read on in turns", "resume_parser"),
    Row(ResponseHandler, "eof_received", "overridden: an end in order is told from a fault", ""),
    Row(ResponseHandler, "connection_lost", "overridden: what has arrived is read first", "exc"),
    Row(ResponseHandler, "set_exception", "overridden: it reaches the reader of content", "exc, exc_cause"),
    Row(ResponseHandler, "read", "returns the next head and its content", ""),
    Row(ResponseHandler, "force_close", "the connection is not used again", ""),
    Row(ResponseHandler, "is_connected", "the connection can be used again", ""),
    Row(ResponseHandler, "should_close", "the upstream wants the connection closed"),
    Row(ResponseHandler, "closed", "done when the connection is gone"),
    Row(BaseConnector, "_factory", "makes connections of the gateway's own kind; else 502 for every request"),
    Row(BaseConnector, "connect", "opens one; else 502 for every request", "req, traces, timeout"),
    Row(ClientRequest, "__init__", "what a connection is opened for", "method, url, loop, server_hostname, ..."),
    Row(StreamWriter, "__init__", "writes an upload at the upstream's pace", "protocol, loop, ..."),
    Row(StreamWriter, "write", "the head of an upload leaves with its content", "chunk, drain, ..."),
)

#: By both, and by who reads content.
STREAMS = (
    Row(StreamReader, "total_bytes", "content is there, and is read without a wait"),
    Row(StreamReader, "is_eof", "all of the content has come", ""),
    Row(StreamReader, "at_eof", "all of it was read", ""),
    Row(StreamReader, "read_nowait", "what has come leaves in one write with the head", "n"),
    Row(StreamReader, "readany", "the next piece", ""),
    Row(StreamReader, "exception", "broken content is seen before anything is written", ""),
    Row(StreamReader, "set_exception", "whoever reads malformed content hears of it", "exc, exc_cause"),
    Row(RawRequestMessage, "path", "a message of this type is a request, and no fault"),
    Row(RawResponseMessage, "raw_headers", "fields as the upstream spelled them"),
    Row(RawResponseMessage, "should_close", "the upstream closes its connection"),
)

#: By other modules.
OTHERS = (
    Row(EnvSettingsSource, "_load_env_vars", "settings/loading/environment.py: else no variable is read, silently", ""),
    Row(RedisCache, "client", "introspection/shared_answers.py: else aiocache opens connections without limits"),
    Row(ECKey, "curve_key_size", "jwt/jose/keys.py: how long an EC signature is"),
    Row(ECKey, "get_op_key", "jwt/jose/keys.py: the key as the algorithms ask for it", "operation"),
    Row(JWSRegistry, "algorithms", "jwt/jose/compact.py: the algorithms by their names"),
    Row(Redis, "response_callbacks", "store/connections.py: answers come as the server gave them"),
    Row(Redis, "connection_pool", "store/redis_link.py: the pool of a client"),
    Row(ConnectionPool, "connection_kwargs", "store/connections.py: what connections are made with"),
    Row(ConnectionPool, "connection_class", "store/connections.py: which connections are made"),
    Row(AbstractConnection, "connect", "store/connections.py: overridden: leads it to the server in office", ""),
    Row(SSLConnection, "_connection_arguments", "store/connections.py: overridden: TLS as everywhere else", ""),
)


class Line(NamedTuple):
    """A line of a library that has no name of its own.

    Attributes:
        function: where it stands.
        text: what is there, white space aside.
        why: as of ``Row``.
    """

    function: Any
    text: str
    why: str


LINES = (
    Line(BaseProtocol.resume_reading, 'self.data_received(b"")', "bytes that aiohttp has already come without data"),
    Line(RequestHandler.start, "while not self._force_close:", "the loop of a connection ends with it"),
    Line(RequestHandler.start, "message, payload = self._messages.popleft()", "the queue holds pairs"),
    Line(RequestHandler.start, "self._waiter = None", "None while a request is served"),
    Line(RequestHandler.connection_lost, "if self._manager is None: return", "a connection turned away has no task"),
)


ROWS = (*SERVER, *UPSTREAM, *STREAMS, *OTHERS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.owner.__name__}.{row.name}")
def test_attribute_is_there(row: Row) -> None:
    assert _has(row.owner, row.name), row.why
    if row.takes is None:
        return
    *wanted, last = row.takes.split(", ") if row.takes else [""]
    found = list(_parameters(getattr(row.owner, row.name)))
    if last == "...":
        assert set(wanted) <= set(found), row.why
    else:
        assert ", ".join(found) == row.takes, row.why


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.function.__qualname__)
def test_line_is_there(line: Line) -> None:
    assert line.text in " ".join(inspect.getsource(line.function).split()), line.why


@pytest.mark.rule("R215")
def test_native_parser_names_itself_and_says_what_is_too_many() -> None:
    """And the text, for which there is no type, tells 431 from 400."""
    assert HttpRequestParser.__module__ == "aiohttp._http_parser"
    parser = HttpRequestParser(_Silent(), None, 65536, max_headers=1, payload_exception=RequestPayloadError)  # type: ignore[arg-type]
    with pytest.raises(http_exceptions.BadHttpMessage) as refused:
        parser.feed_data(b"GET / HTTP/1.1\r\nA: b\r\nC: d\r\n\r\n")
    assert refused.value.message == TOO_MANY_FIELDS


def test_faults_of_content_are_those_of_aiohttp() -> None:
    assert issubclass(RequestPayloadError, Exception)
    assert issubclass(PayloadAccessError, Exception)
    assert EMPTY_PAYLOAD.is_eof()


def test_what_is_overridden_is_called_by_that_name() -> None:
    """An override of a method that aiohttp has renamed would never be called."""
    own = {name for name, value in vars(ServerProtocol).items() if inspect.isfunction(value)}
    assert {"data_received", "resume_reading", "_resume_reading_if_drained", "log_exception", "log_debug"} <= own


def test_regular_expressions_can_be_taken_apart() -> None:
    """settings/checks/slow_patterns.py: without it no pattern is judged."""
    tree = importlib.import_module("re._parser").parse("a")
    assert int(tree.state.flags) & re.UNICODE


#: Modules of aiohttp that promise nothing, and who may import them.
PRIVATE = {"web_protocol", "http_parser", "client_proto", "connector", "streams", "base_protocol"}
MAY = {"server/aiohttp_lane/protocol.py", "upstream/pool/connection.py"}


def test_no_other_module_imports_the_private_parts_of_aiohttp() -> None:
    found = {str(file.relative_to(GATEWAY)) for file in GATEWAY.rglob("*.py") if PRIVATE & set(_parts_of_aiohttp(file))}
    assert found == MAY


def test_every_private_attribute_of_aiohttp_is_used_by_those_two_and_named_here() -> None:
    """Also what a class has by deriving from one of aiohttp's."""
    named = {row.name for row in (*SERVER, *UPSTREAM)}
    derived = {
        RequestHandler: re.compile(r"\((?:RequestHandler|ServerProtocol)\)"),
        ResponseHandler: re.compile(r"\((?:ResponseHandler|UpstreamConnection)\):"),
    }
    found: dict[str, set[str]] = {}
    for file in GATEWAY.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        for owner, derives in derived.items():
            if derives.search(text):
                found[str(file.relative_to(GATEWAY))] = set(re.findall(r"self\.(_\w+)", text)) & _private(owner)
    assert found["server/aiohttp_lane/protocol.py"] | found["upstream/pool/connection.py"] <= named
    assert {name: used for name, used in found.items() if used and name not in MAY} == {}


def test_the_rules_of_this_file_see_an_import(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("import aiohttp.streams\nfrom aiohttp.connector import X\nfrom aiohttp import web_protocol\n")
    assert sorted(_parts_of_aiohttp(file)) == ["connector", "streams", "web_protocol"]


def _parts_of_aiohttp(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name.split(".")[1] for name in names if name.startswith("aiohttp."))


def _private(owner: type) -> set[str]:
    """Return the private attributes of a class and of its objects."""
    found: set[str] = set()
    for base in _bases(owner):
        found |= {name for name in vars(base) if not name.startswith("__")}
        found |= set(re.findall(r"self\.(_\w+)", inspect.getsource(base)))
    return {name for name in found if name.startswith("_")}


def _has(owner: Any, name: str) -> bool:
    """Return whether a class has an attribute, or gives it to its objects."""
    if hasattr(owner, name):
        return True
    return any(f"self.{name}" in inspect.getsource(base) for base in _bases(owner))


def _bases(owner: type) -> list[type]:
    """Return a class and what it derives from, but for what is Python's: that may have no source."""
    return [base for base in owner.__mro__ if base not in (object, Generic)]


def _parameters(method: Any) -> Iterator[str]:
    for parameter in inspect.signature(method).parameters.values():
        if parameter.name != "self":
            yield str(parameter.replace(annotation=parameter.empty, default=parameter.empty))


class _Silent:
    """A protocol for a parser that is fed a head only."""

    _reading_paused = False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...
