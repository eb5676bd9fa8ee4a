"""What is wrong, in words: paths as TOML shows them, one sentence a key, no value repeated."""

from __future__ import annotations

import copy
import datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from gateway.settings.faults import ConfigError, Fault, path_text, translate
from tests.settings.configs import SMALL, changed, faults_of


def test_paths_read_like_toml() -> None:
    assert path_text(("routes", 2, "scopes", 0)) == "routes[2].scopes[0]"
    assert path_text(("issuers", 0, "claims", "https://a.test/b")) == 'issuers[0].claims."https://a.test/b"'
    assert path_text(("identity", "x-user-id")) == "identity.x-user-id"


def test_a_fault_names_the_variable_or_flag_behind_its_key() -> None:
    assert str(Fault("server.listen", "is wrong")) == "server.listen: is wrong"
    assert str(Fault("server.listen", "is wrong", "--server-listen")) == "server.listen (--server-listen): is wrong"
    assert str(Fault("GATEWAY_X", "is wrong", "GATEWAY_X")) == "GATEWAY_X: is wrong"
    assert str(ConfigError([Fault("a", "b"), Fault("c", "d")])) == "a: b\nc: d"


# fmt: off
WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "a misspelt key": ("issuers", {"audiance": "api"}, "issuers[0].audiance: unknown key; did you mean `audience`?"),
    "a key like no other": ("routes", {"zzz": 1}, "routes[0].zzz: unknown key"),
    "a word that is close": (
        "routes", {"auth": "requird"},
        'routes[0].auth: must be "required", "optional" or "public"; did you mean `required`?'),
    "an empty word": ("routes", {"auth": ""}, 'routes[0].auth: must be "required", "optional" or "public"'),
    "a text for a list": ("routes", {"scopes": "a"}, 'routes[0].scopes: must be a list, e.g. ["..."]'),
    "a number for a list": ("routes", {"scopes": 1}, "routes[0].scopes: must be a list"),
    "an empty list": ("issuers", {"audience": []}, "issuers[0].audience: must not be empty"),
    "an empty text": ("issuers", {"audience": ["api", ""]}, "issuers[0].audience[1]: must not be empty"),
    "an empty choice": ("issuers", {"issuer": []}, "issuers[0].issuer: must not be empty"),
    "neither text nor list": ("issuers", {"issuer": 5}, "issuers[0].issuer: must be a string or a list"),
    "a wrong element of a choice": (
        "issuers", {"issuer": ["https://a.test", 5]}, "issuers[0].issuer[1]: must be a string"),
    "a text for a number": ("server", {"drain_seconds": "5"}, "server.drain_seconds: must be a number"),
    "a fraction for a whole number": (
        "server", {"max_body_bytes": 1.5}, "server.max_body_bytes: must be a whole number"),
    "a truth for a number": ("server", {"max_body_bytes": True}, "server.max_body_bytes: must be a whole number"),
    "a number for a truth": ("routes", {"observe": 1}, "routes[0].observe: must be true or false"),
    "neither number nor word": (
        "server", {"workers": "four"}, 'server.workers: must be a whole number or "auto"'),
    "a number for no process": ("server", {"workers": 0}, "server.workers: must be at least 1"),
    "more processes than sensible": ("server", {"workers": 257}, "server.workers: must be at most 256"),
    "too little": ("server", {"max_head_bytes": 5}, "server.max_head_bytes: must be at least 1024"),
    "too much": ("issuers", {"leeway_seconds": 300.5}, "issuers[0].leeway_seconds: must be at most 300"),
    "much too much": (
        "issuers", {"jwks_max_stale_seconds": 1e9}, "issuers[0].jwks_max_stale_seconds: must be at most 2592000"),
    "nothing where zero is no meaning": ("tokens", {"cache_seconds": 0}, "tokens.cache_seconds: must be more than 0"),
    "a shared secret for an algorithm": (
        "issuers", {"algorithms": ["HS256"]},
        'issuers[0].algorithms[0]: must be "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384",'
        ' "ES512", "EdDSA" or "Ed25519"; HMAC and none are never accepted: tokens are signed with a private key'),
    "no signature for an algorithm": (
        "issuers", {"algorithms": ["ES256", "none"]},
        'issuers[0].algorithms[1]: must be "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384",'
        ' "ES512", "EdDSA" or "Ed25519"; HMAC and none are never accepted: tokens are signed with a private key'),
    "a misspelt algorithm": (
        "issuers", {"algorithms": ["RS265"]},
        'issuers[0].algorithms[0]: must be "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384",'
        ' "ES512", "EdDSA" or "Ed25519"; did you mean `RS256`?'),
    "a name that is none": (
        "upstreams", {"name": "a b"},
        "upstreams[0].name: must be up to 64 letters, digits, dots, hyphens and underscores, and begin with a letter"
        " or digit"),
    "a check of one value": (
        "routes", {"methods": ["GET", "post"]}, "routes[0].methods[1]: methods are upper case: write POST"),
    "a claim without values": ("routes", {"claims": {"role": []}}, "routes[0].claims.role: must not be empty"),
    "a claim of another type": (
        "routes", {"claims": {"a b": {"x": 1}}},
        'routes[0].claims."a b": must be a string or a number or true or false or a list'),
    "a key of the user's own": (
        "identity", {"Host": "sub"},
        "identity.Host: HTTP or the gateway itself gives this header another meaning; choose a name such as x-user-id"),
}
# fmt: on


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.rule("R381")
def test_a_wrong_value_gets_one_sentence_at_its_key(case: str, tmp_path: Path) -> None:
    table, options, fault = WRONG[case]
    assert faults_of(tmp_path, changed(table, **options)) == [fault]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("server = 5", "server: must be a table"),
        ("identity = 5", "identity: must be a table"),
        ("issuers = 5", "issuers: must be a list of tables: [[issuers]]"),
        ("issuers = [5]", "issuers[0]: must be a table"),
        ("leeway = 5", "leeway: unknown key"),
        ("[[server]]", "server: must be a table"),
        ("[server]\nx-real-ip = nan", "server.x-real-ip: unknown key"),
        ("[tokens]\ncache_seconds = nan", "tokens.cache_seconds: must be a finite number"),
        ("[tokens]\ncache_seconds = inf", "tokens.cache_seconds: must be a finite number"),
        ("[tokens]\nrealm = 2026-01-01", "tokens.realm: must be a string"),
    ],
)
def test_a_table_of_another_shape_gets_one_sentence(text: str, fault: str, tmp_path: Path) -> None:
    faults = faults_of(tmp_path, text + '\n[[upstreams]]\nname = "a"\nurls = ["http://a"]\n')
    assert [line for line in faults if line != "routes: is required"] == [fault]


