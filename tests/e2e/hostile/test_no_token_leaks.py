"""A secret goes through every path of a running gateway, and is then looked for in everything that it says.

Logs at debug level with tracebacks, the access log, answers, status and
metrics pages, standard output and error. What an upstream gets is not the
matter here, save that a token stays at the edge.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.hostile.token_paths import API_KEYS, PATHS, ROUTES, Sender, echoing
from tests.peers.process import Process
from tests.support.clients.proving import bound_token, proved
from tests.support.composed import Settings
from tests.support.gateways.revoking import until_status
from tests.support.gateways.running import (
    ISSUER,
    RawClient,
    RawResponse,
    RunningGateway,
    configuration,
    request,
    running,
    running_gateway,
)
from tests.support.issuers.identity_provider import Answer, FakeIdp
from tests.support.leaks import Secrets, everything_logged
from tests.support.pace import paced
from tests.support.ports import free_port
from tests.support.tokens.api_keys import KEY
from tests.support.tokens.minting import SigningKey, jwks
from tests.support.upstreams.recording import Received, raw_upstream

pytestmark = pytest.mark.untraced

OPTIONS: dict[str, Any] = {
    "routes": ROUTES,
    "api_keys": API_KEYS,
    "upstream": {"response_timeout_seconds": 0.3, "connect_timeout_seconds": 0.3},
}


async def _pages(gateway: RunningGateway) -> dict[str, str]:
    """Return every page of the admin port and the access log."""
    said = {"access log": gateway.out.getvalue()}
    for path in ("/metrics", "/status", "/readyz", "/healthz"):
        page = await gateway.admin(path)
        said[path] = (page.head + page.body).decode("latin-1")
    return said


def _assert_silent(secrets: Secrets, answers: list[RawResponse], said: dict[str, str]) -> None:
    for answer in answers:
        assert answer.status != 500
        secrets.assert_absent(answer.head + answer.body, "an answer")
    for place, text in said.items():
        secrets.assert_absent(text, place)


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.rule("C85", "R196", "R274", "R106", "C63")
async def test_token_is_in_no_log_answer_or_page(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Every logger at debug level; nothing is a fault of the gateway."""
    server = {"max_head_bytes": 16384}
    with everything_logged() as logged:
        async with (
            raw_upstream(echoing) as upstream,
            running_gateway(upstream.url, tmp_path, server=server, **OPTIONS) as gateway,
        ):
            sender = Sender.to(gateway)
            answers = await PATHS[name](sender)
            said = await _pages(gateway)
    printed = capfd.readouterr()
    _assert_silent(sender.secrets, answers, said | {"log": "\n".join(logged.lines), "out": printed.out + printed.err})
    assert [record.getMessage() for record in logged.records if record.levelname in ("ERROR", "CRITICAL")] == []
    at_the_edge = [received for received in upstream.requests if not received.target.startswith(b"/pass")]
    assert all(received.all(b"authorization") == [] for received in at_the_edge if b"cookie" not in received.head)


@pytest.mark.rule("C85", "R196")
async def test_token_is_not_in_the_access_log_as_text(tmp_path: Path) -> None:
    """The other form of the access log, through all paths in a row."""
    server = {"max_head_bytes": 16384, "access_log": "text"}
    with everything_logged() as logged:
        async with (
            raw_upstream(echoing) as upstream,
            running_gateway(upstream.url, tmp_path, server=server, **OPTIONS) as gateway,
        ):
            sender = Sender.to(gateway)
            answers = [answer for send in PATHS.values() for answer in await send(sender)]
            said = await _pages(gateway)
    assert gateway.out.getvalue().count("\n") > len(PATHS)
    _assert_silent(sender.secrets, answers, said | {"log": "\n".join(logged.lines)})


@pytest.mark.rule("C85", "R196", "R333")
async def test_token_is_in_nothing_said_about_an_upstream_that_is_down(tmp_path: Path) -> None:
    """Refused connections."""
    with everything_logged() as logged:
        async with running_gateway("http://127.0.0.1:1", tmp_path, **OPTIONS) as gateway:
            sender = Sender.to(gateway)
            answers = [await gateway.get(target, token=sender.token) for target in ("/", "/pass", "/public")]
            said = await _pages(gateway)
    assert [answer.status for answer in answers] == [502, 502, 502]
    _assert_silent(sender.secrets, answers, said | {"log": "\n".join(logged.lines)})


