"""The hand-written and rendered pages cover what the code has, and the examples in conf/ work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from gateway.errors import Reasons
from gateway.features.abuse_watch.options import Watch
from gateway.features.api_keys.options import ApiKey
from gateway.features.listed import reasons
from gateway.features.rate_limits.options import Limits
from gateway.features.resource_metadata.options import Resource
from gateway.features.revocation.options import Revocation
from gateway.settings.tables.dpop import Dpop
from gateway.settings.tables.redis import Redis
from gateway.settings.tables.server import Server
from gateway.settings.tables.upstreams import UpstreamSettings
from tests.support.composed import Issuer, Route, Settings, Tokens, load

ROOT = Path(__file__).parents[1]
TABLES: dict[str, type[BaseModel]] = {
    "server": Server,
    "tokens": Tokens,
    "limits": Limits,
    "watch": Watch,
    "issuers": Issuer,
    "api_keys": ApiKey,
    "upstreams": UpstreamSettings,
    "routes": Route,
    "resources": Resource,
    "dpop": Dpop,
    "redis": Redis,
    "revocation": Revocation,
}


def _headings(page: str, level: int) -> list[str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"^{'#' * level} `(.+)`$", text, flags=re.MULTILINE)


def test_every_option_has_its_heading() -> None:
    wanted = [f"{table}.{name}" for table, model in TABLES.items() for name in model.model_fields]
    assert _headings("configuration.md", 3) == wanted
    assert [heading.strip("[]") for heading in _headings("configuration.md", 2)] == list(Settings.model_fields)


def test_every_reason_has_its_entry_and_no_entry_is_left_over() -> None:
    """A code that logs and metrics show is explained, once."""
    assert sorted(_headings("reasons.md", 3)) == sorted(reason.code for reason in reasons())


def test_every_entry_of_a_reason_begins_with_its_status() -> None:
    text = (ROOT / "docs/reasons.md").read_text(encoding="utf-8")
    for reason in reasons():
        entry = text.partition(f"### `{reason.code}`\n")[2].partition("\n#")[0].strip()
        if reason is not Reasons.CLIENT_GONE:  # its status is not sent
            assert entry.startswith(f"{reason.kind.status}. "), reason
        assert len(entry) > 30, reason


def test_every_option_that_the_reasons_name_exists() -> None:
    names = {name for model in TABLES.values() for name in model.model_fields} | set(TABLES)
    text = (ROOT / "docs/reasons.md").read_text(encoding="utf-8")
    for table, name in re.findall(r"`(server|tokens|issuers|upstreams|routes)\.(\w+)`", text):
        assert name in TABLES[table].model_fields
    for name in re.findall(r"`((?!gateway_)[a-z]+(?:_[a-z]+)+)`", text):
        assert name in names | {reason.code for reason in reasons()} | {"access_token", "request_id"}, name


@pytest.mark.parametrize("file", sorted(ROOT.glob("conf/*.toml")), ids=lambda file: file.name)
def test_every_example_file_is_valid(file: Path) -> None:
    """Each TOML file in conf/ passes `gateway check` without a warning."""
    assert load(file, {}, {}).warnings == ()


def test_the_example_environment_is_valid() -> None:
    lines = (ROOT / "conf/one-issuer.env").read_text(encoding="utf-8").splitlines()
    env = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    loaded = load(None, env, {})
    assert loaded.settings.routes[0].auth == "required"
    optional = dict(line[1:].split("=", 1) for line in lines if line.startswith("#GATEWAY_"))
    assert load(None, {**env, **optional}, {}).settings.issuers[0].jwks_url


def test_the_configuration_in_the_kubernetes_example_is_valid(tmp_path: Path) -> None:
    text = (ROOT / "conf/kubernetes.yaml").read_text(encoding="utf-8")
    indented = text.partition("gateway.toml: |\n")[2].partition("---")[0]
    file = tmp_path / "gateway.toml"
    file.write_text("\n".join(line[4:] for line in indented.splitlines()), encoding="utf-8")
    loaded = load(file, {}, {})
    assert loaded.warnings == ()
    server = loaded.settings.server
    assert f"containerPort: {server.addresses[0].rpartition(':')[2]}\n" in text
    assert f"containerPort: {server.admin_listen.rpartition(':')[2]}\n" in text
    grace = re.search(r"terminationGracePeriodSeconds: (\d+)", text)
    assert grace is not None
    assert int(grace[1]) > server.drain_seconds + 5


def test_the_unit_waits_longer_than_a_drain() -> None:
    text = (ROOT / "conf/gateway.service").read_text(encoding="utf-8")
    patience = re.search(r"^TimeoutStopSec=(\d+)$", text, flags=re.MULTILINE)
    assert patience is not None
    assert int(patience[1]) > Server().drain_seconds
    assert "RestartPreventExitStatus=2" in text


def test_the_container_starts_the_command_that_the_package_installs() -> None:
    text = (ROOT / "conf/Dockerfile").read_text(encoding="utf-8")
    assert 'ENTRYPOINT ["/opt/gateway/bin/gateway"]' in text
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, flags=re.MULTILINE):
        for name in line.split():
            assert (ROOT / name).exists(), name
