"""Public bug reports and rules about the configuration: whatever weakens a check by mistake stops the start."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from gateway.settings.rendering.effective import effective_toml
from tests.settings.configs import SMALL, changed, faults_of, load_text, toml, warnings_of
from tests.support.composed import Settings

# fmt: off
MISSPELT: dict[str, tuple[str, dict[str, Any], str]] = {
    "audiance": ("issuers", {"audiance": "api"}, "issuers[0].audiance"),
    "audience as text": ("issuers", {"audience": "api"}, "issuers[0].audience"),
    "empty audience": ("issuers", {"audience": []}, "issuers[0].audience"),
    "audience of an empty text": ("issuers", {"audience": [""]}, "issuers[0].audience[0]"),
    "auth = requird": ("routes", {"auth": "requird"}, "routes[0].auth"),
    "auth = ''": ("routes", {"auth": ""}, "routes[0].auth"),
    "auth = none": ("routes", {"auth": "none"}, "routes[0].auth"),
    "auth = Required": ("routes", {"auth": "Required"}, "routes[0].auth"),
    "auth = false": ("routes", {"auth": False}, "routes[0].auth"),
    "public = true": ("routes", {"public": True}, "routes[0].public"),
    "required_scope": ("routes", {"required_scope": ["a"]}, "routes[0].required_scope"),
    "required_scopes": ("routes", {"required_scopes": ["a"]}, "routes[0].required_scopes"),
    "scopes as text": ("routes", {"scopes": "a"}, "routes[0].scopes"),
    "several scopes in one text": ("routes", {"scopes": ["a b"]}, "routes[0].scopes[0]"),
    "an empty scope": ("routes", {"any_scopes": [""]}, "routes[0].any_scopes[0]"),
    "a claim without values": ("routes", {"claims": {"role": []}}, "routes[0].claims.role"),
    "Audience": ("issuers", {"Audience": ["api"]}, "issuers[0].Audience"),
}
# fmt: on


@pytest.mark.parametrize("case", MISSPELT)
@pytest.mark.rule("C82", "R381")
def test_a_misspelt_key_or_mode_stops_the_start(case: str, tmp_path: Path) -> None:
    """It is named with the path of its key, and never means "no check"."""
    table, options, path = MISSPELT[case]
    assert [line.partition(": ")[0] for line in faults_of(tmp_path, changed(table, **options))] == [path]


@pytest.mark.parametrize("key", ["audience", "name", "issuer"])
@pytest.mark.rule("C82", "R381")
def test_an_issuer_without_a_check_that_matters_stops_the_start(key: str, tmp_path: Path) -> None:
    """No default stands in for an audience."""
    config = copy.deepcopy(SMALL)
    del config["issuers"][0][key]
    assert faults_of(tmp_path, config) == [f"issuers[0].{key}: is required"]


@pytest.mark.rule("C82")
def test_a_promise_that_this_version_does_not_keep_is_unknown(tmp_path: Path) -> None:
    """A table of a later version is refused, not ignored."""
    config = {**copy.deepcopy(SMALL), "forward_auth": {"listen": "127.0.0.1:0"}}
    assert faults_of(tmp_path, config) == ["forward_auth: unknown key"]


@pytest.mark.rule("R002")
def test_an_empty_list_of_algorithms_is_no_default(tmp_path: Path) -> None:
    """RFC 8725 section 3.1."""
    config = changed("issuers", algorithms=[])
    assert faults_of(tmp_path, config) == ["issuers[0].algorithms: must not be empty"]


@pytest.mark.parametrize(
    "name", ["none", "None", "NONE", "", "HS256", "HS384", "HS512", "RS1", "rs256", "ES256K", "dir"]
)
@pytest.mark.rule("R004", "C01", "C02")
def test_no_algorithm_that_is_not_asymmetric_can_be_configured(name: str, tmp_path: Path) -> None:
    """`none` and HMAC, in any company."""
    (fault,) = faults_of(tmp_path, changed("issuers", algorithms=["RS256", name]))
    assert fault.startswith('issuers[0].algorithms[1]: must be "RS256"')


@pytest.mark.parametrize("seconds", [300.001, 3600, -1])
@pytest.mark.rule("R084")
def test_the_leeway_is_bounded(seconds: float, tmp_path: Path) -> None:
    """At most five minutes. That cache hits use the same is proven with the cache."""
    (fault,) = faults_of(tmp_path, changed("issuers", leeway_seconds=seconds))
    assert fault.startswith("issuers[0].leeway_seconds: must be at")
    assert faults_of(tmp_path, changed("issuers", leeway_seconds=300)) == []


@pytest.mark.parametrize("name", ["Content-Length", "host", "Transfer_Encoding", "TE", "Connection", "x y", ""])
@pytest.mark.rule("R359")
def test_an_identity_header_cannot_break_the_request(name: str, tmp_path: Path) -> None:
    (fault,) = faults_of(tmp_path, {**SMALL, "identity": {name: "sub"}})
    assert fault.startswith("identity.")


@pytest.mark.rule("R381")
def test_wrong_types_duplicates_and_missing_references_are_named_together(tmp_path: Path) -> None:
    """Unknown keys, wrong types, duplicate routes, http:// issuer, empty audience, each with its path."""
    config = changed("issuers", issuer="http://idp.internal", audience=[], leeway_seconds="30")
    config["routes"] = [SMALL["routes"][0], {**SMALL["routes"][0]}, {"path": "/x", "upstream": "nowhere", "sopes": []}]
    assert [line.partition(":")[0] for line in faults_of(tmp_path, config)] == [
        "issuers[0].audience",
        "issuers[0].leeway_seconds",
        "issuers[0].issuer",
        "routes[1].path",
        "routes[2].sopes",
        "routes[2].upstream",
    ]