STEPS = [
    "gateway.http1.request_head.HeadReader.read",
    "gateway.http1.plain_response.PlainReader.read",
    "gateway.server.pipeline.judge_steps.parse_target",
    "gateway.server.pipeline.judge_steps.parse_host",
    "gateway.server.authentication.credentials.bearer_token",
    "gateway.server.authentication.credentials.field_credential",
    "gateway.features.api_keys.keys.sha256",
    "gateway.jwt.authenticator.parse_token",
    "gateway.jwt.authenticator.check_claims",
    "gateway.jwt.authenticator.verify_signature",
    "gateway.jwt.authenticator.make_identity",
    "gateway.server.authentication.identify.authorize",
    "gateway.features.sender_constrained.proof.parse_proof",
    "gateway.features.sender_constrained.proof.check_proof",
    "gateway.features.sender_constrained.proof.digest_of",
    "gateway.server.pipeline.judge_steps.passed_before",
    "gateway.server.pipeline.judge_steps.request_line",
    "gateway.server.pipeline.judge_steps.upstream_head",
    "gateway.upstream.headers.forwarded.Forwarding.lines",
    "gateway.upstream.exchange.reply.Reply.truncated",
    "gateway.upstream.exchange.exchange.checked_reply",
    "gateway.server.request.response_head.response_headers",
    "gateway.upstream.pool.connection.UpstreamConnection.response",
    "gateway.server.request.outcome.Outcomes.refusal_of_connection",
]


