"""Options that let more in than their author meant: each is named with its key, and sane ones are not."""

from __future__ import annotations

import copy
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.settings.configs import SMALL, changed, faults_of, warnings_of
from tests.support.tokens.api_keys import entry

OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"
PROXIES = {"server": {"trusted_proxies": ["0.0.0.0/0"]}}


def laid_over(text: str) -> dict[str, Any]:
    """Return the small configuration with the options of a TOML text: entry by entry, option by option."""
    made = copy.deepcopy(SMALL)
    for name, value in tomllib.loads(text).items():
        below = made.setdefault(name, [] if isinstance(value, list) else {})
        if isinstance(value, list):
            for number, options in enumerate(value):
                if number == len(below):
                    below.append(copy.deepcopy(SMALL.get(name, [{}])[0]))
                below[number].update(options)
        else:
            below.update(value)
    return made


def about(directory: Path, config: dict[str, Any], key: str) -> list[str]:
    """Return what is said of a key, the faults first."""
    lines = faults_of(directory, config)
    return [line for line in lines or warnings_of(directory, config) if line.startswith(f"{key}: ")]


def rows() -> list[Any]:
    """Return the table of docs/operations.md: the options as TOML, the key, and whether they are refused."""
    text = OPERATIONS.read_text(encoding="utf-8").partition("## Configurations that open something\n")[2]
    table = re.search(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE)
    assert table is not None
    found: list[Any] = []
    for line in table[0].splitlines()[2:]:
        options, key, verdict, opens, instead = (cell.strip() for cell in line.strip("|").split(" | "))
        toml = "\n".join(re.findall(r"`([^`]+)`", options.replace("\\|", "|")))
        found.append(pytest.param(toml, key.strip("`"), verdict, opens, instead, id=f"{len(found)} {key}"))
    return found


@pytest.mark.parametrize(("options", "key", "verdict", "opens", "instead"), rows())
@pytest.mark.rule("R403", "R407", "R408", "R436")
def test_each_line_of_the_table_is_what_check_says(
    options: str, key: str, verdict: str, opens: str, instead: str, tmp_path: Path
) -> None:
    config = laid_over(options)
    faults = faults_of(tmp_path, config)
    assert verdict in ("refused", "warning")
    assert (verdict == "refused") == bool(faults)
    found = [line for line in faults or warnings_of(tmp_path, config) if line.partition(": ")[0] == key]
    assert found, faults or warnings_of(tmp_path, config)
    assert opens
    assert instead


@pytest.mark.rule("R408")
def test_the_table_has_every_kind() -> None:
    """Those of the rule, and those that were found beside."""
    assert len(rows()) >= 30


MOST_ADDRESSES = [
    ["0.0.0.0/0"],
    ["::/0"],
    ["0.0.0.0/1", "128.0.0.0/1"],
    ["0.0.0.0/2", "64.0.0.0/2", "128.0.0.0/1"],
    ["::ffff:0:0/96"],
    ["128.0.0.0/1"],
    ["2000::/3"],
    ["2000::/4", "3000::/4"],
    ["10.0.0.0/8", "::/0"],
    ["::/1"],
    ["0.0.0.0/1"],
    ["::ffff:0.0.0.0/97", "::ffff:128.0.0.0/97"],
]


@pytest.mark.parametrize("networks", MOST_ADDRESSES)
@pytest.mark.rule("R408")
def test_most_addresses_are_found_in_whatever_pieces(networks: list[str], tmp_path: Path) -> None:
    key = "server.trusted_proxies"
    (line,) = about(tmp_path, changed("server", trusted_proxies=networks), key)
    assert "list the addresses of the proxies in front" in line
    assert about(tmp_path, changed("watch", exempt=networks), "watch.exempt")


