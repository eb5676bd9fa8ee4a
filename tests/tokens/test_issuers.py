"""From ``iss`` to one issuer's rules and keys: never to somebody else's."""

from __future__ import annotations

import pytest

from gateway.clock import SystemClock
from gateway.errors import GatewayError, Reason
from gateway.tokens.issuers import Issuers, build_issuers, cannot_decide
from gateway.tokens.model import Unverified
from tests.support.idp import gateway_settings, issuer_settings

ONE, OTHER = "https://one.test/", "https://other.test"


def issuers() -> Issuers:
    settings = gateway_settings(
        issuer_settings(name="one", issuer=[ONE, "https://alias.test"]), issuer_settings(name="other", issuer=OTHER)
    )
    return Issuers(settings, build_issuers(settings, SystemClock()))


def token(issuer: str | None) -> Unverified:
    return Unverified("RS256", None, None, {}, issuer, b"", b"")


@pytest.mark.parametrize(
    ("value", "name"), [(ONE, "one"), ("https://alias.test", "one"), (OTHER, "other")], ids=["first", "second", "other"]
)
def test_each_value_leads_to_its_own_rules_and_keys(value: str, name: str) -> None:
    """RFC 8725 section 3.8."""
    policy, keys = issuers().of(token(value))
    assert (policy.name, keys.name) == (name, name)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "iss is none, configured is 'https://alias.test', 'https://one.test/', 'https://other.test'"),
        ("https://one.test", "iss is 'https://one.test', configured is 'https://one.test/'"),
        ("https://OTHER.test/", "iss is 'https://OTHER.test/', configured is 'https://other.test'"),
        ("x\n", "iss is 'x\\n', configured is 'https://alias.test', 'https://one.test/', 'https://other.test'"),
    ],
    ids=["none", "slash", "case", "foreign"],
)
def test_near_miss_is_shown_and_not_accepted(value: str | None, shown: str) -> None:
    with pytest.raises(GatewayError) as caught:
        issuers().of(token(value))
    assert (caught.value.reason, caught.value.detail) == (Reason.UNKNOWN_ISSUER, shown)


def test_issuer_without_keys_cannot_be_decided_about() -> None:
    """R113: 503 with Retry-After, never 401."""
    _, keys = issuers().of(token(ONE))
    error = cannot_decide(keys)
    assert (error.reason, error.reason.kind.status, error.detail) == (Reason.NO_KEYS, 503, "issuer one")
    assert error.retry_after
