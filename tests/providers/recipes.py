"""The configurations of docs/providers, run as they stand in the pages, against providers that look like the real ones.

This file has what all recipes need. A page's TOML block is read out of the
page. Replaced is what a machine must have of its own: where the gateway
listens, where the service is, and which authority signed the provider's
certificate. The provider answers under its real host names, over TLS, on
loopback.
"""

from __future__ import annotations

import re
import time
import tomllib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.composed import Settings, load
from tests.support.gateways.running import RunningGateway, running
from tests.support.issuers.named_hosts import Document, Provider, provider
from tests.support.tokens.minting import SigningKey, mint, without_absent
from tests.support.upstreams.recording import RawUpstream, raw_upstream

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "providers"

#: What a request came to: its status, and the reason in the access log when it did not pass.
Verdict = tuple[int, str | None]


def block(page: str, number: int = 0) -> str:
    """Return a TOML block of a page of docs/providers, from 0."""
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    blocks: list[str] = re.findall(r"^```toml\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return blocks[number]


@dataclass
class Recipe:
    """A running recipe: the gateway, the provider, and the service that shows what it received."""

    gateway: RunningGateway
    provider: Provider
    upstream: RawUpstream
    headers: tuple[str, ...]
    asked: int = 0

    async def ask(self, token: bytes, path: str = "/orders/7") -> Verdict:
        """Send a request with a token."""
        status = (await self.gateway.get(path, token=token)).status
        self.asked += 1
        line = (await self.gateway.log(self.asked))[-1]
        return status, line.get("reason")

    async def accepted(self, token: bytes, path: str = "/orders/7") -> dict[str, str]:
        """Return the identity headers that the service got for a token that must be good."""
        assert await self.ask(token, path) == (200, None)
        request = self.upstream.requests[-1]
        found = {name: request.one(name.encode()) for name in self.headers}
        return {name: value.decode() for name, value in found.items() if value is not None}


def _trusting(bundle: str, issuer: Mapping[str, Any]) -> dict[str, Any]:
    asked = {"introspection_ca_file": bundle} if "introspection_url" in issuer else {}
    return {"jwks_ca_file": bundle, **asked, **issuer}


@asynccontextmanager
async def recipe(
    directory: Path,
    page: str,
    documents: Mapping[str, Document],
    *,
    number: int = 0,
    replaced: Mapping[str, str] | None = None,
    bearer: str = "",
) -> AsyncIterator[Recipe]:
    """Run the configuration of a page.

    Args:
        directory: for files.
        page: its name without the ending.
        documents: what the provider answers, by URL.
        number: which of the page's TOML blocks.
        replaced: texts of the block that stand for files of another machine.
        bearer: what the provider wants to see before it answers.
    """
    async with raw_upstream() as upstream, provider(directory, documents) as idp:
        idp.bearer = bearer
        text = block(page, number)
        for old, new in (replaced or {}).items():
            assert old in text
            text = text.replace(old, new.replace("AUTHORITY", str(idp.bundle)))
        file = directory / "recipe.toml"
        file.write_text(text, encoding="utf-8")
        loaded = load(file, {}, {})
        assert loaded.warnings == ()
        config = tomllib.loads(text)
        config["server"] = {**config.get("server", {}), "listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0"}
        config["upstreams"] = [{**one, "urls": [upstream.url]} for one in config["upstreams"]]
        config["issuers"] = [_trusting(str(idp.bundle), issuer) for issuer in config["issuers"]]
        settings = Settings.model_validate(config)
        async with running(settings, SigningKey.rsa(), resolver=idp) as gateway:
            yield Recipe(gateway, idp, upstream, tuple(settings.identity))


#: From when the tables of claims are.
_LOADED = int(time.time())


def times(seconds: int = 3600, *, nbf: bool = False) -> dict[str, Any]:
    """Return the claims on time of a token that is a minute old, whenever ``token`` makes it."""
    then = _LOADED - 60
    return {"iat": then, "exp": then + seconds, **({"nbf": then} if nbf else {})}


def token(key: SigningKey, header: Mapping[str, Any], claims: Mapping[str, Any], **changed: Any) -> bytes:
    """Return a token with a provider's header and claims, some of them ``changed``; ``ABSENT`` leaves one out."""
    # The claims may have been written down long ago: a whole run of the tests takes longer than some tokens live.
    since = int(time.time()) - _LOADED
    moved = {name: claims[name] + since for name in ("iat", "exp", "nbf") if name in claims}
    return mint(key, without_absent({**claims, **moved, **changed}), header=header)
