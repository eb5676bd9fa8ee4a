"""What a server says of a token: who that is, and everything that is not believed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import INVALID_TOKEN, GatewayError, Reason, Reasons
from gateway.features.introspection.answer import judge
from gateway.features.introspection.choice import introspection_policy
from gateway.features.introspection.reasons import INACTIVE_TOKEN
from gateway.identity import Identity
from gateway.jwt.claims.issuer_policy import IssuerPolicy
from gateway.jwt.jose.strict_json import parse_object
from gateway.settings.tables.upstreams import UpstreamSettings
from tests.support.composed import Issuer, Route, Settings
from tests.support.issuers.introspection import ISSUER, json_answer, said

NOW = 1_800_000_000.0


def policy(**options: Any) -> IssuerPolicy:
    issuer = Issuer(name="as", issuer=[ISSUER, "https://as.test/2"], **{"audience": ["api"]} | options)
    settings = Settings(
        issuers=[issuer],
        upstreams=[UpstreamSettings(name="u", urls=["http://127.0.0.1:1"])],
        routes=[Route(path="/", upstream="u", claims={"role": "x"})],
    )
    return introspection_policy(issuer, settings)


def judged(answer: dict[str, Any], **options: Any) -> Identity:
    return judge(answer, policy(**options), ISSUER, NOW)


def reason(answer: dict[str, Any], **options: Any) -> Reason:
    with pytest.raises(GatewayError) as caught:
        judged(answer, **options)
    return caught.value.reason


@pytest.mark.rule("R121")
def test_answer_becomes_an_identity() -> None:
    """As a JWT with the same claims does."""
    found = judged(said(NOW, jti="7", sid="s", role=["x"], nbf=NOW - 1))
    assert (found.issuer_name, found.issuer, found.subject, found.scopes) == ("as", ISSUER, "alice", ("read", "write"))
    assert (found.credential, found.token_id, found.session_id) == ("opaque", "7", "s")
    assert (found.expires_at, found.not_before, found.issued_at) == (NOW + 600, NOW - 1, NOW)
    assert dict(found.claims) == {"role": ("x",)}


@pytest.mark.rule("R121")
def test_answer_without_an_issuer_is_of_the_one_that_was_asked() -> None:
    """``iss`` is optional there (RFC 7662 section 2.2), and must fit when it is there."""
    assert judged(said(NOW, iss=None)).issuer == ISSUER
    assert judged(said(NOW, iss="https://as.test/2")).issuer == "https://as.test/2"
    assert reason(said(NOW, iss="https://as.test")) is Reasons.UNKNOWN_ISSUER
    assert reason({**said(NOW), "iss": None}) is Reasons.UNKNOWN_ISSUER


@pytest.mark.parametrize("active", ["true", "false", "", 1, 0, 1.0, None, [True], {"a": True}, False])
@pytest.mark.rule("R120")
def test_only_true_is_active(active: Any) -> None:
    assert reason({**said(NOW), "active": active}) is INACTIVE_TOKEN


@pytest.mark.rule("R120")
def test_absent_is_not_active() -> None:
    assert reason(said(NOW, active=None)) is INACTIVE_TOKEN


@pytest.mark.rule("R121")
def test_absent_audience_is_refused_unless_the_configuration_says_otherwise() -> None:
    """And one that is there counts all the same."""
    assert reason(said(NOW, aud=None)) is Reasons.MISSING_CLAIM
    assert judged(said(NOW, aud=None), introspection_require_audience=False).subject == "alice"
    assert reason(said(NOW, aud="other"), introspection_require_audience=False) is Reasons.WRONG_AUDIENCE
    assert reason(said(NOW, aud=[]), introspection_require_audience=False) is Reasons.WRONG_AUDIENCE
    assert judged(said(NOW, aud=None), audience_claim="client_id", audience=["app"]).subject == "alice"


@pytest.mark.parametrize("kind", ["Bearer", "bearer", "access_token", "urn:ietf:params:oauth:token-type:access_token"])
def test_kinds_of_access_tokens(kind: str) -> None:
    assert judged(said(NOW, token_type=kind)).subject == "alice"
    assert judged(said(NOW, token_type=None, typ="Bearer", token_use="access")).subject == "alice"


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"token_type": "N_A"}, Reasons.TYPE_REFUSED),
        ({"token_type": "refresh_token"}, Reasons.TYPE_REFUSED),
        ({"token_type": ["Bearer"]}, Reasons.BAD_CLAIM_TYPE),
        ({"typ": "Refresh"}, Reasons.TYPE_REFUSED),
        ({"typ": "Offline"}, Reasons.TYPE_REFUSED),
        ({"typ": "ID"}, Reasons.TYPE_REFUSED),
        ({"token_use": "id"}, Reasons.TYPE_REFUSED),
        ({"token_type": "DPoP"}, Reasons.SENDER_CONSTRAINED),
    ],
)
@pytest.mark.rule("R048", "R121")
def test_other_kinds_of_tokens(members: dict[str, Any], expected: Reason) -> None:
    """Some servers call a refresh token active, too."""
    assert reason(said(NOW, **members)) is expected


def test_kind_that_the_configuration_demands_is_no_other_kind() -> None:
    assert judged(said(NOW, token_use="id"), claims={"token_use": "id"}).subject == "alice"


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = st.sampled_from(
    [
        "active",
        "iss",
        "sub",
        "aud",
        "exp",
        "nbf",
        "iat",
        "scope",
        "token_type",
        "typ",
        "client_id",
        "jti",
        "cnf",
        "role",
    ]
)


@given(st.dictionaries(MEMBERS, ANY, max_size=4))
@pytest.mark.rule("R126", "C95")
def test_any_answer_is_an_identity_or_a_refusal(members: dict[str, Any]) -> None:
    """Whatever JSON holds, and never anything else; who passes was called active, and is for this API."""
    answer = {**said(NOW), **members}
    found, kind = None, None
    try:
        found = judged(answer)
    except GatewayError as error:
        kind = error.reason.kind
    if found is None:
        assert kind is INVALID_TOKEN
        return
    assert answer["active"] is True
    assert found.issuer in (ISSUER, "https://as.test/2")
    assert found.subject is None or isinstance(found.subject, str)
    assert answer["aud"] == "api" or "api" in answer["aud"]
    assert answer["exp"] + 30 > NOW


@given(st.dictionaries(MEMBERS, ANY, max_size=4))
@pytest.mark.rule("R126")
def test_answers_are_read_as_they_were_written(members: dict[str, Any]) -> None:
    """The strict reader gives back what any server's JSON says."""
    assert parse_object(json_answer(members).body) == members
