"""What a gateway imports: nothing for what its configuration does not ask for, and for each feature what it needs.

A gateway is started as its users start it; Python itself writes which modules it imports (``-X importtime``). Each one
serves a request, is asked for its metrics and its status, and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.settings.configs import toml
from tests.support.gateways.running import RawClient, request
from tests.support.tokens.minting import AUDIENCE, ISSUER, SigningKey, good_claims, jwks, mint
from tests.support.upstreams.recording import Received, raw_upstream

KEY = SigningKey.ec("one")
IMPORTED = re.compile(r"import time: +\d+ \| +\d+ \| +(\S+)")

#: What only some configurations ask for, or none that runs: libraries, and parts of the gateway.
OPTIONAL = (
    *("redis", "aiocache", "authlib", "opentelemetry", "grpc", "jinja2", "httpx", "pydantic_settings", "dotenv"),
    "gateway.demo.run",
    "gateway.demo.identity_provider",
    "gateway.settings.client_credentials",
    "gateway.settings.loading.variables",
    "gateway.settings.rendering.reference",
    "gateway.settings.tables.descriptions",
    "gateway.outbound.client_authentication",
    "gateway.process.worker",
    "gateway.store.redis_link",
    "gateway.store.fleet",
    "gateway.store.conditions",
    "gateway.features.api_keys.commands",
    "gateway.features.api_keys.part",
    "gateway.features.introspection.part",
    "gateway.features.introspection.shared_answers",
    "gateway.features.rate_limits.part",
    "gateway.features.rate_limits.shared_buckets",
    "gateway.features.resource_metadata.part",
    "gateway.features.revocation.admin_call",
    "gateway.features.revocation.commands",
    "gateway.features.revocation.part",
    "gateway.features.revocation.redis_source",
    "gateway.features.single_use.part",
)

#: No server listens there: the gateway serves without.
REDIS = {"url": "redis://127.0.0.1:1/0", "timeout_seconds": 0.05}


class Asks(NamedTuple):
    """A configuration that asks for something, and what is imported for it.

    Attributes:
        for_it: optional modules; no others.
        tables: what its tables have besides those of the plain configuration.
        files: what is written beside it, by name; ``@name`` in a value stands for one of them.
        environment: variables.
    """

    for_it: set[str]
    tables: Mapping[str, Any] = {}
    files: Mapping[str, str] = {}
    environment: Mapping[str, str] = {}


ENTRY = {"id": "partner", "hash": "sha256:" + "0" * 64}
ASKED = {"introspection_url": "http://127.0.0.1:1/introspect", "introspection_client_id": "gateway"}
SECRET = {"introspection_client_secret_file": "@secret"}
_REDIS = {"redis", "gateway.store.redis_link", "gateway.store.fleet", "gateway.store.conditions"}
_FROM_REDIS = {"gateway.features.revocation.part", "gateway.features.revocation.redis_source"}
_INTROSPECTION = {
    "authlib",
    "gateway.features.introspection.part",
    "gateway.outbound.client_authentication",
    "gateway.settings.client_credentials",
}

ASKING = {
    "nothing": Asks(set()),
    "a variable": Asks(
        {"pydantic_settings", "dotenv", "gateway.settings.loading.variables"},
        environment={"GATEWAY_TOKENS_REALM": "shop"},
    ),
    "Redis": Asks(_REDIS | _FROM_REDIS, {"redis": REDIS, "routes": {"revocation_failure": "open"}}),
    "Redis, and no revocations": Asks(_REDIS, {"redis": REDIS, "revocation": {"redis": False}}),
    "API keys": Asks(
        {"gateway.features.api_keys.part"}, {"api_keys": [ENTRY], "routes": {"credentials": ["api_key", "jwt"]}}
    ),
    "introspection": Asks(
        _INTROSPECTION,
        {"issuers": {**ASKED, **SECRET}, "routes": {"credentials": ["jwt", "opaque"]}},
        {"secret": "secret"},
    ),
    "introspection, shared": Asks(
        _INTROSPECTION | _REDIS | {"aiocache", "gateway.features.introspection.shared_answers"},
        {
            "issuers": {**ASKED, **SECRET},
            "routes": {"credentials": ["jwt", "opaque"]},
            "redis": REDIS,
            "revocation": {"redis": False},
        },
        {"secret": "secret"},
    ),
    "rate limits": Asks({"gateway.features.rate_limits.part"}, {"routes": {"rate_limit": {"requests": 1000}}}),
    "rate limits, shared": Asks(
        _REDIS | {"gateway.features.rate_limits.part", "gateway.features.rate_limits.shared_buckets"},
        {"routes": {"rate_limit": {"requests": 1000}}, "redis": REDIS, "revocation": {"redis": False}},
    ),
    "protected resources": Asks(
        {"gateway.features.resource_metadata.part"},
        {"resources": [{"resource": "https://api.test"}], "routes": {"resource": "https://api.test"}},
    ),
    "a revocation file": Asks(
        {"gateway.features.revocation.part"}, {"revocation": {"file": "@revoked"}}, {"revoked": ""}
    ),
    "a revocation call": Asks(
        {"gateway.features.revocation.part", "gateway.features.revocation.admin_call"},
        {"revocation": {"file": "@revoked", "admin_token_file": "@token"}},
        {"revoked": "", "token": "0123456789abcdef"},
    ),
    "single use": Asks({"gateway.features.single_use.part"}, {"routes": {"single_use": True}}),
}


def _config(folder: Path, upstream: str, asks: Asks) -> Path:
    """Write a plain configuration with what is asked for in it."""
    (folder / "jwks.json").write_bytes(jwks(KEY))
    for name, text in asks.files.items():
        (folder / name).write_text(text)
    config: dict[str, Any] = {
        "server": {"listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0", "access_log": "off"},
        "issuers": [{"name": "main", "issuer": ISSUER, "audience": [AUDIENCE], "jwks_file": str(folder / "jwks.json")}],
        "upstreams": [{"name": "main", "urls": [upstream]}],
        "routes": [{"path": "/", "upstream": "main"}],
    }
    for name, table in asks.tables.items():
        place = config.setdefault(name, {} if isinstance(table, dict) else table)
        if isinstance(table, dict):
            there = place[0] if isinstance(place, list) else place
            there |= {
                key: str(folder / text[1:]) if isinstance(text, str) and text.startswith("@") else text
                for key, text in table.items()
            }
    file = folder / "gateway.toml"
    file.write_text(toml(config))
    return file


class Running(NamedTuple):
    """A gateway that writes what it imports."""

    process: asyncio.subprocess.Process
    port: int
    admin_port: int
    imported: set[str]

    async def ended(self) -> set[str]:
        """End it; return what it has imported, by the packages that the names begin with as well."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.stderr is not None
        async with asyncio.timeout(20):
            async for line in self.process.stderr:
                self.imported.update(IMPORTED.findall(line.decode()))
            assert await self.process.wait() == 0
        return self.imported


