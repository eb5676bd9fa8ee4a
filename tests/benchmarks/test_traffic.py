"""benchmarks/traffic.py, tokens.py and wrk.py: the bytes that are sent, and that both generators send the same."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path

import jwt
import pytest

from benchmarks import tokens, wrk
from benchmarks.load import messages
from benchmarks.tokens import AUDIENCE, ISSUER, ROLE, Material, material
from benchmarks.traffic import Sends, Traffic, build
from tests.conftest import require


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return material("ES256", tmp_path_factory.mktemp("cache"))


def decoded(token: bytes, keys: Material) -> dict[str, object]:
    """Return the claims of a token that passes every check of PyJWT."""
    claims: dict[str, object] = jwt.decode(
        token.decode(), keys.pem.read_bytes(), algorithms=[keys.algorithm], audience=AUDIENCE, issuer=ISSUER
    )
    return claims


def test_the_material_is_kept_and_good(keys: Material) -> None:
    """The second call gives the same key, whose public forms match its tokens; git sees none of it."""
    again = material("ES256", keys.folder.parent)
    assert again.key.public_bytes() == keys.key.public_bytes()
    assert decoded(keys.token(), again)["role"] == ROLE
    assert (keys.folder / "private.pem").stat().st_mode & 0o077 == 0
    assert (keys.folder.parent / ".gitignore").read_text() == "*\n"


def test_a_pool_has_different_good_tokens_and_is_made_once(keys: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    file = keys.pool(20)
    lines = file.read_bytes().splitlines()
    assert len({decoded(line, keys)["sub"] for line in lines}) == 20
    assert keys.pool(10).read_bytes().splitlines() == lines
    assert len(keys.pool(21).read_bytes().splitlines()) == 21
    now = time.time()
    monkeypatch.setattr("benchmarks.tokens.time.time", lambda: now + tokens.LIFE - tokens.LEFT + 60)
    assert keys.pool(5).read_bytes().splitlines()[0] not in lines


def test_forged_tokens_differ_and_are_all_bad(keys: Material) -> None:
    left, right = keys.forged()
    assert len(left + b"00000000" + right) == len(keys.token())
    for number in range(5):
        with pytest.raises(jwt.InvalidSignatureError):
            decoded(left + b"%08d" % number + right, keys)


def test_each_credential_is_the_request_that_its_name_says(keys: Material) -> None:
    def first(sends: Sends) -> bytes:
        return messages(build(sends, keys, 0.001))()

    assert b"uthorization" not in first(Sends("none"))
    for credential in ("one", "rotating", "new"):
        token = re.search(rb"\r\nAuthorization: Bearer (\S+)\r\n\r\n$", first(Sends(credential)))
        assert token is not None
        assert decoded(token[1], keys)
    for sends in (Sends("none"), Sends("forged"), Sends(unique_header=True), Sends(body=10), Sends(close=True)):
        head, _, body = first(sends).partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        assert lines[0] == (b"POST" if sends.body else b"GET") + b" /items/1 HTTP/1.1"
        assert all(re.fullmatch(rb"[\w-]+: \S+( \S+)?", line) for line in lines[1:]), lines
        assert (b"Connection: close" in lines) == sends.close
        assert len(body) == sends.body
        assert (b"Content-Length: 10" in lines) == bool(sends.body)
    assert build(Sends("none"), keys).refused
    assert build(Sends("forged"), keys).refused
    assert not build(Sends(), keys).refused
    assert build(Sends(misplaced=True), keys).refused
    assert build(Sends(malformed=True), keys).refused
    assert b"\r\nConnection: keep-alive, x\r\n" in first(Sends("forged", nominates=True))


def test_a_unique_header_never_comes_again(keys: Material) -> None:
    following = messages(build(Sends(unique_header=True), keys))
    assert len({following() for _ in range(50)}) == 50


def test_the_script_sends_what_the_bundled_generator_sends(tmp_path: Path) -> None:
    """The same bytes in the same order, quotes, newlines and high bytes among them."""
    lua = next(filter(None, map(shutil.which, ("luajit", "lua5.1", "lua", "lua5.4", "lua5.3"))), None)
    pool = tmp_path / "tokens"
    pool.write_bytes(b"one\ntwo\nthree\n")
    before, after = b'GET "\\\x00\xff\r\n', b"\x7f9'\r\n\r\n"
    for traffic in (
        Traffic(before, after),
        Traffic(before, after, counted=True, first=41),
        Traffic(before, after, pool=pool, size=2, first=3),
    ):
        text = wrk.script(traffic)
        assert "function done" in text
        if lua is None:
            continue
        call = "(request or wrk.format)()"
        file = tmp_path / "script.lua"
        file.write_text(f"wrk = {{}}\n{text}\nfor i = 1, 3 do io.write({call}) end\n", "latin-1")
        sent = subprocess.run([lua, file], capture_output=True, check=True).stdout
        following = messages(traffic)
        assert sent == b"".join(following() for _ in range(3))
    require(
        lua is not None or wrk.found() is not None, "Lua and wrk are missing: apt install lua5.4 or wrk, or the like"
    )


def test_what_wrk_prints_is_read() -> None:
    output = (
        "Running 1s test\n  Requests/sec: 1\n\n"
        '{"answers":100,"refusals":3,"received":12300,"us":1500000,"p50":250.000000,"p99":900.000000,"most":1000.0,'
        '"connect":0,"read":2,"write":0,"timeout":1}\n'
    )
    outcome = wrk.parse(output)
    assert (outcome.answers, outcome.refusals, outcome.received, outcome.seconds) == (100, 3, 12300, 1.5)
    assert outcome.failures == {"read": 2, "timeout": 1}
    assert outcome.latencies == {"p50": 0.25, "p99": 0.9, "most": 1.0}