async def _echoing_or_in_chunks(
    received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bytes | None:
    """Answer ``/chunked`` and ``/odd`` as the quick ways of reading responses do not take it."""
    if received.target.endswith(b"/chunked"):
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    if received.target.endswith(b"/odd"):
        return b"HTTP/1.1 200 OK\r\nConnection: x\r\nContent-Length: 2\r\n\r\nok"
    return await echoing(received, reader, writer)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", [ValueError, RecursionError, KeyError])
@pytest.mark.rule("C85", "R094", "R196")
async def test_fault_inside_quotes_no_token_and_is_no_500(
    step: str, kind: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception whose text is the token, raised in each step of the path."""
    with everything_logged() as logged:
        async with (
            raw_upstream(_echoing_or_in_chunks) as upstream,
            # The service answers at once; a busy machine gives it time when it likes.
            running_gateway(upstream.url, tmp_path, **OPTIONS | {"upstream": {}}) as gateway,
        ):
            sender = Sender.to(gateway)
            bound = bound_token(gateway)
            sender.secrets.add(bound)

            reached = []

            def fault(*_: object, **__: object) -> None:
                reached.append(step)
                raise kind(
                    f"Authorization: Bearer {sender.token.decode()}, {bound.decode()}, X-Api-Key: {KEY.decode()}"
                )

            monkeypatch.setattr(step, fault)
            answers = []
            for data in (
                request(b"GET", "/", token=sender.token),
                request(b"GET", "/", token=sender.token + b"x"),
                proved(bound),
                request(b"GET", "/keys", (b"X-Api-Key", KEY)),
                request(b"GET", "/keys", (b"X-Api-Key", KEY + b"x")),
                request(b"GET", "/chunked", token=sender.token),
                request(b"GET", "/odd", token=sender.token),
                request(b"GET", "/", token=sender.token).replace(b"HTTP/1.1", b"HTTP/1.0"),
                request(b"GET", "/", (b"X Bad", b"a"), token=sender.token),
            ):
                client = await gateway.client()
                await client.send(data)
                answers += await _whatever_comes(client)
            monkeypatch.undo()
            await until_status(lambda: gateway.get("/", token=sender.token), 200, within=paced(5))
            said = await _pages(gateway)
    _assert_silent(sender.secrets, answers, said | {"log": "\n".join(logged.lines)})
    assert {answer.status for answer in answers} <= {200, 400, 401, 502, 503}
    assert reached
    assert not any(record.exc_info for record in logged.records)
    assert gateway.app.upstreams["main"].origins[0].state().in_use == 0


async def _whatever_comes(client: RawClient) -> list[RawResponse]:
    try:
        return [await client.response()]
    except (asyncio.IncompleteReadError, ConnectionError):
        return []


def _refusing(idp: FakeIdp, secret: str) -> None:
    idp.keys_answer = Answer(secret.encode(), 403, {"X-Quoted": secret})


def _redirecting(idp: FakeIdp, secret: str) -> None:
    idp.keys_answer = Answer(b"", 302, {"Location": f"http://127.0.0.1:1/{secret}"})


def _html(idp: FakeIdp, secret: str) -> None:
    idp.keys_answer = Answer(f"<p>{secret}</p>".encode(), 200, {"Content-Type": "text/html"})


def _broken_key(idp: FakeIdp, secret: str) -> None:
    idp.keys_answer = Answer(json.dumps({"keys": [{"kty": "RSA", "n": secret, "e": "AQAB", "d": secret}]}).encode())


def _broken_json(idp: FakeIdp, secret: str) -> None:
    idp.keys_answer = Answer(f'{{"keys": [{{"k": "{secret}"}}'.encode())


def _bad_field(idp: FakeIdp, secret: str) -> None:
    idp.keys_answer = Answer(b"x", 200, {"Content-Encoding": secret, "ETag": secret, "Cache-Control": secret})


@pytest.mark.parametrize("answer", [_refusing, _redirecting, _html, _broken_key, _broken_json, _bad_field])
@pytest.mark.rule("C85", "C100", "R196")
async def test_bearer_token_for_the_keys_is_in_nothing_said(
    answer: Callable[[FakeIdp, str], None], tmp_path: Path
) -> None:
    """The content of jwks_token_file, which the provider quotes in its bad answers."""
    file_secret = "file-secret-9d0QzV7uXc2LwB4k"
    (tmp_path / "token").write_text(file_secret)
    async with FakeIdp() as idp:
        answer(idp, file_secret)
        issuer = {"jwks_file": "", "jwks_url": idp.jwks_url, "jwks_token_file": str(tmp_path / "token")}
        settings = Settings.model_validate(configuration("http://127.0.0.1:1", tmp_path / "unused", issuer=issuer))
        with everything_logged() as logged:
            async with running(settings, SigningKey.rsa("a")) as gateway:
                sender = Sender.to(gateway)
                answers = [await gateway.get("/", token=sender.token)]
                said = await _pages(gateway)
    assert idp.seen[0].headers["Authorization"] == f"Bearer {file_secret}"
    assert answers[0].status == 503
    sender.secrets.add(file_secret.encode())
    _assert_silent(sender.secrets, answers, said | {"log": "\n".join(logged.lines)})


@pytest.mark.parametrize("environment", [{}, {"PYTHONASYNCIODEBUG": "1", "PYTHONDEVMODE": "1"}], ids=["plain", "debug"])
@pytest.mark.rule("C85", "R196")
async def test_the_command_prints_no_token_at_debug_level(environment: dict[str, str], tmp_path: Path) -> None:
    """``gateway run`` itself, standard output and error together."""
    key = SigningKey.rsa("a")
    (tmp_path / "jwks.json").write_bytes(jwks(key))
    port, admin = free_port(), free_port()
    async with raw_upstream(echoing) as upstream:
        config = tmp_path / "gateway.toml"
        config.write_text(_toml(port, admin, tmp_path / "jwks.json", upstream.url))
        command = [sys.executable, "-m", "gateway", "run", "--config", str(config)]
        names = {"GATEWAY_SERVER_LOG_LEVEL": "debug", "PYTHONPATH": os.getcwd(), **environment}
        async with Process(command, tmp_path / "log", names) as process:
            await process.wait_until(lambda: "listening on" in process.output())
            sender, answers = await _send_everything(process, key, port)
            assert await process.ended_by(signal.SIGTERM) == 0
            said = process.output()
    assert len(answers) > len(PATHS)
    assert said.count('"request_id"') > len(PATHS)
    _assert_silent(sender.secrets, answers, {"standard output and error": said})
    assert "Traceback" not in said


async def _send_everything(process: Process, key: SigningKey, port: int) -> tuple[Sender, list[RawResponse]]:
    """Send every path's bytes to a gateway in another process."""
    gateway = _Elsewhere(key, port)
    sender = Sender.to(gateway, process.output)
    answers = []
    for send in PATHS.values():
        answers += await send(sender)
    for client in gateway.clients:
        await client.close()
    return sender, answers


class _Elsewhere(RunningGateway):
    """A gateway of which only the port is known."""

    def __init__(self, key: SigningKey, port: int) -> None:
        self.key, self.clients, self._port = key, [], port

    async def client(self) -> RawClient:
        client = RawClient(*await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 22))
        self.clients.append(client)
        return client


def _toml(port: int, admin: int, keys: Path, upstream: str) -> str:
    tables = [("routes", {"upstream": "main", **route}) for route in ROUTES] + [("api_keys", key) for key in API_KEYS]
    entries = "".join(
        f"[[{table}]]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in entry.items())
        for table, entry in tables
    )
    return f"""
[server]
listen = "127.0.0.1:{port}"
admin_listen = "127.0.0.1:{admin}"
max_head_bytes = 16384
drain_seconds = 5
[[issuers]]
name = "main"
issuer = "{ISSUER}"
jwks_file = "{keys}"
audience = ["api"]
[[upstreams]]
name = "main"
urls = ["{upstream}"]
response_timeout_seconds = 0.3
{entries}"""
