"""Identity providers and upstreams that answer by chance, with a running gateway between them and its clients."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.fuzz.stage import Stage, on_stage, stage
from tests.fuzz.tokens import PUBLISHED, TokenMaker
from tests.fuzz.values import mutated_bytes
from tests.support.clock import eventually, settle
from tests.support.gateways.running import RawResponse, request
from tests.support.issuers.identity_provider import raw_server
from tests.support.tokens.minting import jwks
from tests.support.upstreams.recording import Received

pytestmark = pytest.mark.untraced

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
SEEDS = st.integers(0, 2**63)


def _dumped(value: object) -> bytes:
    """Write JSON as it comes, NaN and half surrogate pairs included."""
    return json.dumps(value).encode()


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def _provided(directory: Path, talk: Talk) -> AsyncIterator[Stage]:
    """Run a gateway whose keys come from ``talk``."""
    options = {"jwks_file": "", "jwks_refresh_seconds": 60, "jwks_cooldown_seconds": 1}
    async with (
        raw_server(talk) as url,
        stage(directory, issuer={**options, "jwks_url": f"{url}/jwks"}) as made,
    ):
        yield made


ODD_KEY = st.dictionaries(
    st.sampled_from(["kty", "kid", "alg", "use", "key_ops", "n", "e", "crv", "x", "y", "d", "k", "x5c"]),
    JSON
    | st.sampled_from(
        ["RSA", "EC", "OKP", "oct", "AKP", "P-256", "P-999", "Ed25519", "X25519", "AQAB", "AA", "sig", "a"]
    ),
    max_size=6,
)
STATUS_LINES = st.sampled_from(
    [
        *(b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 204 No", b"HTTP/1.1 206 P"),
        *(b"HTTP/1.1 302 F", b"HTTP/1.1 304 N", b"HTTP/1.1 404 N", b"HTTP/1.1 500 E", b"HTTP/1.1 999 X"),
        *(b"HTTP/2 200", b"ICY 200 OK", b""),
    ]
)
FIELDS = st.lists(
    st.sampled_from(
        [
            *(b"Location: http://169.254.169.254/", b"Content-Encoding: gzip", b"Cache-Control: max-age=0"),
            *(b"Age: -1", b"Cache-Control: max-age=99999999999999999999", b"Transfer-Encoding: chunked"),
            *(b"ETag: x\x01", b"Content-Type: x", b"Set-Cookie: a=b", b"Content-Length: 5"),
            *(b"Cache-Control: max-age=nan", b"Last-Modified: \xff", b": x"),
        ]
    ),
    max_size=3,
)


@pytest.mark.rule("R014", "R150", "R151", "R152", "R153", "R154", "R155", "R156", "C30", "C34")
def test_identity_provider_that_answers_anything_takes_no_good_key_away(tmp_path: Path) -> None:
    """Random bytes, odd statuses and fields, mutated sets, odd keys."""
    answers = [b""]

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answers[0])
        await writer.drain()

    good_set = jwks(*PUBLISHED.values())
    answers[0] = _response(b"HTTP/1.1 200 OK", [], good_set)
    with on_stage(_provided(tmp_path, talk)) as (made, run):
        keys = made.gateway.app.issuers["main"]
        token = TokenMaker(made.now).good(0)

        async def fetched(answer: bytes) -> bool:
            """Let the gateway fetch this answer; return whether it was believed."""
            answers[0] = answer
            fetches, failures = keys.fetches, keys.failures
            await made.gateway.clock.advance(made.gateway.clock.naps[0] + 0.001)
            await eventually(lambda: keys.fetches > fetches)
            await settle()
            made.gateway.clock.step_wall(made.now - made.gateway.clock.wall())
            return keys.failures == failures

        async def answered(answer: bytes, *, kept: bool) -> None:
            believed = await fetched(answer)
            status = await made.status(token)
            assert status == 200 if kept or not believed else status in (200, 401)
            assert (await made.gateway.admin("/status")).status == 200
            if believed and not kept:
                assert await fetched(_response(b"HTTP/1.1 200 OK", [], good_set))
                assert await made.status(token) == 200

        @settings(max_examples=60)
        @given(st.binary(max_size=200) | st.builds(_response, STATUS_LINES, FIELDS, st.binary(max_size=100)))
        def by_chance(answer: bytes) -> None:
            run(answered(answer, kept=True))

        @settings(max_examples=60)
        @given(STATUS_LINES, FIELDS, SEEDS)
        def mutated(line: bytes, fields: list[bytes], seed: int) -> None:
            run(answered(_response(line, fields, mutated_bytes(good_set, Random(seed))), kept=False))

        @settings(max_examples=80)
        @given(st.lists(ODD_KEY | JSON, max_size=4))
        def beside(odd: list[Any]) -> None:
            body = _dumped({"keys": [*odd, PUBLISHED["a"].public_jwk()]})
            run(answered(_response(b"HTTP/1.1 200 OK", [], body), kept=True))

        by_chance()
        mutated()
        beside()


def _response(line: bytes, fields: list[bytes], body: bytes) -> bytes:
    return b"\r\n".join([line, *fields, b"Connection: close", b"Content-Length: %d" % len(body), b"", body])


UPSTREAM_ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nSet-Cookie: a=b\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nhello",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: /x\r\nConnection: close, x-odd\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\nX-User-Id: up\r\nVia: 1.1 x\r\n\r\nabc",
]
PIECES = st.sampled_from(
    [
        *(b"\r", b"\n", b"\r\n", b"\0", b" ", b":", b"\xff", b"\x1b", b"\r\n\r\n", b"HTTP/1.1 200 OK\r\n"),
        *(b"0\r\n\r\n", b"-", b"0x", b"Content-Length: 4\r\n", b"Transfer-Encoding: chunked\r\n"),
        *(b"Transfer-Encoding: gzip\r\n", b"Content-Length: \xb2\r\n", b"Connection: keep-alive\r\n"),
        *(b"Upgrade: x\r\n", b"X: " + b"y" * 70_000 + b"\r\n", b"X: y\r\n" * 1200),
    ]
)
EDITS = st.lists(st.tuples(st.integers(0, 150), st.integers(0, 8), PIECES | st.binary(max_size=3)), max_size=4)

HEAD = re.compile(rb"HTTP/1\.1 [2-5]\d\d [ -~]*(\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n\0]*)*\r\n\r\n")


@pytest.mark.every_log
@pytest.mark.rule("R271", "R275", "R276", "R286", "R289", "R290", "R291", "R292")
def test_upstream_that_answers_anything_gives_a_sound_response_or_a_broken_one(tmp_path: Path) -> None:
    """Never 500, and no later response is touched."""
    answers = [b""]

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
        if received.target.startswith(b"/good"):
            body = received.target
            return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        writer.write(answers[0])
        await writer.drain()
        return b"" if received.target == b"/keep" else None

    options: dict[str, Any] = {"response_timeout_seconds": 0.5, "idle_timeout_seconds": 0.5}
    routes = ({"path": "/", "auth": "public"},)
    with on_stage(stage(tmp_path, respond, routes=routes, upstream=options)) as (made, run):
        count = 0

        async def answered(data: bytes, target: bytes) -> None:
            nonlocal count
            count += 1
            answers[0] = data
            client = await made.gateway.client()
            try:
                response: RawResponse | None = await client.exchange(request(b"GET", target))
            except (asyncio.IncompleteReadError, ConnectionError):
                response = None
            await client.close()
            if response is not None:
                assert HEAD.fullmatch(response.head), response.head
                assert response.status != 500 or b"500" in data
                assert response.status != 503 or b"503" in data
            after = b"/good/%d" % count
            next_one = await (await made.gateway.client()).exchange(request(b"GET", after, (b"Connection", b"close")))
            assert (next_one.status, next_one.body) == (200, after)

        @settings(max_examples=25)
        @given(st.sampled_from(UPSTREAM_ANSWERS), EDITS)
        @example(b"", [])
        def edited(base: bytes, edits: list[tuple[int, int, bytes]]) -> None:
            for at, removed, piece in edits:
                at %= len(base) + 1
                base = base[:at] + piece + base[at + removed :]
            run(answered(base, b"/close"))

        @settings(max_examples=100)
        @given(st.sampled_from(UPSTREAM_ANSWERS), SEEDS)
        def by_seed(base: bytes, seed: int) -> None:
            run(answered(mutated_bytes(base, Random(seed)), b"/close"))

        @settings(max_examples=10)
        @given(st.sampled_from(UPSTREAM_ANSWERS), SEEDS)
        def kept(base: bytes, seed: int) -> None:
            run(answered(mutated_bytes(base, Random(seed)), b"/keep"))

        @settings(max_examples=50)
        @given(st.binary(max_size=200))
        def by_chance(data: bytes) -> None:
            run(answered(data, b"/close"))

        edited()
        by_seed()
        kept()
        by_chance()
        assert made.gateway.app.upstreams["main"].origins[0].state().in_use == 0
