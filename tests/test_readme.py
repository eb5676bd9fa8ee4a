"""What the README and the hand-written pages say is so: examples load, links lead somewhere, lists are complete."""

from __future__ import annotations

import configparser
import inspect
import io
import json
import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_type_hints

import click
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway import errors, tasks
from gateway.app import GatewayApp
from gateway.cli import cli
from gateway.errors import GatewayError, Reason, Reasons, RefusalKind
from gateway.features.introspection.choice import introspection_policy
from gateway.features.introspection.introspector import Introspector
from gateway.features.introspection.shared_answers import SharedAnswers
from gateway.http1.target import parse_target
from gateway.http1.trusted_proxies import FORWARDING, Peer
from gateway.identity import Identity, header_value
from gateway.settings.tables.redis import Redis
from gateway.store.redis_link import RedisLink
from gateway.telemetry import unhandled_errors as last_resort
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.record import Record
from gateway.upstream.headers import header_policy as names
from gateway.upstream.headers.claimed_names import GROUPS
from tests.support.certificates import authority
from tests.support.clock import FakeClock
from tests.support.composed import load
from tests.support.gateways.every_feature import every_feature
from tests.support.gateways.running import running_gateway
from tests.support.issuers.identity_provider import gateway_settings
from tests.support.issuers.introspection import introspecting
from tests.support.parts import introspectors, proofs, rate_limits
from tests.support.stores.redis import RedisServer
from tests.support.wire.heads import upstream_section

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *(page for folder in ("docs", "docs/providers", "docs/decisions") for page in sorted((ROOT / folder).glob("*.md"))),
]
#: What makes a fragment of a configuration whole.
BASE = {
    "issuers": '[[issuers]]\nname = "main"\nissuer = "https://idp.example.com/"\naudience = ["api"]\n',
    "upstreams": '[[upstreams]]\nname = "orders"\nurls = ["http://127.0.0.1:9000"]\n',
    "routes": '[[routes]]\npath = "/"\nupstream = "orders"\n',
}


def _read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def _blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def _rows(text: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, without its own head."""
    below = text.partition(f"{heading}\n")[2]
    table = re.search(r"(?:^\|.*\|\n)+", below, flags=re.MULTILINE)
    assert table is not None, heading
    lines = table[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def _codes(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def _examples() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        if page.name != "configuration.md":
            for number, block in enumerate(_blocks(page.read_text(encoding="utf-8"), "toml")):
                yield f"{page.name}-{number}", block


@pytest.mark.parametrize("block", [pytest.param(block, id=name) for name, block in _examples()])
def test_every_example_of_a_configuration_loads(block: str, tmp_path: Path) -> None:
    """Fragments are completed; files that only a cluster has are put in place. None gives a warning."""
    about_keys = "api_keys" in block
    for name, text in BASE.items():
        if f"[[{name}]]" not in block:
            block = f"{text}\n{block}"
    if about_keys and '"api_key"' not in block:
        block = block.replace('path = "/"\n', 'path = "/"\ncredentials = ["jwt", "api_key"]\n', 1)
    elif '"api_key"' in block and not about_keys:
        block += f'\n[[api_keys]]\nid = "a"\nhash = "sha256:{"0" * 64}"\n'
    (tmp_path / "keys.jsonl").write_text("".join(_blocks(_read("docs/api-keys.md"), "json")))
    block = block.replace("/etc/gateway/keys.jsonl", str(tmp_path / "keys.jsonl"))
    (tmp_path / "revoked.jsonl").touch()
    block = block.replace("/var/lib/gateway/revoked.jsonl", str(tmp_path / "revoked.jsonl"))
    (tmp_path / "revoke").write_text("0123456789-abcdef")
    block = block.replace("/run/secrets/revoke", str(tmp_path / "revoke"))
    (tmp_path / "client-secret").write_text("secret")
    for path in ("/etc/gateway/introspection-secret", "/run/secrets/zitadel-api"):
        block = block.replace(path, str(tmp_path / "client-secret"))
    (tmp_path / "token").write_text("token")
    (tmp_path / "secret").write_bytes(bytes(32))
    block = block.replace("/etc/gateway/dpop-nonce", str(tmp_path / "secret"))
    block = block.replace("/etc/gateway/tls/clients.pem", str(authority(tmp_path).bundle))
    block = block.replace("/var/run/secrets/kubernetes.io/serviceaccount/token", str(tmp_path / "token"))
    block = block.replace("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt", str(authority(tmp_path).bundle))
    certificate = authority(tmp_path).sign("server", "localhost")
    block = block.replace("/etc/gateway/tls/tls.crt", str(certificate.cert))
    block = block.replace("/etc/gateway/tls/tls.key", str(certificate.key))
    file = tmp_path / "gateway.toml"
    file.write_text(block, encoding="utf-8")
    assert load(file, {}, {}).warnings == ()


def test_the_example_of_the_environment_loads() -> None:
    """The README's variables are a whole configuration that requires a token."""
    exported = dict(re.findall(r"^export (\w+)=(.+)$", _read("README.md"), flags=re.MULTILINE))
    loaded = load(None, exported, {})
    assert loaded.warnings == ()
    assert loaded.settings.routes[0].auth == "required"
    assert loaded.settings.issuers[0].audience == [exported["GATEWAY_AUDIENCE"]]


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name) if name else page
        assert file.exists(), target
        if anchor:
            assert anchor in _anchors(file), target


