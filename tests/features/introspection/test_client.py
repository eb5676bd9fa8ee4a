"""One introspection request over a real socket: how it is sent, and what is no answer."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey

from gateway.features.introspection.client import MAX_ANSWER, IntrospectionClient
from gateway.outbound.http import FetchError
from tests.support.clock import FakeClock
from tests.support.issuers.identity_provider import private_authority, raw_server
from tests.support.issuers.introspection import authorization_server, introspecting, json_answer, said

TOKEN = b"2YotnFZFEjr1zCsicMWpAA+/="


async def ask(folder: Path, url: str, **options: Any) -> dict[str, Any]:
    client = IntrospectionClient(introspecting(folder, url, **options), FakeClock())
    try:
        return await client.ask(TOKEN)
    finally:
        await client.close()


async def failure(folder: Path, url: str, **options: Any) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await ask(folder, url, **options)
    assert TOKEN.decode() not in str(caught.value)
    return caught.value


@pytest.mark.rule("R119", "R267")
async def test_question_is_a_form_that_names_no_token_elsewhere(tmp_path: Path) -> None:
    """POST, what is accepted, nothing compressed, no cookie."""
    async with authorization_server() as server:
        server.tokens[TOKEN.decode()] = said(1)
        assert await ask(tmp_path, server.url) == said(1)
    (asked,) = server.asked
    assert (asked.method, asked.target) == ("POST", "/introspect")
    assert asked.form == {"token": TOKEN.decode(), "token_type_hint": "access_token"}
    assert (asked.headers["Accept"], asked.headers["Accept-Encoding"]) == ("application/json", "identity")
    assert asked.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert "Cookie" not in asked.headers
    assert TOKEN.decode() not in str(dict(asked.headers))


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8", "application/json;x=y"])
async def test_json_is_json_however_it_is_written(kind: str, tmp_path: Path) -> None:
    async with authorization_server() as server:
        server.answer = json_answer({"active": False}, fields={"Content-Type": kind})
        assert await ask(tmp_path, server.url) == {"active": False}


FAILURES = [
    pytest.param(json_answer({}, 400), "status_400", id="400"),
    pytest.param(json_answer({}, 204), "status_204", id="204"),
    pytest.param(json_answer({}, 301, fields={"Location": "/"}), "status_301", id="redirect"),
    pytest.param(json_answer({}, fields={"Content-Type": "application/jwt"}), "content_type", id="type"),
    pytest.param(json_answer({}, fields={"Content-Type": "text/json"}), "content_type", id="text"),
    pytest.param(json_answer(b"{" + b" " * MAX_ANSWER + b"}"), "too_large", id="large"),
    pytest.param(json_answer({}, fields={"Content-Encoding": "br"}), "encoded", id="coded"),
    pytest.param(json_answer(b""), "bad_answer", id="empty"),
    pytest.param(json_answer(b'{"a": NaN}'), "bad_answer", id="nan"),
    pytest.param(json_answer(b'{"active": true, "active": true}'), "bad_answer", id="twice"),
    pytest.param(json_answer(b'\xef\xbb\xbf{"active": true}'), "bad_answer", id="mark"),
    pytest.param(json_answer(b"[" * 50_000), "bad_answer", id="deep"),
]


@pytest.mark.parametrize(("answer", "code"), FAILURES)
@pytest.mark.rule("R122")
async def test_everything_else_is_no_answer(answer: Any, code: str, tmp_path: Path) -> None:
    """CWE-918: nothing is followed, and nothing is read beyond the limit."""
    async with authorization_server() as server:
        server.answer = answer
        assert (await failure(tmp_path, server.url)).code == code
    assert len(server.asked) == 1


@pytest.mark.rule("R122")
async def test_endless_answer_is_cut_at_the_limit(tmp_path: Path) -> None:
    sent = 0

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
        while sent < 1 << 28:
            writer.write(b" " * 65536)
            await writer.drain()
            sent += 65536

    async with raw_server(talk) as origin:
        assert (await failure(tmp_path, origin + "/introspect")).code == "too_large"
    assert sent < 1 << 27


@pytest.mark.rule("R122")
async def test_broken_and_absent_servers(tmp_path: Path) -> None:
    async def nonsense(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail ready\r\n\r\n")
        await writer.drain()

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def silence(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with raw_server(nonsense) as one, raw_server(hang_up) as two, raw_server(silence) as three:
        assert (await failure(tmp_path, one)).code == "protocol"
        assert (await failure(tmp_path, two)).code == "connect"
        assert (await failure(tmp_path, three, introspection_timeout_seconds=0.1)).code == "timeout"
    assert (await failure(tmp_path, "http://127.0.0.1:1/")).code == "connect"


@pytest.mark.rule("R122")
async def test_kept_connection_that_was_closed_costs_nobody_an_answer(tmp_path: Path) -> None:
    """Asked again over another one, once, with another assertion."""
    seen: list[bytes] = []
    answer = b'{"active": false}'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(answer)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(1 if len(seen) < 3 else 0):
            asked = await reader.readuntil(b"\r\n\r\n")
            length = int(asked.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            seen.append(await reader.readexactly(length))
            writer.write(head + answer)
        with contextlib.suppress(asyncio.IncompleteReadError):
            seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    (tmp_path / "key").write_bytes(ECKey.generate_key("P-256").as_pem(private=True))
    options = {"introspection_auth": "private_key_jwt", "introspection_private_key_file": str(tmp_path / "key")}
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    client = IntrospectionClient(introspecting(tmp_path, url, **options), FakeClock())
    try:
        assert await client.ask(TOKEN) == {"active": False}
        assert await client.ask(TOKEN) == {"active": False}  # its first connection ends without an answer
        with pytest.raises(FetchError) as caught:
            await client.ask(TOKEN)  # and so do both that are tried now
        assert caught.value.code == "connect"
    finally:
        await client.close()
        server.close()
    answered = [text for text in seen if b"client_assertion=" in text]
    assert (len(seen), len(answered), len(set(answered))) == (5, 2, 2)


@pytest.mark.rule("R119", "R122")
async def test_certificate_must_be_of_a_known_authority(tmp_path: Path) -> None:
    """The configured one instead of the system's."""
    bundle, context = private_authority(tmp_path)
    async with authorization_server(tls=context) as server:
        assert (await failure(tmp_path, server.url)).code == "tls"
        assert await ask(tmp_path, server.url, introspection_ca_file=str(bundle)) == {"active": False}
        broken = tmp_path / "broken.pem"
        broken.write_text("nothing")
        assert (await failure(tmp_path, server.url, introspection_ca_file=str(broken))).code == "ca_file"
        missing = await failure(tmp_path, server.url, introspection_ca_file=str(tmp_path / "missing"))
        assert (missing.code, "introspection_ca_file" in str(missing)) == ("ca_file", True)


async def test_connections_are_kept(tmp_path: Path) -> None:
    async with authorization_server() as server:
        client = IntrospectionClient(introspecting(tmp_path, server.url), FakeClock())
        for _ in range(5):
            assert await client.ask(b"x") == {"active": False}
        await client.close()
    assert len(server.sources) == 1