@pytest.mark.rule("R382")
def test_a_route_without_a_word_about_tokens_requires_one(tmp_path: Path) -> None:
    (route,) = load_text(tmp_path, toml(SMALL)).settings.routes
    assert route.auth == "required"


@pytest.mark.rule("R383")
def test_what_a_route_adds_never_replaces_what_the_issuer_demands(tmp_path: Path) -> None:
    """No option of a route names an audience, algorithms or required claims; scopes come on top of a token."""
    route = changed("routes", scopes=["a"], claims={"role": "admin"})
    assert load_text(tmp_path, toml(route)).settings.routes[0].auth == "required"
    issuers_own = set(Settings.model_json_schema()["$defs"]["Issuer"]["properties"])
    routes_own = set(Settings.model_json_schema()["$defs"]["RouteSettings"]["properties"])
    assert issuers_own & routes_own == {"claims"}
    both = changed("routes", claims={"token_use": "id"})
    both["issuers"][0]["claims"] = {"token_use": "access"}
    settings = load_text(tmp_path, toml(both)).settings
    assert settings.issuers[0].claims == {"token_use": "access"}
    for name in ("scopes", "any_scopes", "claims"):
        value = {"role": "admin"} if name == "claims" else ["a"]
        (fault,) = faults_of(tmp_path, changed("routes", auth="public", **{name: value}))
        assert fault.startswith(f"routes[0].{name}: can never apply")


@pytest.mark.rule("R384")
def test_secrets_are_in_files_and_no_output_shows_one(tmp_path: Path) -> None:
    """Every secret of the schema is named by a file; addresses cannot hold a password."""
    secret = "s3cret"
    (tmp_path / "token").write_text(secret)
    config = changed("issuers", jwks_token_file=str(tmp_path / "token"), jwks_url="https://idp.test/keys?key=s3cret")
    loaded = load_text(tmp_path, toml(config))
    assert secret not in effective_toml(loaded)
    assert secret not in "".join(map(str, loaded.warnings))
    config = changed("issuers", jwks_url=f"https://user:{secret}@idp.test/keys")
    config["upstreams"][0]["urls"] = [f"http://user:{secret}@orders.test"]
    faults = faults_of(tmp_path, config)
    assert len(faults) == 2
    assert secret not in "".join(faults)


@pytest.mark.parametrize("audience", [["account"], ["api", "account"]])
@pytest.mark.rule("C92")
def test_the_audience_of_every_keycloak_client_is_doubted(audience: list[str], tmp_path: Path) -> None:
    """The tokens themselves are judged by the configured audience alone, which is proven with the verifier."""
    (warning,) = warnings_of(tmp_path, changed("issuers", audience=audience))
    assert warning.startswith("issuers[0].audience: `account`")