def test_the_map_has_every_page() -> None:
    for folder in ("docs", "docs/providers", "docs/decisions"):
        linked = re.findall(r"\]\(([\w-]+\.md)\)", _read(f"{folder}/index.md"))
        pages = [page.name for page in PAGES if page.parent == ROOT / folder and page.name != "index.md"]
        assert sorted(set(linked)) == sorted(pages)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_script_exists(page: Path) -> None:
    """`gateway NAME --option` in code is a command with that option, and a script is there to be run."""
    text = page.read_text(encoding="utf-8")
    code = "\n".join([*_blocks(text, "(?:sh|console)"), *re.findall(r"`([^`\n]+)`", text)])
    for name, rest in re.findall(r"(?:^|[ /(])gateway ([a-z]+)\b([^|)#\n]*)", code, flags=re.MULTILINE):
        assert isinstance(cli, click.Group)
        command = cli.get_command(click.Context(cli), name)
        assert command is not None, name
        if isinstance(command, click.Group):
            command = command.commands[rest.split()[0]]
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= known, rest
    for name in re.findall(r"(?<![\w/])(?:\./)?scripts/([a-z]+)", text):
        assert os.access(ROOT / "scripts" / name, os.X_OK), name


def test_the_readme_has_every_answer_of_the_gateway() -> None:
    """Each kind of refusal is in the table, with its status and its error."""
    rows = [(row[0], _codes(row[1])) for row in _rows(_read("README.md"), "## What it answers")]
    for _, kind in inspect.getmembers(errors, lambda member: isinstance(member, RefusalKind)):
        assert any(str(kind.status) in status and kind.error in listed for status, listed in rows), kind


def _counted_everything(app: GatewayApp, folder: Path) -> None:
    """Make every counter that appears with its first count appear."""
    telemetry = app.telemetry
    telemetry.requests["/", "read", 200, "forwarded"] += 1
    telemetry.refusals["expired"] += 1
    telemetry.observed["/", "expired"] += 1
    telemetry.tunnel_ends["expired"] += 1
    tasks.failures["access log"] += 0
    telemetry.not_http["tls"] += 1
    telemetry.handshake_failures["version"] += 1
    last_resort.counts["event_loop"] += 0
    tasks.failures["look at the revocations"] += 0
    proofs(app).outcomes["dpop", "accepted"] += 1
    app.upstreams["main"].failed(Reasons.UPSTREAM_CONNECT)
    rate_limits(app).counts["/", "sub", "limited"] += 1
    clock, redis = FakeClock(), Redis(url="redis://127.0.0.1:1/0")
    issuer = introspecting(folder, "http://127.0.0.1:1/")
    shared = SharedAnswers(RedisLink(redis, clock), redis, issuer)
    asker = Introspector(issuer, introspection_policy(issuer, gateway_settings(issuer)), 8192, clock, shared)
    asker.outcomes["active"] += 1
    introspectors(app)["as"] = asker


async def test_every_metric_has_its_entry_with_type_and_labels(tmp_path: Path) -> None:
    """The page's headings are exactly the exported metrics, in their order."""
    features = every_feature(tmp_path)
    main = {"name": "main", "issuer": "https://idp.test/", "jwks_file": str(tmp_path / "jwks.json")}
    issuers = [
        {**main, "audience": ["api"], **features.pop("issuer")},
        {"name": "template", "issuer": "https://idp.test/{tenant}", "tenants": ["acme"], "audience": ["api"]},
    ]
    async with (
        RedisServer(tmp_path / "redis") as server,
        running_gateway(
            "http://127.0.0.1:9",
            tmp_path,
            redis={"url": server.url, "timeout_seconds": 2},
            issuers=issuers,
            **features,
        ) as gateway,
    ):
        _counted_everything(gateway.app, tmp_path)
        page = (await gateway.admin("/metrics")).body.decode()
    exported = {}
    for family in text_string_to_metric_families(page):
        labels = dict.fromkeys(label for sample in family.samples for label in sample.labels if label != "le")
        name = f"{family.name}_total" if family.type == "counter" else family.name
        exported[name] = (family.type, sorted(labels))
    entries = re.findall(r"^### `(\w+)`\n\n(\w+) · (.+)$", _read("docs/metrics.md"), flags=re.MULTILINE)
    documented = {name: (kind.lower(), sorted(_codes(labels))) for name, kind, labels in entries}
    assert documented == exported
    assert list(documented) == list(exported)


