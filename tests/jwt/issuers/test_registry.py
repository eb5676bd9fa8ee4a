"""From ``iss`` to one issuer's rules and keys: never to another issuer's."""

from __future__ import annotations

import pytest

from gateway.clock import SystemClock
from gateway.errors import GatewayError, Reasons
from gateway.jwt.issuers.registry import Issuers, build_issuers, build_tenants, cannot_decide
from gateway.jwt.jose.compact import Unverified
from gateway.settings.tables import tenants
from tests.support.issuers.identity_provider import gateway_settings, issuer_settings

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
    assert keys is not None
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
    assert (caught.value.reason, caught.value.detail) == (Reasons.UNKNOWN_ISSUER, shown)


@pytest.mark.rule("R113")
def test_issuer_without_keys_cannot_be_decided_about() -> None:
    """503 with Retry-After, never 401."""
    _, keys = issuers().of(token(ONE))
    assert keys is not None
    error = cannot_decide(keys)
    assert (error.reason, error.reason.kind.status, error.detail) == (Reasons.NO_KEYS, 503, "issuer one")
    assert error.retry_after


REALMS = "https://idp.test/realms/{tenant}"


def families() -> Issuers:
    """An exact issuer inside the space of a pattern, two listed tenants, and a template of one set of keys."""
    settings = gateway_settings(
        issuer_settings(name="exact", issuer="https://idp.test/realms/master"),
        issuer_settings(name="listed", issuer=REALMS, tenants=["acme", "other"], claims={"use": "api"}),
        issuer_settings(name="pattern", issuer=REALMS, tenant_pattern="[a-z]+"),
        issuer_settings(
            name="shared",
            issuer=["https://login.test/{tenantid}/v2.0", "https://sts.test/{tenantid}/"],
            tenant_pattern="[0-9]+",
            jwks_url="https://login.test/common/keys",
        ),
    )
    clock = SystemClock()
    return Issuers(settings, {**build_issuers(settings, clock), **build_tenants(settings, clock)})


@pytest.mark.parametrize(
    ("value", "name", "tenant"),
    [
        ("https://idp.test/realms/master", "exact", None),
        ("https://idp.test/realms/acme", "listed", "acme"),
        ("https://idp.test/realms/any", "pattern", "any"),
        ("https://login.test/42/v2.0", "shared", "42"),
        ("https://sts.test/42/", "shared", "42"),
    ],
)
def test_exact_values_come_before_listed_tenants_and_these_before_patterns(
    value: str, name: str, tenant: str | None
) -> None:
    """RFC 8725 section 3.8: one ``iss``, one issuer, whatever the order of the configuration."""
    known = families()
    policy, keys = known.of(token(value))
    assert (policy.name, policy.tenant) == (name, tenant)
    assert value in policy.issuers
    assert (keys is None) is (name in ("listed", "pattern")), "keys of its own begin later"
    assert known.of(token(value))[0] is policy


@pytest.mark.parametrize(
    "value",
    ["https://idp.test/realms/", "https://idp.test/realms/A", "https://login.test/x/v2.0", "https://sts.test/4"],
)
@pytest.mark.rule("R085")
def test_what_fits_no_template_is_unknown(value: str) -> None:
    """With the templates in the detail, for the operator."""
    with pytest.raises(GatewayError) as caught:
        families().of(token(value))
    assert caught.value.reason is Reasons.UNKNOWN_ISSUER
    assert "configured is 'https://idp.test/realms/master', 'https://idp.test/realms/{tenant}'" in caught.value.detail


def test_rules_of_a_tenant_are_those_of_its_template_and_the_claim_that_names_it() -> None:
    policy, _ = families().of(token("https://idp.test/realms/acme"))
    assert policy.exact_claims == (("use", "api"),)
    assert policy.issuers == {"https://idp.test/realms/acme"}
    policy, _ = families().of(token("https://sts.test/42/"))
    assert policy.exact_claims == (("tid", "42"),)
    assert policy.issuers == {"https://login.test/42/v2.0", "https://sts.test/42/"}


def test_tables_are_for_templates_with_keys_of_their_own_and_all_else_is_an_issuer() -> None:
    settings = gateway_settings(
        issuer_settings(name="plain"), issuer_settings(name="own", issuer=REALMS, tenants=["acme"])
    )
    assert list(build_issuers(settings, SystemClock())) == ["plain"]
    assert list(build_tenants(settings, SystemClock())) == ["own"]
    assert [tenants.has_own_keys(issuer) for issuer in settings.issuers] == [False, True]


def test_verified_token_of_an_issuer_without_tenants_is_no_tenants_matter() -> None:
    known = families()
    for value in ("https://idp.test/realms/master", "https://sts.test/42/"):
        known.verified(known.of(token(value))[0])
