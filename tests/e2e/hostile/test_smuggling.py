"""Requests that two parsers may read differently: the gateway, and what it sends on, have one reading of each.

The corpus is ``tests/support/wire/smuggling.py``; what each of its requests is, by
RFC 9112, says the parser of ``tests/support/upstreams/strict.py``.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from tests.support.gateways.running import RawClient, RawResponse, RunningGateway, running_gateway, until
from tests.support.upstreams.strict import Message, StrictUpstream, Unfinished, Unsound, read_messages, strict_upstream
from tests.support.wire.smuggling import corpus

pytestmark = pytest.mark.untraced

ROUTES = ({"path": "/", "auth": "public"},)
AT_ONCE = 16
STALLED = RawResponse(b"HTTP/1.1 599 The connection is neither answered nor closed")


def due(sent: bytes) -> tuple[list[Message], type[Exception] | None]:
    """Return the requests that a connection's bytes hold, up to the one that ends it, and how the bytes end."""
    messages, stop = read_messages(sent)
    for count, message in enumerate(messages, 1):
        if not message.http_11 or message.all(b"connection") == [b"close"]:
            return messages[:count], None
    return messages, stop


async def answers(port: int, sent: bytes, stop: type[Exception] | None, count: int) -> list[RawResponse]:
    """Send the bytes; return the responses until the connection closes, or all that can come of unfinished bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    client = RawClient(reader, writer)
    got: list[RawResponse] = []
    try:
        await client.send(sent)
        while stop is not Unfinished or len(got) < count:
            got.append(await client.response())
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the gateway closed it
    except TimeoutError:
        got.append(STALLED)
    finally:
        await client.close()
    return got


def judged(sent: bytes, got: list[RawResponse], seen: list[Message]) -> str:
    """Return what is wrong; empty when nothing is."""
    messages, stop = due(sent)
    statuses = [response.status for response in got]
    if any(status >= 500 for status in statuses):
        return f"failed: {statuses}"
    if statuses[: len(messages)] != [200] * len(messages):
        return f"sound requests refused: {statuses} for {len(messages)}"
    rest = statuses[len(messages) :]
    if stop is Unsound and (len(rest) != 1 or not 400 <= rest[0] < 500):
        return f"unsound bytes answered {rest}"
    if stop is not Unsound and rest:
        return f"more answers than requests: {rest}"
    expected = [(message.method, message.target, message.body) for message in messages]
    if [(message.method, message.target, message.body) for message in seen] != expected:
        return f"the upstream read {seen}"
    return ""


def framed_once(message: Message) -> bool:
    """Whether a request has one framing, and no field that CGI and its like would take for another."""
    names = [re.sub(rb"[^a-z0-9]", b"-", name.lower()).removeprefix(b"http-") for name, _ in message.fields]
    framing = [name for name in names if name in (b"content-length", b"transfer-encoding")]
    genuine = len(message.all(b"content-length")) + len(message.all(b"transfer-encoding"))
    return len(framing) == genuine <= 1


async def run_corpus(gateway: RunningGateway, upstream: StrictUpstream, requests: list[bytes]) -> list[str]:
    """Send every request, some at once, each on a connection of its own; return what went wrong."""
    free = asyncio.Semaphore(AT_ONCE)

    async def one(sent: bytes) -> list[RawResponse]:
        messages, stop = due(sent)
        async with free:
            return await answers(gateway.app.port, sent, stop, len(messages))

    got = await asyncio.gather(*map(one, requests))
    seen: dict[int, list[Message]] = {}
    for message in upstream.messages:
        seen.setdefault(int(message.target[-4:]), []).append(message)
    findings = []
    for number, sent in enumerate(requests):
        if problem := judged(sent, got[number], seen.get(number, [])):
            findings.append(f"{sent!r}: {problem}")
    return findings


@pytest.mark.every_log
@pytest.mark.rule(
    "R200", "R201", "R202", "R203", "R204", "R205", "R206", "R207", "R208", "R209", "R210", "R212", "R217", "R218"
)
async def test_no_spelling_of_a_request_is_read_in_two_ways(tmp_path: Path) -> None:
    """All sound requests arrive, as they are; the first other byte ends it.

    So a canary inside content is never a request, and the one behind is one
    only if all before it was sound and is counted to its last byte.
    """
    requests = list(corpus())
    assert len(set(requests)) >= 2000
    async with strict_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=ROUTES) as gateway:
        findings = await run_corpus(gateway, upstream, requests)
        # One line for each request, and one for the bytes that are none.
        count = sum(len(messages) + (stop is Unsound) for messages, stop in map(due, requests))
        await until(lambda: gateway.app.telemetry.requests.total() >= count)
        logged = await gateway.log(count) if gateway.app.settings.server.access_log != "off" else None
    assert findings == []
    assert upstream.unsound == []
    assert [message for message in upstream.messages if not framed_once(message)] == []

    if logged is None:
        return
    # What the gateway meant to send, by its own account, is what the upstream read.
    meant = {
        line["request_id"]: (line["method"], line["path"], line["bytes_in"])
        for line in logged
        if line.get("status") == 200
    }
    read = {
        message.all(b"x-request-id")[0].decode(): (message.method.decode(), message.target.decode(), len(message.body))
        for message in upstream.messages
    }
    assert read == meant


def test_the_judge_tells_a_smuggled_request() -> None:
    """The judge itself: a canary that the upstream read as a request is a finding, and so is a content cut short."""
    sent = next(request for request in corpus() if b"\r\nTransfer-Encoding: xchunked" not in request)
    messages, stop = due(sent)
    assert stop is None
    ok = [RawResponse(b"HTTP/1.1 200 OK\r\n\r\n")] * len(messages)
    assert judged(sent, ok, messages) == ""
    hidden = Message(b"GET", b"/canary/0000", True, [], b"")
    assert "read" in judged(sent, ok, [messages[0], hidden, *messages[1:]])
    assert "read" in judged(sent, ok, [messages[0]._replace(body=b""), *messages[1:]])
    assert "refused" in judged(sent, ok[1:], messages)
    assert "failed" in judged(sent, [RawResponse(b"HTTP/1.1 502 Bad Gateway\r\n\r\n"), *ok[1:]], messages)