@contextlib.asynccontextmanager
async def _running(config: Path, environment: Mapping[str, str]) -> AsyncIterator[Running]:
    clean = {name: text for name, text in os.environ.items() if not name.startswith("GATEWAY_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-X", "importtime", "-m", "gateway", "run", "--config", str(config)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=clean | dict(environment),
    )
    imported: set[str] = set()
    try:
        assert process.stderr is not None
        async with asyncio.timeout(20):
            async for line in process.stderr:
                imported.update(IMPORTED.findall(line.decode()))
                if found := re.search(rb"\(port (\d+)\), admin on port (\d+)", line):
                    yield Running(process, int(found[1]), int(found[2]), imported)
                    return
        pytest.fail("the gateway ended instead of listening")
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _status(port: int, target: str, token: bytes = b"") -> int:
    client = RawClient(*await asyncio.open_connection("127.0.0.1", port))
    try:
        await client.send(request(b"GET", target, token=token))
        return (await client.response()).status
    finally:
        await client.close()


async def _respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize("asks", ASKING.values(), ids=ASKING)
async def test_what_is_not_configured_is_not_imported(asks: Asks, tmp_path: Path) -> None:
    token = mint(KEY, good_claims(time.time(), jti="one"))
    async with (
        raw_upstream(_respond) as upstream,
        _running(_config(tmp_path, upstream.url, asks), asks.environment) as gateway,
    ):
        status = await _status(gateway.port, "/", token)
        for page in ("/metrics", "/status", "/readyz"):
            await _status(gateway.admin_port, page)
        imported = await gateway.ended()
    assert status == 200
    found = {name for name in OPTIONAL if name in imported}
    if "redis" in asks.for_it:
        found.discard("opentelemetry")  # its own choice, where that is installed
    assert found == asks.for_it
