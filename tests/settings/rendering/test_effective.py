"""The configuration in force as TOML: complete, valid, with origins, without secrets."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from pydantic import SecretStr

from gateway.features.abuse_watch.options import Watch
from gateway.features.rate_limits.options import Limits
from gateway.features.revocation.options import Revocation
from gateway.settings.rendering.effective import MASK, effective_toml, masked
from gateway.settings.tables.dpop import Dpop
from gateway.settings.tables.redis import Redis
from gateway.settings.tables.server import Server
from gateway.settings.tables.upstreams import UpstreamSettings
from tests.settings.configs import SMALL, load_text, toml
from tests.support.composed import Issuer, Route, Settings, Tokens, load


def test_every_option_is_there_with_its_origin(tmp_path: Path) -> None:
    config = {**SMALL, "server": {"drain_seconds": 5}, "identity": {"x-sub": "sub", "x_odd.name": ["a", "b c"]}}
    loaded = load_text(
        tmp_path, toml(config), {"GATEWAY_TOKENS_REALM": 'a "b"'.replace('"', "'")}, server_listen="[::]:1"
    )
    lines = effective_toml(loaded).splitlines()
    assert 'listen = "[::]:1"  # from: flag (--server-listen)' in lines
    assert "drain_seconds = 5  # from: file" in lines
    assert "realm = \"a 'b'\"  # from: env (GATEWAY_TOKENS_REALM)" in lines
    assert "workers = 1  # from: default" in lines
    assert 'audience = ["api"]  # from: file' in lines
    assert 'auth = "required"  # from: default' in lines
    assert '"x_odd.name" = ["a", "b c"]  # from: file' in lines
    models = (Server, Tokens, Issuer, UpstreamSettings, Route, Dpop, Redis, Revocation, Limits, Watch)
    assert len([line for line in lines if "# from: " in line]) == sum(len(model.model_fields) for model in models) + 2


def test_the_text_loads_as_the_same_configuration(tmp_path: Path) -> None:
    config = {**SMALL, "routes": [{"path": "/é", "upstream": "orders", "claims": {"role": ["a", 1, True], "b c": 1.5}}]}
    loaded = load_text(tmp_path, toml(config))
    text = effective_toml(loaded)
    assert Settings.model_validate(tomllib.loads(text)) == loaded.settings
    again = tmp_path / "again.toml"
    again.write_text(text, encoding="utf-8")
    assert load(again, {}, {}).settings == loaded.settings


@pytest.mark.rule("R384")
def test_secrets_are_masked(tmp_path: Path) -> None:
    """An API key in the query of an address, and every option declared as a secret."""
    config = {**SMALL, "issuers": [{**SMALL["issuers"][0], "jwks_url": "https://idp.test/keys?api_key=s3cret"}]}
    text = effective_toml(load_text(tmp_path, toml(config)))
    assert 'jwks_url = "https://idp.test/keys?***"  # from: file' in text
    assert "s3cret" not in text
    for url in ("redis://:s3cret@10.0.0.1:6379/0", "rediss://user:s3cret@r.test", "unix://:s3cret@/run/redis.sock"):
        text = effective_toml(load_text(tmp_path, toml({**SMALL, "redis": {"url": url}})))
        assert f'url = "{url.partition("//")[0]}//***@{url.partition("@")[2]}"  # from: file' in text
    assert masked(SecretStr("s3cret")) == MASK
    assert masked(SecretStr("")) == ""
    assert masked({"urls": ["https://a.test/?k=s3cret#f", "https://a.test/"]}) == {
        "urls": ["https://a.test/?***#f", "https://a.test/"]
    }