@pytest.mark.parametrize(
    "networks",
    [[], ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fe80::/10"], ["8.0.0.0/5"], ["2001:db8::/32"]],
)
def test_other_networks_are_not_most_addresses(networks: list[str], tmp_path: Path) -> None:
    assert warnings_of(tmp_path, changed("server", trusted_proxies=networks)) == []


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"server": {**PROXIES["server"], "client_certificate_header": "client-cert"}}, "client_certificate_header"),
        ({"routes": [{**SMALL["routes"][0], "rate_limit": {"requests": 9, "by": "address"}}]}, "counts by address"),
        ({"watch": {"refuse_seconds": 60}}, "watch.refuse_seconds"),
    ],
)
@pytest.mark.rule("R408")
def test_most_addresses_are_refused_where_decisions_depend_on_the_address(
    more: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    """A client that names its own address has no limit, and one that names its own certificate has any."""
    (line,) = faults_of(tmp_path, {**copy.deepcopy(SMALL), **PROXIES, **more})
    assert line.startswith("server.trusted_proxies: covers most addresses")
    assert reason in line
    listed = {"server": {**more.get("server", {}), "trusted_proxies": ["10.0.0.0/8"]}}
    assert faults_of(tmp_path, {**copy.deepcopy(SMALL), **more, **listed}) == []


def test_limits_and_watches_that_do_not_go_by_address_are_no_fault(tmp_path: Path) -> None:
    config = {**changed("routes", rate_limit={"requests": 9}), **PROXIES, "watch": {"refuse_seconds": 0}}
    assert faults_of(tmp_path, config) == []
    off = dict.fromkeys(("bad_signatures", "unknown_kids", "unknown_api_keys"), 0)
    watch = {"refuse_seconds": 60, "subject_addresses": 2, **off}
    assert faults_of(tmp_path, {**copy.deepcopy(SMALL), **PROXIES, "watch": watch}) == []


PLACEHOLDERS = ["/orders/*", "/orders/{id}", "/{id}", "/orders/:id", "/a/[0-9]+", "/<id>", "/a|/b", "/^a"]
PLAIN = ["/", "/orders", "/v1/shop:checkout", "/$batch", "/Products(1)", "/@me", "/a~b", "/größe", "/a+b"]


@pytest.mark.parametrize("path", PLACEHOLDERS)
@pytest.mark.parametrize("match", ["prefix", "exact"])
@pytest.mark.rule("R408")
def test_a_placeholder_in_a_plain_path_is_named(path: str, match: str, tmp_path: Path) -> None:
    """The route protects nothing, and what is behind it takes the requests."""
    (line,) = warnings_of(tmp_path, changed("routes", path=path, match=match))
    assert line.startswith("routes[0].path: is compared as it is written")


@pytest.mark.parametrize("path", PLAIN)
def test_other_paths_are_plain(path: str, tmp_path: Path) -> None:
    assert warnings_of(tmp_path, changed("routes", path=path)) == []


@pytest.mark.parametrize("path", ["/(a+)+", "/(.*/)*x", "/.*a.*a.*b"])
@pytest.mark.rule("R408")
def test_a_slow_pattern_is_named(path: str, tmp_path: Path) -> None:
    """CWE-1333."""
    (line,) = warnings_of(tmp_path, changed("routes", path=path, match="regex"))
    assert line.startswith("routes[0].path: ")


PATHS: list[tuple[str, dict[str, Any], str]] = [
    ("routes", {"claims": {"realm_access.roles": "a"}}, 'routes[0].claims."realm_access.roles"'),
    ("routes", {"claims": {"roles.*": "a"}}, 'routes[0].claims."roles.*"'),
    ("routes", {"claims": {"roles*": "a"}}, 'routes[0].claims."roles*"'),
    ("routes", {"claims": {"/realm_access/roles": "a"}}, 'routes[0].claims."/realm_access/roles"'),
    ("routes", {"rate_limit": {"requests": 9, "by": "claim:org.id"}}, "routes[0].rate_limit[0].by"),
    ("issuers", {"claims": {"org.id": "a"}}, 'issuers[0].claims."org.id"'),
    ("issuers", {"required_claims": ["exp", "sub", "org.id"]}, "issuers[0].required_claims[2]"),
    ("issuers", {"audience_claim": "ext.aud"}, "issuers[0].audience_claim"),
    ("identity", {"x-user-id": "sub", "x-roles": "realm_access.roles"}, "identity.x-roles"),
]


@pytest.mark.parametrize(("table", "options", "key"), PATHS)
@pytest.mark.rule("R408")
def test_a_path_into_claims_that_is_written_as_a_name_is_named(
    table: str, options: dict[str, Any], key: str, tmp_path: Path
) -> None:
    """A claim within another is not found by a name with a dot."""
    lines = warnings_of(tmp_path, changed(table, **options))
    assert [line.partition(": ")[0] for line in lines] == [key]


@pytest.mark.parametrize(
    "name",
    [
        "https://a.test/roles",
        "http://schemas.xmlsoap.org/claims/role",
        "urn:example:1.2:role",
        "cognito:groups",
        "role",
    ],
)
@pytest.mark.rule("R408")
def test_collision_resistant_names_are_names(name: str, tmp_path: Path) -> None:
    """RFC 7519 section 4.2."""
    assert warnings_of(tmp_path, changed("routes", claims={name: "a"})) == []
    assert warnings_of(tmp_path, changed("identity", **{"x-user-id": "sub", "x-role": name})) == []


def test_nested_claims_as_lists_are_paths(tmp_path: Path) -> None:
    sources = {"x-user-id": "sub", "x-pod": ["kubernetes.io", "pod", "name"], "x-roles": ["realm_access", "roles"]}
    assert warnings_of(tmp_path, changed("identity", **sources)) == []


@pytest.mark.rule("R408")
def test_a_star_as_a_value_is_named(tmp_path: Path) -> None:
    """It is the text "*"."""
    (line,) = warnings_of(tmp_path, changed("routes", claims={"role": ["admin", "*"]}))
    assert line.startswith("routes[0].claims.role: is compared as it is written")
    (line,) = warnings_of(tmp_path, changed("issuers", claims={"role": "*"}))
    assert line.startswith("issuers[0].claims.role: is compared as it is written")


@pytest.mark.rule("R408")
def test_an_address_that_is_verified_may_be_a_rule(tmp_path: Path) -> None:
    """By the route, or by every issuer that it accepts."""
    email = {"claims": {"email": "a@b.test"}}
    assert warnings_of(tmp_path, changed("routes", **email))
    assert warnings_of(tmp_path, changed("routes", claims={"email": "a@b.test", "email_verified": True})) == []
    config = changed("routes", **email)
    config["issuers"][0]["claims"] = {"email_verified": True}
    assert warnings_of(tmp_path, config) == []
    config["issuers"].append({"name": "other", "issuer": "https://b.test", "audience": ["b"]})
    assert warnings_of(tmp_path, config)
    config["routes"][0]["issuers"] = ["main"]
    assert [line for line in warnings_of(tmp_path, config) if "claims" in line] == []


def test_headers_that_name_users_are_named_by_name_only(tmp_path: Path) -> None:
    assert warnings_of(tmp_path, changed("identity", **{"x-user-id": "sub", "x-user-email": "email"})) == []
    for header in ("x-user-id", "X_User_Id", "remote-user"):
        (line,) = warnings_of(tmp_path, changed("identity", **{header: "email"}))
        assert "can be changed by the user" in line


BOUND = {"sender_constrained": "dpop"}


@pytest.mark.parametrize(
    ("route", "dpop", "warns"),
    [
        (BOUND, {}, True),
        ({"sender_constrained": "required"}, {}, True),
        ({}, {"nonce_seconds": 60}, True),
        (BOUND, {"origins": ["https://api.test"]}, False),
        ({**BOUND, "hosts": ["api.test"]}, {}, False),
        ({"sender_constrained": "mtls"}, {}, False),
        ({}, {}, False),
        ({"hosts": ["api.test"]}, {"nonce_seconds": 60}, False),
    ],
)
@pytest.mark.rule("R407")
def test_proofs_that_are_bound_to_no_server_are_named(
    route: dict[str, Any], dpop: dict[str, Any], warns: bool, tmp_path: Path
) -> None:
    """RFC 9449 section 11.1."""
    config = {**changed("routes", **route), "dpop": dpop}
    assert bool(about(tmp_path, config, "dpop.origins")) == warns


REDIS = {"redis": {"url": "redis://127.0.0.1/0"}}


@pytest.mark.parametrize(
    ("more", "warns"),
    [
        ({}, True),
        ({"revocation": {"redis": True}}, False),
        ({"revocation": {"redis": False}}, False),
        ({"routes": [{**SMALL["routes"][0], "revocation_failure": "open"}]}, False),
        ({"routes": [{**SMALL["routes"][0], "revocation_failure": "closed"}]}, False),
        ({"routes": [{**SMALL["routes"][0], "auth": "public"}]}, False),
    ],
)
@pytest.mark.rule("R408")
def test_a_redis_that_every_credential_depends_on_is_named_unless_that_is_written(
    more: dict[str, Any], warns: bool, tmp_path: Path
) -> None:
    """It may have been meant for rate limits only."""
    assert bool(about(tmp_path, {**copy.deepcopy(SMALL), **REDIS, **more}, "redis.url")) == warns


def test_an_issuers_own_audience_is_named(tmp_path: Path) -> None:
    (line,) = warnings_of(tmp_path, changed("issuers", audience=["api", "https://idp.test/"]))
    assert line.startswith("issuers[0].audience: has the issuer's own name")


def test_no_sentence_quotes_what_is_not_a_name(tmp_path: Path) -> None:
    """A secret at the wrong place must not come out of `check`."""
    secret = "s3cret.value*"
    config = changed("routes", path=f"/{secret}", claims={"role": secret, secret: "a"}, credentials=["jwt", "api_key"])
    lines = warnings_of(tmp_path, {**config, "api_keys": [entry()]})
    assert len(lines) >= 2
    assert not [line for line in lines if secret in line.replace(f'claims."{secret}"', "")]


@pytest.mark.parametrize("host", ["localhost:3000", "app.localhost", "127.0.0.2", "[::1]:3000"])
@pytest.mark.rule("R408")
def test_pages_of_this_machine_may_have_credentials_over_http(host: str, tmp_path: Path) -> None:
    """An attacker on the network does not change them."""
    config = changed("routes", cors_origins=[f"http://{host}"], cors_credentials=True)
    assert about(tmp_path, config, "routes[0].cors_origins") == []
