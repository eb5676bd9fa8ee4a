"""Input that tries to write the logs itself: line breaks, escape sequences, quotes, in claims, paths and fields.

One event is one line, that line is what it should be, and nothing in it moves
a terminal's cursor.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.composed import Settings
from tests.support.gateways.running import (
    RawResponse,
    RunningGateway,
    configuration,
    request,
    running,
    running_gateway,
    until,
)
from tests.support.issuers.identity_provider import Answer, FakeIdp
from tests.support.leaks import everything_logged
from tests.support.tokens.minting import SigningKey, b64, good_claims, mint, mint_raw
from tests.support.upstreams.recording import raw_upstream

FORGED = '{"status":200,"outcome":"forged"}'

#: Line breaks of every kind (also Unicode's), escape sequences, quotes, overlong text.
ODD = [
    f"a\n{FORGED}\n",
    f"a\r\n{FORGED}",
    "\x1b[2J\x1b[31mred",
    "\x9b31m",
    "a\u2028b\u2029c\x85d",
    'a" outcome="forged',
    "a\\nb\\",
    "\x00\x07\x08\x7f",
    "\u202egnp.exe",
    "é漢😀",
    " status=200 outcome=forged ",
    "x" * 3000,
]


async def _odd_tokens(gateway: RunningGateway, odd: str) -> list[RawResponse]:
    """Put the text wherever a token has text, signed and not."""
    claims = good_claims(time.time())
    tokens = [
        mint(gateway.key, claims | {"sub": odd}),
        mint(gateway.key, claims | {"iss": odd}),
        mint(gateway.key, claims | {"aud": odd}),
        mint(gateway.key, claims | {"role": odd, "scope": odd}),
        mint(gateway.key, claims, header={"kid": odd}),
        mint(gateway.key, claims, header={"alg": odd}),
        mint(gateway.key, claims, header={"typ": odd + "+jwt"}),
        mint_raw(gateway.key, b64(odd.encode())[:1000], json.dumps(claims).encode()),
    ]
    return [await gateway.get("/", token=token) for token in tokens]


async def _odd_requests(gateway: RunningGateway, odd: str) -> None:
    """Put the text's bytes wherever a request has bytes; many of these are no HTTP, and get a 400 or nothing."""
    data = odd.encode()
    good = gateway.token()
    for head in (
        b"GET /" + data + b" HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /?" + data + b" HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /" + b"".join(b"%%%02x" % byte for byte in data) + b" HTTP/1.1\r\nHost: h\r\n\r\n",
        data + b" / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / " + data + b"\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: " + data + b"\r\n\r\n",
        request(b"GET", "/", (b"X-Request-Id", data), token=good),
        request(b"GET", "/", (b"X-Forwarded-For", data), token=good),
        request(b"GET", "/", (b"Forwarded", b"for=" + data), token=good),
        request(b"GET", "/", (b"X-Odd", data), token=good),
        request(b"GET", "/", (data, b"x"), token=good),
    ):
        client = await gateway.client()
        await client.send(head)
        await client.reader.read(1 << 16)
        await client.close()


def _assert_lines_are_plain(text: str) -> list[str]:
    """Return the lines, as every reader of lines would split them."""
    lines = text.splitlines()
    assert "\n".join(lines) == text.rstrip("\n")
    assert all(line.isprintable() and line.isascii() for line in lines), lines
    return lines


@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
@pytest.mark.parametrize("access_log", ["json", "text"])
@pytest.mark.rule("R197", "R390", "C85")
async def test_one_line_per_request_whatever_a_client_sends(access_log: str, odd: str, tmp_path: Path) -> None:
    """CWE-117: claims, header members, target, fields; from a peer whose X-Forwarded-For counts."""
    server = {"access_log": access_log, "trusted_proxies": ["127.0.0.0/8"]}
    with everything_logged() as logged:
        async with (
            raw_upstream() as upstream,
            running_gateway(upstream.url, tmp_path, server=server) as gateway,
        ):
            answers = await _odd_tokens(gateway, odd)
            await _odd_requests(gateway, odd)
            telemetry = gateway.app.telemetry
        lines = _assert_lines_are_plain(gateway.out.getvalue())
    assert all(answer.status in (200, 401) for answer in answers)
    assert len(lines) == sum(telemetry.requests.values())
    for line in lines:
        fields = json.loads(line) if access_log == "json" else _pairs(line)
        assert fields["outcome"] in ("forwarded", "refused", "client_gone"), line
        assert list(fields)[:2] == ["time", "request_id"]
    _assert_lines_are_plain("\n".join(logged.lines))
    assert [record for record in logged.records if record.levelname == "ERROR"] == []


def _pairs(line: str) -> dict[str, Any]:
    """Read ``name=value`` pairs; a value in quotes is JSON. The same name twice is a forgery."""
    pairs: dict[str, Any] = {}
    decoder = json.JSONDecoder()
    while line:
        name, _, rest = line.partition("=")
        assert name not in pairs, name
        if rest.startswith('"'):
            pairs[name], end = decoder.raw_decode(rest)
            line = rest[end:]
        else:
            pairs[name], blank, line = rest.partition(" ")
            line = blank + line
        assert not line or line.startswith(" ")
        line = line[1:]
    return pairs


@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
@pytest.mark.rule("R197")
async def test_one_line_per_message_whatever_a_provider_sends(odd: str, tmp_path: Path) -> None:
    """CWE-117: names of keys, the discovery document, reason phrases and fields of the identity provider."""
    good = SigningKey.rsa("a").public_jwk()
    async with FakeIdp() as idp:
        with everything_logged() as logged:
            for keys, discovery in (
                ({"keys": [good, {"kty": odd, "kid": odd}, {"kty": "EC", "crv": odd, "kid": odd}]}, None),
                ({"keys": [odd]}, None),
                ({odd: odd}, None),
                ({"keys": [good]}, {"issuer": odd, "jwks_uri": idp.jwks_url}),
                ({"keys": [good]}, {"issuer": idp.issuer, "jwks_uri": odd}),
                ({"keys": [good]}, {"issuer": idp.issuer, "jwks_uri": f"http://127.0.0.1:1/{odd}"}),
            ):
                idp.keys_answer = Answer(json.dumps(keys).encode(), 200)
                idp.discovery_answer = None if discovery is None else Answer(json.dumps(discovery).encode())
                await _one_fetch(idp, tmp_path)
    assert logged.records
    _assert_lines_are_plain("\n".join(logged.lines))


async def _one_fetch(idp: FakeIdp, tmp_path: Path) -> None:
    issuer = {"issuer": idp.issuer, "jwks_file": ""}
    settings = Settings.model_validate(configuration("http://127.0.0.1:1", tmp_path / "unused", issuer=issuer))
    async with running(settings, SigningKey.rsa("a")) as gateway:
        await until(lambda: gateway.app.issuers["main"].fetches > 0)
        status = await gateway.admin("/status")
        assert status.status == 200
        _assert_lines_are_plain(status.body.decode())