def test_required_keys_are_named(tmp_path: Path) -> None:
    config: dict[str, Any] = {"issuers": [{"name": "a"}], "upstreams": [{"name": "a"}], "routes": [{"path": "/"}]}
    assert faults_of(tmp_path, config) == [
        "issuers[0].issuer: is required",
        "issuers[0].audience: is required",
        "upstreams[0].urls: is required",
        "routes[0].upstream: is required",
    ]


def test_an_error_that_has_no_sentence_here_keeps_pydantics() -> None:
    class Other(BaseModel):
        day: datetime.date

    data = {"day": "s3cret"}
    with pytest.raises(ValidationError) as caught:
        Other.model_validate(data)
    found = translate(caught.value.errors(), data, Other.model_json_schema())
    assert found[("day",)].startswith("should be a valid date")
    assert "s3cret" not in found[("day",)]


@pytest.mark.rule("R384")
def test_no_sentence_repeats_what_was_configured(tmp_path: Path) -> None:
    """A secret may stand at the wrong place."""
    secret = "s3cret"
    config = copy.deepcopy(SMALL)
    config["server"] = dict.fromkeys(
        ("listen", "workers", "trusted_proxies", "drain_seconds", "access_log", "log_level"), f"user:{secret}@"
    )
    config["tokens"] = {"realm": f'"{secret}', "scope_claims": secret, "invalid_token_status": secret}
    config["issuers"][0].update(
        name=f" {secret}", jwks_url=f"https://u:{secret}@idp.test/", algorithms=[secret], claims=secret, audience=secret
    )
    config["upstreams"][0].update(urls=[f"http://u:{secret}@h/", f"http://h/?{secret}", secret], preserve_host=secret)
    config["routes"][0].update(
        path=f"{secret}?",
        hosts=[f"{secret}:1"],
        methods=[f"{secret} "],
        upstream=secret,
        auth=secret,
        scopes=[f"{secret} "],
    )
    config["routes"].append({"path": f"([{secret}", "match": "regex", "upstream": "orders", "issuers": [secret]})
    config["identity"] = {"x-user-id": f"${secret}", "x-a": {"b": secret}}
    faults = faults_of(tmp_path, config)
    assert len(faults) >= 26
    assert not [line for line in faults if secret in line.lower()]
