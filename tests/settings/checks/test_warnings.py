"""What is allowed but seldom meant is said, and nothing else is."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from tests.settings.configs import SMALL, changed, warnings_of

# fmt: off
DOUBTFUL: dict[str, tuple[str, dict[str, Any], str]] = {
    "everything open": (
        "routes", {"path": "/", "auth": "public"},
        "routes[0].auth: is public: requests that match no other route need no token"),
    "scopes that only token holders need": (
        "routes", {"auth": "optional", "scopes": ["a"]},
        "routes[0].auth: a request without a token passes without the scopes and claims of this route"),
    "observing": ("routes", {"observe": True}, "routes[0].observe: requests with a bad token or none pass"),
    "tokens for ever": ("issuers", {"required_claims": ["sub"]}, "issuers[0].required_claims: without `exp`"),
    "keys over plain HTTP": (
        "issuers", {"jwks_url": "http://idp.internal/keys", "allow_http": True},
        "issuers[0].allow_http: keys are fetched over http://"),
    "a key file that is not there yet": (
        "issuers", {"jwks_file": "/nowhere/keys.json"},
        "issuers[0].jwks_file: this file cannot be read: no such file or directory; until it can"),
    "a token file that is not there yet": (
        "issuers", {"jwks_token_file": "/nowhere/token"},
        "issuers[0].jwks_token_file: this file cannot be read: no such file or directory; until it can"),
    "credentials that nobody looks at": (
        "routes", {"auth": "public", "forward_authorization": True},
        "routes[0].forward_authorization: the upstream gets credentials that were not verified"),
    "pages that cannot send a token": (
        "routes", {"cors_origins": ["https://app.test"], "cors_headers": ["content-type"]},
        "routes[0].cors_headers: without `authorization` pages cannot send a token"),
    "tokens longer than any head": (
        "tokens", {"max_bytes": 65536}, "tokens.max_bytes: has no effect: longer heads than `server.max_head_bytes`"),
}
# fmt: on


@pytest.mark.parametrize("case", DOUBTFUL)
def test_a_doubtful_option_is_named(case: str, tmp_path: Path) -> None:
    table, options, warning = DOUBTFUL[case]
    (line,) = [line for line in warnings_of(tmp_path, changed(table, **options)) if "no route accepts" not in line]
    assert line.startswith(warning)


def test_options_that_a_key_file_makes_idle_are_named(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text("{}")
    lines = warnings_of(
        tmp_path, changed("issuers", jwks_file=str(keys), allow_http=True, jwks_token_file=str(tmp_path / "missing"))
    )
    assert lines == [
        "issuers[0].jwks_token_file: has no effect with `jwks_file`",
        "issuers[0].allow_http: has no effect with `jwks_file`",
    ]


def test_what_nothing_leads_to_is_named(tmp_path: Path) -> None:
    config = copy.deepcopy(SMALL)
    config["issuers"].append({"name": "spare", "issuer": "https://b.test", "audience": ["b"]})
    config["upstreams"].append({"name": "spare", "urls": ["http://127.0.0.1:9001"]})
    assert warnings_of(tmp_path, config) == ["upstreams[1].name: no route leads to this upstream"]
    config["routes"][0]["issuers"] = ["main"]
    assert warnings_of(tmp_path, config)[1:] == ["issuers[1].name: no route accepts tokens of this issuer"]
    config["routes"].append({"path": "/b", "upstream": "spare"})
    assert warnings_of(tmp_path, config) == []


def test_an_empty_identity_is_named_where_tokens_matter(tmp_path: Path) -> None:
    config = {**copy.deepcopy(SMALL), "identity": {}}
    assert warnings_of(tmp_path, config) == ["identity: is empty: no identity header is set"]
    config["routes"][0].update(path="/public", auth="public")
    del config["issuers"]
    assert warnings_of(tmp_path, config) == []


@pytest.mark.parametrize(
    ("table", "options"),
    [
        ("routes", {}),
        ("routes", {"auth": "public"}),
        ("routes", {"auth": "optional"}),
        ("routes", {"path": "/", "match": "exact", "auth": "public"}),
        ("issuers", {"issuer": "http://localhost:9000", "allow_http": True}),
        ("issuers", {"audience": ["accounts", "account-api"]}),
    ],
)
def test_an_ordinary_configuration_has_no_warnings(table: str, options: dict[str, Any], tmp_path: Path) -> None:
    lines = warnings_of(tmp_path, changed(table, **options))
    assert [line for line in lines if "no route accepts" not in line] == []
