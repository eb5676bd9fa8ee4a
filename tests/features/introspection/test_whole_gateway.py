"""Rules R118-R127: token introspection (RFC 7662), each on the smallest whole gateway that shows it.

The odd answers, ends and limits one by one are in ``tests/e2e/credentials/test_introspection.py`` and the modules'
own tests.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from base64 import b64decode
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import pytest

from tests.support.composed import Settings
from tests.support.gateways.running import RunningGateway, configuration, request, running
from tests.support.issuers.introspection import (
    CLIENT_ID,
    CLIENT_SECRET,
    AuthorizationServer,
    authorization_server,
    json_answer,
    opaque_issuer,
    said,
)
from tests.support.tokens.minting import SigningKey, jwks
from tests.support.upstreams.recording import raw_upstream

KEY = SigningKey.ec("a")


class Lab:
    """A gateway with a route for JWTs, ``/jwt``, and one for opaque tokens, and the server that it asks."""

    gateway: RunningGateway
    server: AuthorizationServer

    async def answers(self, target: str, *tokens: str) -> list[tuple[int, str]]:
        """Return status and reason of a request with each token."""
        statuses = [(await self.gateway.get(target, token=token.encode())).status for token in tokens]
        log = await self.gateway.log(len(tokens))
        return [(status, line.get("reason", "")) for status, line in zip(statuses, log[-len(tokens) :], strict=True)]


@pytest.fixture
async def lab(tmp_path: Path) -> Any:
    (tmp_path / "jwks.json").write_bytes(jwks(KEY))
    routes = ({"path": "/jwt", "issuers": ["main"]}, {"path": "/", "credentials": ["opaque"], "issuers": ["as"]})
    async with raw_upstream() as upstream, authorization_server() as server:
        made = configuration(upstream.url, tmp_path / "jwks.json", routes=routes)
        made["issuers"].append(opaque_issuer(tmp_path, server.url))
        async with running(Settings.model_validate(made), KEY) as gateway:
            found = Lab()
            found.gateway, found.server = gateway, server
            server.tokens["t"] = said()
            yield found


@pytest.mark.rule("R118")
async def test_only_tokens_that_the_issuer_map_sends_there(lab: Lab) -> None:
    """A route for JWTs asks no issuer, whatever it is shown; nor does a JWT of another issuer elsewhere."""
    jwt = lab.gateway.token().decode()
    assert await lab.answers("/jwt", jwt, "t", "a.b.c") == [
        (200, ""),
        (401, "not_a_jws"),
        (401, "bad_encoding"),
    ]
    assert (await lab.gateway.get("/", token=jwt.encode())).status == 401
    assert lab.server.asked == []


@pytest.mark.rule("R119")
async def test_post_form_authenticated(lab: Lab) -> None:
    """The token is in the content of a POST by a known client, and in no URL."""
    assert await lab.answers("/", "t") == [(200, "")]
    (asked,) = lab.server.asked
    assert (asked.method, asked.target, asked.form["token"]) == ("POST", "/introspect", "t")
    assert asked.headers["Authorization"].startswith("Basic ")


@pytest.mark.parametrize("active", ["true", "false", 1, None])
@pytest.mark.rule("R120")
async def test_active_is_true_or_is_not(active: Any, lab: Lab) -> None:
    lab.server.tokens["t"] = {**said(), "active": active}
    assert await lab.answers("/", "t") == [(401, "inactive_token")]


@pytest.mark.rule("R121")
async def test_active_is_not_enough(lab: Lab) -> None:
    now = time.time()
    wrong: dict[str, dict[str, Any]] = {
        "expired": {"exp": now - 60},
        "not_yet_valid": {"nbf": now + 60},
        "wrong_audience": {"aud": "other"},
        "unknown_issuer": {"iss": "https://other.test/"},
        "type_refused": {"token_type": "refresh_token"},
    }
    lab.server.tokens |= {reason: said(**members) for reason, members in wrong.items()}
    assert await lab.answers("/", *wrong) == [(401, reason) for reason in wrong]


@pytest.mark.rule("R122")
async def test_no_answer_is_503_and_not_remembered(lab: Lab) -> None:
    for answer in (
        json_answer({}, 500),
        json_answer(b"{"),
        json_answer(said(), fields={"Content-Type": "text/plain"}),
        json_answer(b" " * 10_000_000),
        json_answer(said(), 302, fields={"Location": lab.server.url + "?elsewhere"}),
    ):
        lab.server.answer = answer
        assert (await lab.gateway.get("/", token=b"t")).status == 503
    lab.server.answer = None
    assert (await lab.gateway.get("/", token=b"t")).status == 200
    assert [asked.target for asked in lab.server.asked] == ["/introspect"] * 6


@pytest.mark.rule("R124")
async def test_single_flight(lab: Lab) -> None:
    lab.server.gate = asyncio.Event()
    clients = [await lab.gateway.client() for _ in range(200)]
    for client in clients:
        await client.send(request(b"GET", "/", token=b"t"))
    await asyncio.sleep(0.1)
    lab.server.gate.set()
    assert {(await client.response()).status for client in clients} == {200}
    assert len(lab.server.asked) == 1


@pytest.mark.rule("R125")
async def test_flood_leaves_other_routes_alone(lab: Lab) -> None:
    """Two thousand made-up tokens at once, over many connections; JWTs are answered as fast as always."""
    clients = [await lab.gateway.client() for _ in range(20)]
    token = lab.gateway.token()
    other = await lab.gateway.client()

    async def flood(number: int) -> list[int]:
        client, found = clients[number], []
        for count in range(100):
            answer = await client.exchange(request(b"GET", "/", token=b"made-up-%d-%d" % (number, count)))
            found.append(answer.status)
        return found

    waiting = asyncio.gather(*map(flood, range(20)))
    times: list[float] = []
    while not waiting.done() and len(times) < 500:  # while JWTs are served, the flood waits
        began = time.monotonic()
        assert (await other.exchange(request(b"GET", "/jwt", token=token))).status == 200
        times.append(time.monotonic() - began)
    statuses = [status for found in await waiting for status in found]
    assert set(statuses) <= {401, 503}
    assert statuses.count(503) > 1000
    assert len(lab.server.asked) < 1000
    assert statistics.median(times) < 0.2


@pytest.mark.parametrize("sub", [5, {"a": 1}, [], True, ""])
@pytest.mark.rule("R126")
async def test_odd_subjects_are_refused(sub: Any, lab: Lab) -> None:
    """And never a 500."""
    lab.server.tokens["t"] = said(sub=sub, username=sub)
    assert await lab.answers("/", "t") == [(401, "bad_claim_type")]


@pytest.mark.rule("R127")
async def test_secret_is_form_encoded(lab: Lab) -> None:
    """What the server decodes is the secret."""
    assert await lab.answers("/", "t") == [(200, "")]
    value = b64decode(lab.server.asked[0].headers["Authorization"].removeprefix("Basic ")).decode("ascii")
    name, _, secret = value.partition(":")
    assert (unquote_plus(name), unquote_plus(secret)) == (CLIENT_ID, CLIENT_SECRET)
    assert json.dumps(CLIENT_SECRET) not in value
