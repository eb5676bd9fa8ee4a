"""Identity against route: what passes, and with which reason the rest is refused."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import INSUFFICIENT_SCOPE, INVALID_TOKEN, GatewayError, Reasons
from gateway.identity import Confirmation, Identity, freeze
from gateway.policy.authorize import authorize
from gateway.policy.routes import Route, RouteTable
from tests.support.composed import Route as RouteSettings


def compiled(**options: Any) -> Route:
    settings = RouteSettings.model_validate({"path": "/", "upstream": "u", **options})
    return RouteTable([settings]).routes[0]


def caller(*scopes: str, issuer: str = "main", **claims: Any) -> Identity:
    return Identity(
        issuer_name=issuer,
        issuer="https://idp.test/",
        subject="alice",
        scopes=scopes,
        claims=freeze(claims),
        lines=b"",
        expires_at=2.0,
        not_before=0.0,
        token_id=None,
    )


def refusal(route: Route, identity: Identity) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        authorize(route, identity)
    return caught.value


@pytest.mark.rule("R187")
def test_route_without_rules_takes_any_identity() -> None:
    """The token was verified; the route asks nothing more."""
    authorize(compiled(), caller())


@pytest.mark.rule("R028", "C75")
def test_issuer_of_another_route_is_an_invalid_token() -> None:
    """The token is good, but not here."""
    route = compiled(issuers=["main", "second"])
    authorize(route, caller(issuer="second"))
    error = refusal(route, caller(issuer="third"))
    assert error.reason is Reasons.ISSUER_NOT_ACCEPTED
    assert error.reason.kind is INVALID_TOKEN


@pytest.mark.rule("R187")
def test_api_key_has_no_issuer_that_could_be_the_wrong_one() -> None:
    """The route said by its credentials that it takes keys; scopes and claims are asked for as ever."""
    route = compiled(issuers=["main"], credentials=["jwt", "api_key"], scopes=["a"], claims={"role": "x"})
    key = caller("a", issuer="", role="x")._replace(credential="api_key", has_issuer=False)
    authorize(route, key)
    token = key._replace(issuer_name="other", credential="jwt", has_issuer=True)
    assert refusal(route, token).reason is Reasons.ISSUER_NOT_ACCEPTED
    assert refusal(compiled(issuers=["main"]), key).reason is Reasons.CREDENTIAL_NOT_ACCEPTED
    assert refusal(route, key._replace(scopes=())).reason is Reasons.MISSING_SCOPE
    assert refusal(route, key._replace(claims={})).reason is Reasons.CLAIM_NOT_ACCEPTED


@pytest.mark.rule("C97", "R091")
def test_all_scopes_are_needed() -> None:
    """And the answer names them all, in the order of the configuration."""
    route = compiled(scopes=["orders:read", "admin"])
    authorize(route, caller("x", "admin", "orders:read"))
    for scopes in ((), ("orders:read",), ("admin",), ("orders:read admin",), ("ORDERS:READ", "ADMIN"), ("",)):
        error = refusal(route, caller(*scopes))
        assert error.reason is Reasons.MISSING_SCOPE
        assert error.reason.kind is INSUFFICIENT_SCOPE
        assert error.scope == "orders:read admin"


@pytest.mark.parametrize("scope", ["readonly", "rea", "READ", "read ", "read write", "unread", "read\n"])
@pytest.mark.rule("C97", "R091", "R092")
def test_scope_is_compared_whole(scope: str) -> None:
    """No part of a scope and no other letter case; a list element with a space is one scope."""
    assert refusal(compiled(scopes=["read"]), caller(scope)).reason is Reasons.MISSING_SCOPE
    assert refusal(compiled(any_scopes=["read"]), caller(scope)).reason is Reasons.MISSING_SCOPE


@pytest.mark.rule("R091")
def test_one_of_any_scopes_is_enough() -> None:
    route = compiled(any_scopes=["a", "b"])
    authorize(route, caller("b"))
    assert refusal(route, caller("c")).scope == "a b"


def test_challenge_names_what_would_do() -> None:
    """RFC 6750 section 3.1: a token is asked for as a whole, so what it has already is named too."""
    route = compiled(scopes=["base"], any_scopes=["a", "b"])
    authorize(route, caller("base", "a"))
    assert refusal(route, caller("base")).scope == "base a b"
    assert refusal(route, caller("a")).scope == "base"
    assert refusal(route, caller()).scope == "base a b"


@pytest.mark.parametrize(
    ("accepted", "value", "passes"),
    [
        pytest.param("admin", "admin", True, id="text"),
        pytest.param(["merchant", "admin"], "admin", True, id="one of several"),
        pytest.param("admin", ["user", "admin"], True, id="any element of a list"),
        pytest.param("admin", "administrator", False, id="never a part"),
        pytest.param("admin", "user admin", False, id="never split"),
        pytest.param("admin", "user,admin", False, id="never split at commas"),
        pytest.param("admin", "Admin", False, id="letter case counts"),
        pytest.param("admin", ["administrator"], False, id="never a part of an element"),
        pytest.param("admin", [["admin"]], False, id="no list in a list"),
        pytest.param("admin", {"admin": True}, False, id="no object"),
        pytest.param("admin", [{"admin": "admin"}], False, id="no object in a list"),
        pytest.param("admin", [], False, id="empty list"),
        pytest.param("admin", None, False, id="null"),
        pytest.param("admin", True, False, id="true is no text"),
        pytest.param(True, True, True, id="true"),
        pytest.param(True, False, False, id="false"),
        pytest.param(False, None, False, id="absent is not false"),
        pytest.param(False, 0, False, id="zero is not false"),
        pytest.param(True, 1, False, id="one is not true"),
        pytest.param(True, "true", False, id="text is not true"),
        pytest.param(1, True, False, id="true is not one"),
        pytest.param(1, [True], False, id="true in a list is not one"),
        pytest.param(1, "1", False, id="text is not one"),
        pytest.param("1", 1, False, id="one is no text"),
        pytest.param(1, 1, True, id="number"),
        pytest.param(1, 1.0, True, id="one number, two spellings"),
        pytest.param(1.5, 1.5, True, id="fraction"),
        pytest.param(2**53, 2**53 + 1, False, id="large integers are exact"),
        pytest.param(["1", 2, True], [False, 2], True, id="mixed"),
    ],
)
@pytest.mark.rule("R092", "R352")
def test_claim_values_are_compared_by_type_and_whole(accepted: Any, value: Any, passes: bool) -> None:
    """A list claim needs one accepted element; nothing raises."""
    route = compiled(claims={"role": accepted})
    if passes:
        authorize(route, caller(role=value))
    else:
        error = refusal(route, caller(role=value))
        assert error.reason is Reasons.CLAIM_NOT_ACCEPTED
        assert error.reason.kind is INSUFFICIENT_SCOPE
        assert error.scope == ""


@pytest.mark.rule("R092", "R093")
def test_every_claim_rule_must_hold() -> None:
    """Names with dots and URLs are names; an absent claim fulfils nothing."""
    route = compiled(claims={"https://x/roles": ["a"], "realm.role": "b"})
    fulfilling: dict[str, Any] = {"https://x/roles": ["a", "c"], "realm.role": "b"}
    authorize(route, caller(**fulfilling))
    lacking: list[dict[str, Any]] = [
        {"https://x/roles": "a"},
        {"realm.role": "b"},
        {"https://x/roles": "a", "realm": {"role": "b"}},
    ]
    for claims in lacking:
        assert refusal(route, caller(**claims)).reason is Reasons.CLAIM_NOT_ACCEPTED


@pytest.mark.rule("C85")
def test_refusal_says_nothing_of_the_token() -> None:
    """The operator's hint names the configured claim, not its value."""
    error = refusal(compiled(claims={"role": "admin"}), caller(role="secret-value"))
    assert "secret-value" not in error.detail + error.scope + str(error)


