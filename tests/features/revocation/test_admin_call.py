"""``POST /revoke`` on the admin port: who may, what is taken, and what is answered when it goes nowhere."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from gateway.features.revocation.admin_call import MAX_ENTRIES
from tests.support.gateways.revoking import SECRET, revoke_by_call, until_status
from tests.support.gateways.running import RawResponse, RunningGateway, running_gateway
from tests.support.pace import paced
from tests.support.stores.redis import RedisServer
from tests.support.upstreams.recording import raw_upstream


async def call(gateway: RunningGateway, *entries: Any, **options: bytes) -> RawResponse:
    return await revoke_by_call(gateway.app.admin_port, *entries, **options)


def options(tmp_path: Path, **revocation: Any) -> dict[str, Any]:
    secret(tmp_path).write_bytes(SECRET + b"\n")
    file(tmp_path).touch()
    return {"revocation": {"file": str(file(tmp_path)), "admin_token_file": str(secret(tmp_path)), **revocation}}


def secret(tmp_path: Path) -> Path:
    return tmp_path / "secret"


def file(tmp_path: Path) -> Path:
    return tmp_path / "revoked.jsonl"


@pytest.mark.rule("R128")
async def test_an_entry_is_written_and_in_force_within_a_second(tmp_path: Path) -> None:
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, **options(tmp_path)) as gateway,
    ):
        token = gateway.token(jti="a", sub="b")
        assert (await gateway.get(token=token)).status == 200
        answer = await call(gateway, {"jti": "a"}, {"sid": "s"})
        assert (answer.status, answer.json) == (200, {"revoked": 2, "store": "file"})
        assert answer.one(b"cache-control") == b"no-store"
        await until_status(lambda: gateway.get(token=token), 401, within=paced(1))


async def test_only_who_has_the_secret_may(tmp_path: Path) -> None:
    made = options(tmp_path)
    async with running_gateway("http://127.0.0.1:1", tmp_path, **made) as gateway:
        for shown, scheme in ((b"", b""), (SECRET + b"x", b"Bearer"), (b"\xff", b"Bearer"), (SECRET, b"Basic")):
            answer = await call(gateway, {"jti": "a"}, secret=shown, scheme=scheme)
            assert (answer.status, answer.json["error"]) == (401, "invalid_token")
            assert answer.one(b"www-authenticate") == b'Bearer realm="gateway admin"'
        assert file(tmp_path).read_bytes() == b""
        secret(tmp_path).write_bytes(b"another-secret-of-today")
        assert (await call(gateway, {"jti": "a"})).status == 401
        assert (await call(gateway, {"jti": "a"}, secret=b"another-secret-of-today", scheme=b"bearer")).status == 200
        secret(tmp_path).write_bytes(b"weak")
        answer = await call(gateway, {"jti": "a"}, secret=b"weak")
        assert (answer.status, answer.one(b"retry-after")) == (503, b"1")


async def test_without_a_secret_there_is_no_such_call(tmp_path: Path) -> None:
    file(tmp_path).touch()
    async with running_gateway("http://127.0.0.1:1", tmp_path, revocation={"file": str(file(tmp_path))}) as gateway:
        assert (await call(gateway, {"jti": "a"})).status == 404
    assert file(tmp_path).read_bytes() == b""


async def test_it_is_posted_only(tmp_path: Path) -> None:
    async with running_gateway("http://127.0.0.1:1", tmp_path, **options(tmp_path)) as gateway:
        assert (await gateway.admin("/revoke")).status == 405


BAD: list[tuple[list[Any], str]] = [
    ([], "The content must be 1 to 1000 JSON objects, one per line."),
    ([b"\n \n"], "The content must be 1 to 1000 JSON objects, one per line."),
    (
        [{"jti": str(number)} for number in range(MAX_ENTRIES + 1)],
        "The content must be 1 to 1000 JSON objects, one per line.",
    ),
    ([{"jti": "a"}, {"jtl": "secret"}], "Object 2 has an unknown name; the names are"),
    ([{"jti": "secret", "expires": 5}], "Object 1 has expires in the past."),
    ([b'{"jti": "\xff"}'], "Object 1 is not UTF-8 text."),
]


@pytest.mark.parametrize(("entries", "text"), BAD)
async def test_what_is_not_understood_is_refused_whole(entries: list[Any], text: str, tmp_path: Path) -> None:
    made = options(tmp_path)
    async with running_gateway("http://127.0.0.1:1", tmp_path, **made) as gateway:
        answer = await call(gateway, *entries)
        assert (answer.status, answer.json["error"]) == (400, "invalid_request")
        assert answer.json["error_description"].startswith(text)
        assert "secret" not in answer.json["error_description"]
    assert file(tmp_path).read_bytes() == b""


async def test_a_file_that_cannot_be_written_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = options(tmp_path, file=str(tmp_path / "no" / "file"))
    async with running_gateway("http://127.0.0.1:1", tmp_path, **made) as gateway:
        answer = await call(gateway, {"jti": "a"})
        assert (answer.status, answer.json["error"]) == (503, "unavailable")
    assert "cannot be written" in caplog.text


async def test_redis_gets_it_and_its_absence_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway")
    async with RedisServer(tmp_path / "redis") as server:
        made = options(tmp_path) | {"redis": {"url": server.url, "timeout_seconds": 1}}
        async with running_gateway("http://127.0.0.1:1", tmp_path, **made) as gateway:
            answer = await call(gateway, {"jti": "a-secret-token"})
            assert (answer.status, answer.json) == (200, {"revoked": 1, "store": "redis"})
            await server.kill()
            answer = await call(gateway, {"jti": "a"})
            assert (answer.status, answer.json["error"]) == (503, "unavailable")
    assert "a-secret-token" not in caplog.text
