"""API keys that come as bearer tokens: the gateway knows them, so they are sent to no other server."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.tasks import periodic
from tests.e2e.credentials.test_introspection import scene
from tests.support.gateways.running import request
from tests.support.issuers.introspection import said
from tests.support.parts import api_keys
from tests.support.tokens.api_keys import KEY, OTHER, entry, write_keys


@pytest.mark.parametrize("kinds", [["opaque", "api_key"], ["opaque"], ["jwt", "opaque", "api_key"]], ids=" ".join)
@pytest.mark.rule("R437")
async def test_api_key_never_reaches_the_server_that_is_asked_about_tokens(kinds: list[str], tmp_path: Path) -> None:
    """Sent as a bearer token it is judged here, in force or expired; a server that gets it could use it."""
    keys = [entry(), entry(OTHER, "old", expires="2020-01-01T00:00:00Z")]
    route = {"path": "/", "credentials": kinds, "issuers": ["as"] if "jwt" not in kinds else []}
    async with scene(tmp_path, [route], api_keys=keys) as one:
        one.server.tokens[KEY.decode()] = one.server.tokens[OTHER.decode()] = said()
        one.server.tokens["opaque"] = said()
        client = await one.gateway.client()  # a kept connection: from the second time on it knows the request
        for _ in range(3):
            for shown in (KEY, OTHER):
                answer = await client.exchange(request(b"GET", "/", token=shown))
                assert (answer.status, answer.json["error"]) == (401, "invalid_token")
        assert await one.status("/", "opaque") == 200
        assert [asked.token for asked in one.server.asked] == ["opaque"]
        if "api_key" in kinds:
            assert (await one.gateway.get("/", (b"X-Api-Key", KEY))).status == 200
        log = await one.gateway.log(7 + ("api_key" in kinds))
        assert [line["reason"] for line in log[:6]] == ["credential_not_accepted"] * 6
        assert KEY.decode() not in str(log)
    assert len(one.upstream.requests) == 1 + ("api_key" in kinds)


@pytest.mark.rule("R437")
async def test_api_key_is_not_asked_about_before_the_file_could_be_read(tmp_path: Path) -> None:
    """As long as the file was never read, what looks like a key is not sent to the server."""
    file = tmp_path / "keys"
    route = {"path": "/", "credentials": ["opaque", "api_key"]}
    async with scene(tmp_path, [route], tokens={"api_keys_file": str(file)}) as one:
        assert await one.status("/", KEY) == 401
        assert await one.status("/", "opaque") == 401
        assert [asked.token for asked in one.server.asked] == ["opaque"]
        write_keys(file, entry())
        (looks,) = (each for each in periodic() if each.kind == "API key file")
        while not len(api_keys(one.gateway.app)):
            await looks.work()
        assert await one.status("/", KEY) == 401
        assert one.server.questions(KEY.decode()) == 0
        assert await one.status("/", OTHER) == 401
        assert one.server.questions(OTHER.decode()) == 1
