"""Tokens and request bytes by chance, against a running gateway over sockets.

Each test runs one gateway and many examples on it; what may come out is said
by something that shares no code with it. The long run is ``scripts/fuzz``.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.fuzz.oracle import acceptable
from tests.fuzz.run import LARGE, main
from tests.fuzz.stage import Stage, on_stage, stage
from tests.fuzz.tokens import PUBLISHED, STRANGERS, TokenMaker
from tests.fuzz.values import mutated_bytes
from tests.support.tokens.minting import good_claims, mint_raw
from tests.support.upstreams.recording import OK, Received

pytestmark = pytest.mark.untraced

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
SEEDS = st.integers(0, 2**63)
HEADERS = st.dictionaries(
    st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "x"]) | st.text(), JSON, max_size=2
)
CLAIMS = st.dictionaries(
    st.sampled_from(["iss", "aud", "sub", "exp", "nbf", "iat", "scope", "role", "cnf", "events"]) | st.text(),
    JSON,
    max_size=3,
)

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"


def _dumped(value: object) -> bytes:
    """Write JSON as it comes, NaN and half surrogate pairs included."""
    return json.dumps(value).encode()


@pytest.mark.rule("R094", "C06")
def test_token_passes_only_if_an_independent_judge_admits_it(tmp_path: Path) -> None:
    """By seed and by shape; 200, 400, 401 or 403, and the upstream sees the admitted ones only."""
    with on_stage(stage(tmp_path)) as (made, run):
        maker = TokenMaker(made.now)

        async def judged(token: bytes) -> None:
            before = len(made.upstream.requests)
            may_pass = acceptable(token, PUBLISHED, made.now)
            status = await made.status(token)
            refusals = (401, 431) if len(token) > LARGE else (400, 401, 403)
            assert status in ((200,) if may_pass else refusals), status
            assert len(made.upstream.requests) - before == may_pass

        @settings(max_examples=300)
        @given(SEEDS)
        def by_seed(seed: int) -> None:
            _, token = maker.make(Random(seed))
            if not set(token) & set(b"\r\n\t \0"):  # these are not in the token but in the request around it
                run(judged(token))

        @settings(max_examples=150)
        @given(HEADERS, CLAIMS, st.sampled_from([*PUBLISHED.values(), *STRANGERS]))
        @example({}, {}, PUBLISHED["a"])
        @example({}, {"sub": "\ud800"}, PUBLISHED["e"])
        def by_shape(header: dict[str, Any], claims: dict[str, Any], key: Any) -> None:
            members = {"alg": key.algorithm, "kid": key.kid} | header
            run(judged(mint_raw(key, _dumped(members), _dumped(good_claims(made.now) | claims))))

        @settings(max_examples=100)
        @given(st.integers(0, 500), st.integers(0, 7))
        def by_bit(at: int, bit: int) -> None:
            token = bytearray(maker.good(at))
            token[at % len(token)] ^= 1 << bit
            if not set(token) & set(b"\r\n\t \0"):
                run(judged(bytes(token)))

        by_seed()
        by_shape()
        by_bit()


CHUNKED = b"POST /public HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
BASES = [
    b"GET /public?x=1 HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\n",
    b"GET /?x=1 HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer TOKEN\r\n\r\n",
    b"GET http://h/public HTTP/1.1\r\nHost: h\r\nConnection: close, x-user-id\r\n\r\n",
    b"POST /public HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
    CHUNKED,
    b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
    b"HEAD /public HTTP/1.0\r\n\r\n",
    b"GET /public HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    b"POST /public HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    b"GET /public HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for=_x\r\n"
    b"Via: 1.1 p\r\nX_User-Id: a\r\n\r\n",
]
PIECES = st.sampled_from(
    [
        *(b"\r", b"\n", b"\r\n", b"\0", b" ", b"\t", b":", b"/", b"%", b"%2e%2e", b"..", b";", b"#", b"\\"),
        *(b"\xff", b"\xe2\x80\xa8", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"),
        *(b"Host: h\r\n", b"Expect: x\r\n", b"HTTP/1.1", b"\r\n\r\n"),
        *(b"Connection: keep-alive, authorization\r\n", b"Content-Length: 99999999999999999999\r\n"),
        *(b"ffffffffffffffff\r\n",),
    ]
)
EDITS = st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 8), PIECES | st.binary(max_size=3)), min_size=1, max_size=4
)


def _edited(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for at, removed, piece in edits:
        at %= len(data) + 1
        data = data[:at] + piece + data[at + removed :]
    return data


async def _answer(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    return OK.removesuffix(b"ok") if received.line.startswith(b"HEAD ") else OK


async def _first_bytes(made: Stage, data: bytes) -> bytes:
    """Send bytes and return what comes within a moment."""
    client = await made.gateway.client()
    await client.send(data)
    said = b""
    with suppress(TimeoutError, ConnectionError):
        said = await asyncio.wait_for(client.reader.read(1 << 16), 0.05)
    await client.close()
    made.gateway.clients.remove(client)
    return said


@pytest.mark.every_log
@pytest.mark.rule("R207", "R217", "R236", "R274")
def test_request_bytes_by_chance_get_a_refusal_or_nothing(tmp_path: Path) -> None:
    """Random and nearly right; the gateway serves good requests afterwards."""
    routes = ({"path": "/"}, {"path": "/public", "auth": "public"})
    with on_stage(stage(tmp_path, _answer, routes=routes)) as (made, run):
        good = TokenMaker(made.now).good(0)

        async def sent(data: bytes) -> None:
            before = len(made.upstream.requests)
            said = await _first_bytes(made, data)
            if said:
                assert re.match(rb"HTTP/1\.1 (100|200|4\d\d) ", said), said
            assert b"HTTP/1.1 5" not in said
            for received in made.upstream.requests[before:]:
                assert received.target.startswith(b"/public") or good in data, received.head
                assert re.fullmatch(
                    _TOKEN + rb" /[!-~]* HTTP/1\.1(\r\n" + _TOKEN + rb":[^\r\n\0]*)+\r\n\r\n", received.head
                )
                assert received.all(b"x-user-id") in ([], [b"user-0"])

        @settings(max_examples=40)
        @given(st.binary(max_size=300))
        def by_chance(data: bytes) -> None:
            run(sent(data))

        @settings(max_examples=150)
        @given(st.sampled_from(BASES), EDITS)
        @example(CHUNKED, [(0, 0, b"\r\n")])
        def nearly(base: bytes, edits: list[tuple[int, int, bytes]]) -> None:
            run(sent(_edited(base.replace(b"TOKEN", good), edits)))

        @settings(max_examples=50)
        @given(st.sampled_from(BASES), SEEDS)
        def by_seed(base: bytes, seed: int) -> None:
            run(sent(mutated_bytes(base.replace(b"TOKEN", good), Random(seed))))

        by_chance()
        nearly()
        by_seed()
        assert run(made.status(good)) == 200


@pytest.mark.rule("R094")
def test_the_long_run_finds_nothing_in_a_few_hundred_tokens() -> None:
    """``scripts/fuzz`` itself, so that it cannot rot; the same seed each time."""
    command = [sys.executable, "-m", "tests.fuzz.run", "--count", "300", "--seed", "rot"]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.getcwd()}, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "300 tokens" in done.stdout
    assert "0 findings" in done.stdout


def test_the_long_run_reports_a_gateway_that_admits_too_much(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run can fail: with a verifier that believes every signature it says which seed shows it."""
    monkeypatch.setattr("gateway.jwt.authenticator.verify_signature", lambda _token, candidates: candidates[0])
    assert main(["--count", "150", "--seed", "rot"]) == 1
    assert (
        "the gateway says accepted, the oracle False\n    ./scripts/fuzz --seed rot --start" in capsys.readouterr().out
    )