@pytest.mark.rule("C75")
def test_issuer_is_looked_at_before_scopes_and_scopes_before_claims() -> None:
    """A foreign token is 401, whatever it lacks besides."""
    route = compiled(issuers=["main"], scopes=["a"], claims={"role": "admin"})
    assert refusal(route, caller(issuer="x")).reason is Reasons.ISSUER_NOT_ACCEPTED
    assert refusal(route, caller()).reason is Reasons.MISSING_SCOPE
    assert refusal(route, caller("a")).reason is Reasons.CLAIM_NOT_ACCEPTED


KEY, CERTIFICATE = Confirmation("k", None), Confirmation(None, "c")


@pytest.mark.parametrize(
    ("wanted", "passing"),
    [
        ("optional", [None, KEY, CERTIFICATE]),
        ("required", [KEY, CERTIFICATE]),
        ("dpop", [KEY]),
        ("mtls", [CERTIFICATE]),
    ],
)
@pytest.mark.rule("R096", "R133", "R139")
def test_a_route_says_which_tokens_it_takes(wanted: str, passing: list[Confirmation | None]) -> None:
    """One that is bound to both is bound to each."""
    route = compiled(sender_constrained=wanted)
    for bound in (None, KEY, CERTIFICATE):
        who = caller()._replace(confirmation=bound)
        if bound in passing:
            authorize(route, who)
        else:
            assert refusal(route, who).reason is Reasons.UNBOUND_TOKEN
    authorize(route, caller()._replace(confirmation=Confirmation("k", "c")))


def test_an_api_key_is_no_token_that_could_be_bound() -> None:
    route = compiled(sender_constrained="required", credentials=["jwt", "api_key"])
    authorize(route, caller(issuer="")._replace(credential="api_key", has_issuer=False))


@pytest.mark.parametrize("credential", ["jwt", "opaque", "api_key"])
def test_a_caller_whose_issuer_has_no_name_is_not_taken_for_one_without_issuer(credential: str) -> None:
    """Only the kind of credential says that there is none; forgetting a name opens nothing."""
    nameless = caller(issuer="")._replace(credential=credential)
    kinds = ["jwt", "opaque", "api_key"]
    assert refusal(compiled(issuers=["main"], credentials=kinds), nameless).reason is Reasons.ISSUER_NOT_ACCEPTED
    route = compiled(sender_constrained="required", credentials=kinds)
    assert refusal(route, nameless).reason is Reasons.UNBOUND_TOKEN
