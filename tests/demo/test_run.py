"""The demo as a whole, run for real: its three requests, its ports, its end, and ``gateway token``."""

from __future__ import annotations

import asyncio
import base64
import json
import shlex
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import jwt as pyjwt
import pytest
from aiohttp import web

from gateway.demo import run
from gateway.demo.identity_provider import IdentityProvider
from tests.peers.process import Process

IDENTITY = [["x-user-id", "alice"], ["x-user-role", "merchant"], ["x-scope", "orders:read"]]


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as session:
        yield session


def test_once_sends_three_requests_and_all_are_right(capsys: pytest.CaptureFixture[str]) -> None:
    """The promise of ``./scripts/demo --once``."""
    assert run.run_demo(once=True) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "no token: 401",
        "a valid token: 200",
        "a tampered token: 401",
    ]
    assert all(line.endswith("as it should be") for line in lines)


def test_once_fails_when_an_answer_is_wrong(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it prints is judged, not assumed: a tampered token that is not tampered with must fail the demo."""
    monkeypatch.setattr(run, "tamper", lambda token: token)
    assert run.run_demo(once=True) == 1
    assert "a tampered token: 200" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("request_", "status", "body", "wrong"),
    [
        (run.DemoRequest("", "", 401, "missing_token"), 401, {"error": "missing_token"}, False),
        (run.DemoRequest("", "", 401, "missing_token"), 401, {"error": "invalid_token"}, True),
        (run.DemoRequest("", "", 401, "missing_token"), 403, {"error": "missing_token"}, True),
        (run.DemoRequest("", "t", 200), 200, {"headers": [["X-Other", "1"], *IDENTITY]}, False),
        (run.DemoRequest("", "t", 200), 200, {"headers": IDENTITY[::-1]}, False),
        (run.DemoRequest("", "t", 200), 200, {"headers": IDENTITY[:2]}, True),
        (run.DemoRequest("", "t", 200), 200, {"headers": [*IDENTITY, ["X-User-Id", "bob"]]}, True),
        (run.DemoRequest("", "t", 200), 200, {"error": "bad_gateway"}, True),
    ],
    ids=["right refusal", "other error", "other status", "right", "any order", "one missing", "one doubled", "no echo"],
)
def test_an_answer_is_judged(request_: run.DemoRequest, status: int, body: dict[str, Any], wrong: bool) -> None:
    """Status, error code, and the whole identity that the upstream saw."""
    assert bool(run.fault(request_, status, body)) is wrong


async def test_tampering_changes_a_claim_and_keeps_the_signature() -> None:
    """Else the third request would show something else than a broken signature."""
    async with IdentityProvider() as provider:
        token = provider.mint(claims={"role": "merchant"})
    header, payload, signature = (run.tamper(token)).split(".")
    assert token.startswith(f"{header}.")
    assert token.endswith(f".{signature}")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    assert claims == pyjwt.decode(token, options={"verify_signature": False}) | {"role": "admin"}


def test_a_port_that_was_asked_for_and_is_taken_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1 and one line, no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run.run_demo(port=port) == 1
    assert capsys.readouterr().err.startswith(f"gateway demo: port {port} is taken; choose another one")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_it_stays_up_on_free_ports_until_it_is_interrupted(
    tmp_path: Path, session: aiohttp.ClientSession, number: signal.Signals
) -> None:
    """The printed lines work as they stand, also where the usual port is taken; the end is a clean one."""
    with _holding(run.DEFAULT_PORT):
        async with Process([sys.executable, "-m", "gateway", "demo"], tmp_path / "output") as demo:
            await demo.wait_until(lambda: "Ctrl-C" in demo.output())
            lines = [shlex.split(line) for line in demo.output().splitlines() if line.startswith("curl ")]
            assert [await _paste(session, line) for line in lines] == [401, 200, 401, 200, 200]
            assert not any(f":{run.DEFAULT_PORT}/" in line[-1] for line in lines)
            assert await demo.ended_by(number) == 0
            assert demo.output().rstrip().endswith("Stopping.")
            assert "Traceback" not in demo.output()


def _holding(port: int) -> socket.socket:
    """Hold ``port``; when another program of this machine does already, that serves as well."""
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError:
        return socket.socket()


async def _paste(session: aiohttp.ClientSession, line: list[str]) -> int:
    """Do what ``curl`` does with the options that the demo uses, and return the status."""
    *options, url = line[1:]
    method, headers, data = "GET", {}, []
    arguments = iter(options)
    for option in arguments:
        match option:
            case "-i":
                pass
            case "-X":
                method = next(arguments)
            case "-H":
                name, _, value = next(arguments).partition(": ")
                headers[name] = value
            case "-d":
                method = "POST"
                data.append(next(arguments).partition("=")[::2])
            case _:
                raise AssertionError(option)
    async with session.request(method, url, headers=headers, data=data or None) as answer:
        return answer.status


async def test_token_prints_a_token_with_the_claims(capsys: pytest.CaptureFixture[str]) -> None:
    """``gateway token --claim role=admin --expires-in 60``."""
    async with IdentityProvider() as provider:
        code = await asyncio.to_thread(run.print_token, f"{provider.issuer}/", {"role": "admin", "n": [1]}, 60)
    claims = pyjwt.decode(capsys.readouterr().out.strip(), options={"verify_signature": False})
    assert (code, claims["role"], claims["n"], claims["exp"] - claims["iat"]) == (0, "admin", [1], 60)


async def test_token_says_what_the_provider_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Its own words, on standard error."""
    async with IdentityProvider() as provider:
        assert await asyncio.to_thread(run.print_token, provider.issuer, {}, 10**9) == 1
    output = capsys.readouterr()
    assert (output.out, "expires_in must be" in output.err) == ("", True)


@pytest.mark.parametrize("issuer", ["http://127.0.0.1:1", "nonsense", "ftp://127.0.0.1", ""])
def test_token_without_a_provider_fails_in_one_line(capsys: pytest.CaptureFixture[str], issuer: str) -> None:
    """No traceback, and the hint that the demo must run."""
    assert run.print_token(issuer) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"gateway token: no token from {issuer}")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("status", "content_type", "text"),
    [
        (200, "text/html", "<html>"),
        (200, "application/json", "[]"),
        (200, "application/json", "{"),
        (302, "application/json", "{}"),
        (500, "application/json", '{"access_token": "t"}'),
    ],
)
async def test_token_from_something_else_fails(
    capsys: pytest.CaptureFixture[str], status: int, content_type: str, text: str
) -> None:
    """Whatever listens there is not believed to be a provider."""

    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response(status=status, content_type=content_type, text=text, headers={"Location": "/elsewhere"})

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    code = await asyncio.to_thread(run.print_token, f"http://127.0.0.1:{runner.addresses[0][1]}")
    await runner.cleanup()
    output = capsys.readouterr()
    assert (code, output.out) == (1, "")
    assert output.err.startswith("gateway token: ")
