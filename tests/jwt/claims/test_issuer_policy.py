"""gateway/jwt/claims/issuer_policy.py: settings compiled to a policy."""

from __future__ import annotations

import pytest

from gateway.identity import HeaderRule
from gateway.jwt.claims.issuer_policy import compile_policy, tenant_policy
from tests.support.composed import Route, Tokens
from tests.support.tokens.minting import SigningKey
from tests.support.tokens.verifying import keys_of, make_policy, make_settings


@pytest.mark.rule("R001", "R084", "R087", "R090")
def test_every_option_of_the_issuer_arrives() -> None:
    policy = make_policy(
        {
            "name": "second",
            "issuer": ["https://a.test", "https://b.test"],
            "audience": ["x", "y"],
            "audience_claim": "client_id",
            "algorithms": ["PS512"],
            "token_type": "at+jwt",
            "required_claims": ["exp"],
            "claims": {"token_use": "access", "n": 1},
            "leeway_seconds": 5,
            "max_lifetime_seconds": 60,
        },
        tokens=Tokens(scope_claims=["roles"]),
        identity={"x-user": "sub", "x-roles": ["realm_access", "roles"]},
    )
    assert policy.name == "second"
    assert policy.issuers == {"https://a.test", "https://b.test"}
    assert policy.audience == {"x", "y"}
    assert policy.audience_claim == "client_id"
    assert policy.algorithms == {"PS512"}
    assert policy.access_token_type
    assert policy.required_claims == ("exp",)
    assert policy.exact_claims == (("token_use", "access"), ("n", 1))
    assert (policy.leeway, policy.max_lifetime) == (5, 60)
    assert policy.scope_claims == ("roles",)
    assert policy.header_rules == (HeaderRule(b"x-user", ("sub",)), HeaderRule(b"x-roles", ("realm_access", "roles")))


@pytest.mark.parametrize("name", ["EdDSA", "Ed25519"])
@pytest.mark.rule("R020", "C24")
def test_either_name_of_ed25519_stands_for_both(name: str) -> None:
    assert make_policy({"algorithms": [name, "RS256"]}).algorithms == {"EdDSA", "Ed25519", "RS256"}


@pytest.mark.rule("R187", "R191")
def test_kept_claims_are_those_of_all_routes() -> None:
    routes = [
        Route(path="/a", upstream="orders", claims={"role": "x"}),
        Route(path="/b", upstream="orders", claims={"role": "y", "https://x/groups": ["z"]}),
    ]
    assert make_policy(routes=routes).kept_claims == {"role", "https://x/groups"}
    assert make_policy().kept_claims == frozenset()


def test_policy_of_a_tenant_is_its_template_filled() -> None:
    """RFC 8725 section 3.8: nothing of another tenant is left in it."""
    options = {"issuer": ["https://a.test/{tenantid}/v2", "https://b.test/{tenantid}/"], "tenants": ["t"]}
    settings = make_settings({**options, "claims": {"use": "api"}})
    common = compile_policy(settings.issuers[0], settings)
    policy = tenant_policy(common, settings.issuers[0], "t")
    assert common.tenant is None
    assert policy.tenant == "t"
    assert policy.issuers == {"https://a.test/t/v2", "https://b.test/t/"}
    assert policy.exact_claims == (("tid", "t"), ("use", "api"))
    assert policy.name == common.name


@pytest.mark.parametrize(
    ("named", "may"),
    [
        (None, True),
        ("https://a.test/{tenantid}/v2", True),
        ("https://a.test/t/v2", True),
        ("https://b.test/{tenantid}/", True),
        ("https://a.test/u/v2", False),
        ("https://c.test/{tenantid}/v2", False),
        ("{tenantid}", False),
        ("", False),
    ],
)
@pytest.mark.rule("C88")
def test_key_of_a_shared_set_may_sign_for_whom_it_names(named: str | None, *, may: bool) -> None:
    """ "Validate the signing key issuer"."""
    options = {"issuer": ["https://a.test/{tenantid}/v2", "https://b.test/{tenantid}/"], "tenants": ["t", "u"]}
    settings = make_settings(options)
    policy = tenant_policy(compile_policy(settings.issuers[0], settings), settings.issuers[0], "t")
    [key] = keys_of(SigningKey.ec("k").public_jwk(**({} if named is None else {"issuer": named}))).keys
    assert policy.may_use(key) is may
