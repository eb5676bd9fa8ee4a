"""gateway/tokens/model.py: settings compiled to a policy."""

from __future__ import annotations

import pytest

from gateway.identity import HeaderRule
from gateway.settings import schema
from tests.support.verifying import make_policy


def test_every_option_of_the_issuer_arrives() -> None:
    """R001, R084, R087, R090."""
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
        tokens=schema.Tokens(scope_claims=["roles"]),
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
def test_either_name_of_ed25519_stands_for_both(name: str) -> None:
    """R020, C24."""
    assert make_policy({"algorithms": [name, "RS256"]}).algorithms == {"EdDSA", "Ed25519", "RS256"}


def test_kept_claims_are_those_of_all_routes() -> None:
    """R187, R191."""
    routes = [
        schema.Route(path="/a", upstream="orders", claims={"role": "x"}),
        schema.Route(path="/b", upstream="orders", claims={"role": "y", "https://x/groups": ["z"]}),
    ]
    assert make_policy(routes=routes).kept_claims == {"role", "https://x/groups"}
    assert make_policy().kept_claims == frozenset()
