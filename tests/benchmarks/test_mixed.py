"""benchmarks/mixed.py: real traffic is what it says, and both generators send the same."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
from pathlib import Path

import jwt
import pytest

from benchmarks import mixed, wrk
from benchmarks.load import messages
from benchmarks.mixed import END, MARK, PATHS, numbered, pool, read, requests
from benchmarks.tokens import AUDIENCE, ISSUER, Material, material
from benchmarks.traffic import Sends, Traffic, build

TOKENS = [f"head.claims{number}.signature" for number in range(60)]


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return material("ES256", tmp_path_factory.mktemp("cache"))


def fields_of(request: bytes) -> list[tuple[str, str]]:
    """Return the names and values of a request's header fields, in order."""
    lines = request.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return [(name, value) for name, _, value in (line.partition(": ") for line in lines)]


def token_of(request: bytes) -> str:
    return dict(fields_of(request))["Authorization"].removeprefix("Bearer ")


def test_every_request_is_well_formed_and_has_ten_to_fourteen_fields() -> None:
    made = list(requests(TOKENS, body=0, proxied=False))
    assert len(made) == len(TOKENS) * mixed.VISITS
    for request in made:
        assert re.match(rb"GET /[a-z]+/\d+[!-~]* HTTP/1\.1\r\nHost: ", request)
        fields = fields_of(request)
        assert 10 <= len(fields) <= 14, request
        names = [name.lower() for name, _ in fields]
        assert len(set(names)) == len(names)
        assert all(value and value == value.strip() for _, value in fields)
        assert request.count(MARK) == 2
        assert END not in request
        assert request.endswith(b"\r\n\r\n")


def test_clients_differ_and_none_follows_itself() -> None:
    """Names, their order, agents, languages and paths vary; the next request is that of another client."""
    made = list(requests(TOKENS, body=0, proxied=False))
    tokens = [token_of(request) for request in made]
    assert set(tokens) == set(TOKENS)
    assert all(before != after for before, after in itertools.pairwise(tokens))
    assert len({tuple(name for name, _ in fields_of(request)) for request in made}) > 100
    assert len({dict(fields_of(request))["User-Agent"] for request in made}) > 40
    assert {request.split(b"/")[1].partition(b"?")[0].decode() for request in made} == {path[1:] for path in PATHS}
    ids = [{"X-Request-Id", "traceparent"} & set(dict(fields_of(request))) for request in made]
    assert all(ids)
    assert {len(found) for found in ids} == {1, 2}


def test_the_same_traffic_comes_in_every_run() -> None:
    assert list(requests(TOKENS, body=0, proxied=True)) == list(requests(TOKENS, body=0, proxied=True))


def test_a_post_has_its_content_and_a_proxied_request_its_client() -> None:
    for request in requests(TOKENS[:5], body=1024, proxied=True):
        head, _, content = request.partition(b"\r\n\r\n")
        fields = dict(fields_of(request))
        assert head.startswith(b"POST /")
        assert fields["Content-Length"] == "1024"
        assert len(content) == 1024
        assert re.fullmatch(r"203(\.\d{1,3}){3}", fields["X-Forwarded-For"])
        assert fields["X-Forwarded-Proto"] == "https"


def test_running_numbers_make_every_request_another_one(tmp_path: Path) -> None:
    """They go on where the earlier round ended, and the requests take turns."""
    file = tmp_path / "requests"
    file.write_bytes(b"".join(each + END for each in (b"a\x01b\x01c", b"d\x01e\x01f")))
    assert read(file) == [[b"a", b"b", b"c"], [b"d", b"e", b"f"]]
    following = numbered(file, 3, 4)
    assert [following() for _ in range(3)] == [b"d0003e0003f", b"a0004b0004c", b"d0005e0005f"]
    assert messages(Traffic(b"", b"", requests=file, first=1))() == b"d00000001e00000001f"


def test_trace_ids_have_their_form(keys: Material) -> None:
    following = messages(build(Sends(mixed=True), keys, 0.01))
    seen = set()
    for _ in range(60):
        fields = dict(fields_of(following()))
        if trace := fields.get("traceparent"):
            assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", trace)
        if number := fields.get("X-Request-Id"):
            assert re.fullmatch(r"[0-9a-f]{24,32}", number)
        seen.add((fields.get("traceparent"), fields.get("X-Request-Id")))
    assert len(seen) == 60


def test_the_tokens_are_good(keys: Material) -> None:
    traffic = build(Sends(mixed=True), keys, 0.001)
    following = messages(traffic)
    users = set()
    for _ in range(traffic.size):
        claims = jwt.decode(
            token_of(following()), keys.pem.read_bytes(), algorithms=["ES256"], audience=AUDIENCE, issuer=ISSUER
        )
        users.add(claims["sub"])
    assert len(users) == traffic.size // mixed.VISITS == 4


def test_a_file_of_requests_is_made_once_and_again_when_its_tokens_are_new(keys: Material) -> None:
    tokens = keys.pool(5)
    file = pool(tokens, 5, body=0, proxied=False)
    first = file.stat().st_mtime_ns
    assert pool(tokens, 5, body=0, proxied=False).stat().st_mtime_ns == first
    assert pool(tokens, 5, body=0, proxied=True) != file
    file.write_bytes(b"of other tokens")
    newer = file.stat().st_mtime + 10
    os.utime(tokens, (newer, newer))
    assert len(read(pool(tokens, 5, body=0, proxied=False))) == 5 * mixed.VISITS


def test_the_script_sends_what_the_bundled_generator_sends(tmp_path: Path) -> None:
    """The same requests in the same order with the same numbers, from any number on."""
    lua = next(filter(None, map(shutil.which, ("luajit", "lua5.1", "lua", "lua5.4", "lua5.3"))), None)
    file = tmp_path / "requests"
    file.write_bytes(b"".join(each + END for each in (b"a\r\n\x01%b\x01", b"\x01\xff\x01c", b"\x01\x01")))
    for first in (0, 7):
        traffic = Traffic(b"", b"", requests=file, size=3, first=first)
        text = wrk.script(traffic)
        assert "function done" in text
        if lua is None:
            continue
        script = tmp_path / "script.lua"
        script.write_text(f"wrk = {{}}\n{text}\nfor i = 1, 5 do io.write(request()) end\n", "latin-1")
        sent = subprocess.run([lua, script], capture_output=True, check=True).stdout
        following = messages(traffic)
        assert sent == b"".join(following() for _ in range(5))