def test_every_metric_has_an_alert_or_says_that_it_needs_none() -> None:
    for entry in _read("docs/metrics.md").split("\n### ")[1:]:
        assert "\nAlert: " in entry, entry.partition("\n")[0]


def test_every_outcome_of_the_log_is_explained() -> None:
    explained = [_codes(row[0])[0] for row in _rows(_read("docs/metrics.md"), "### `gateway_requests_total`")]
    assert sorted(explained) == sorted(get_args(get_type_hints(Record)["outcome"]))


def _logged(record: Record) -> dict[str, object]:
    out = io.StringIO()
    AccessLog("json", out, FakeClock()).write(record, 0.1)
    fields = json.loads(out.getvalue())
    assert isinstance(fields, dict)
    return fields


def test_every_field_of_the_access_log_is_explained() -> None:
    """The table has the fields of the fullest line, in order, and says which ones the emptiest line has."""
    identity = Identity("main", "https://idp.example.com/", "alice", (), {}, b"", 0.0, 0.0, None, tenant="acme")
    full = Record(0.0, reason="r", detail="d", observed="o", identity=identity, cache_hit=True)
    full.upstream, full.upstream_seconds = "u", 0.1
    rows = {_codes(row[0])[0]: row[1] for row in _rows(_read("docs/operations.md"), "## Access log")}
    assert list(rows) == list(_logged(full))
    assert [name for name, always in rows.items() if always == "yes"] == list(_logged(Record(0.0)))


def _refusals(target: str) -> Reason | None:
    try:
        read = parse_target("GET", target.encode("utf-8"))
    except GatewayError as error:
        return error.reason
    return Reasons.ENCODED_SLASH if read.encoded_slash else None


def test_the_paths_that_are_said_to_be_refused_are_and_the_others_are_not() -> None:
    text = _read("docs/paths.md")
    for row in _rows(text, "## The path guard"):
        for target in _codes(row[1]) if len(row) > 1 else []:
            assert _refusals(target) in (Reasons.BAD_PATH, Reasons.ENCODED_SLASH), target
    plain = text.partition("Not refused, since")[2].partition("\n\n")[0]
    targets = [code for code in _codes(plain) if code.startswith("/")]
    assert len(targets) > 4
    assert [_refusals(target) for target in targets] == [None] * len(targets)


def test_the_codings_of_claims_are_as_shown() -> None:
    """`claim` → `header value` pairs of the table, the claim as JSON where it is not text."""
    shown = re.findall(r"`([^`]+)` → `([^`]+)`", _read("docs/identity.md"))
    assert len(shown) >= 6
    for claim, value in shown:
        parsed = json.loads(claim) if re.match(r'[\d\["{tfn]', claim) else unicodedata.normalize("NFC", claim)
        assert header_value(parsed) == value.encode(), claim


def test_every_header_that_is_said_to_be_removed_is_and_none_is_missing() -> None:
    """The table of transparency.md against the header rules, both ways."""
    rows = _rows(_read("docs/transparency.md"), "### Headers that are removed")
    listed = {code for row in rows[1:] for code in _codes(row[0]) if code[0].isupper()}
    fields = [
        (name.encode(), b"(x)") for name in sorted(listed - {"Connection", "Content-Length", "Transfer-Encoding"})
    ]
    sent = upstream_section(
        fields, policy=names.header_policy(["x-user-id"], b"gateway-x"), peer=Peer(b"192.0.2.1", secure=False, port=0)
    )
    assert [pair for pair in sent if pair[1] == b"(x)"] == []
    folded = {names.fold(name.encode()) for name in listed}
    assert folded >= names.DROPPED | FORWARDING


@pytest.mark.rule("R401", "R402")
def test_every_name_that_services_believe_is_documented_with_its_reason() -> None:
    """The list of transparency.md is that of the code, group by group."""
    rows = _rows(_read("docs/transparency.md"), "### What services believe of proxies")
    documented = [(row[0], set(_codes(row[1]))) for row in rows]
    assert documented == [
        (group.reason, {*group.names.split(), *(f"{prefix}*" for prefix in group.prefixes.split())}) for group in GROUPS
    ]


@pytest.mark.rule("R388")
def test_the_floors_of_dependencies_are_those_of_the_package() -> None:
    """security.md gives a reason for each floor that protects."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    required = dict(re.findall(r"^([\w-]+) >= ([\d.]+)", setup["options"]["install_requires"], flags=re.MULTILINE))
    rows = {row[0].lower(): row[1] for row in _rows(_read("docs/security.md"), "## Dependency floors")}
    assert set(rows) == {"joserfc", "authlib", "aiohttp", "cryptography"}
    assert rows == {name: required[name] for name in rows}
    assert "pyjwt" not in (name.lower() for name in required)
