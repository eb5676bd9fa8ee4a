"""What refusals say that a caller needs: challenges by route, in the grammar of RFC 9110 and RFC 6750."""

from __future__ import annotations

import json
import re

import pytest

from gateway.errors import Challenge, GatewayError, Reason, Reasons
from gateway.features.api_keys.reasons import NO_API_KEYS, UNKNOWN_API_KEY
from gateway.features.resource_metadata.options import document_url, resource_identifier
from gateway.features.sender_constrained.reasons import PROOF_NONCE
from gateway.server.request.challenges import ANY_ROUTE, OtherKind, RouteChallenges
from gateway.server.request.error_answers import answer
from gateway.settings.tables.tokens import Tokens
from tests.server.request.test_error_answers import REASONS, TOKENS, fields

# RFC 9110 sections 5.6.2, 5.6.4, 11.2; RFC 6750 section 3: what may stand in these quoted strings needs no escape.
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PARAMETER = re.compile(rf'({_TOKEN})="([\x20-\x21\x23-\x5b\x5d-\x7e]*)"')
_CHALLENGE = re.compile(rf"Bearer {_PARAMETER.pattern}(?:, {_PARAMETER.pattern})*")

#: What a realm and a scope may hold at most (``values.quoted_text``, ``values.scope``).
ODD_REALM = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) not in '"\\')
ODD_IDENTIFIER = resource_identifier("https://A.test:8443/a%22%20b/!$&'()*+,=:@-._~")
ODD_SCOPE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"\\')


def parameters(value: bytes) -> dict[str, str]:
    """Read a challenge strictly; each parameter at most once (RFC 9110 section 11.2)."""
    text = value.decode("ascii")
    assert _CHALLENGE.fullmatch(text), text
    pairs = _PARAMETER.findall(text)
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


@REASONS
@pytest.mark.rule("R108", "R109", "R110")
def test_challenge_follows_the_grammar(reason: Reason) -> None:
    """Bare without a credential, else error and error_description; scope only where it is wanted."""
    value = fields(answer(GatewayError(reason), TOKENS, "r")).get(b"www-authenticate")
    if reason.kind.challenge is Challenge.NONE:
        assert value is None
        return
    assert value is not None
    expected = {"realm": "gateway"}
    if reason.kind.challenge is Challenge.ERROR:
        expected |= {"error": reason.kind.error, "error_description": reason.text}
    assert parameters(value) == expected
    assert reason.kind.error in {
        *("missing_token", "invalid_token", "invalid_request", "insufficient_scope"),
        *("invalid_dpop_proof", "use_dpop_nonce"),
    }


@pytest.mark.rule("R110")
def test_realm_and_scope_may_hold_every_character_that_the_configuration_admits() -> None:
    """Settings checks and challenge grammar agree on every one."""
    scope = f"{ODD_SCOPE} orders:read"
    tokens = Tokens(realm=ODD_REALM)
    reply = answer(GatewayError(Reasons.MISSING_SCOPE, scope=scope), tokens, "r")
    value = fields(reply)[b"www-authenticate"]
    assert parameters(value)["realm"] == ODD_REALM
    assert parameters(value)["scope"] == scope
    (bare,) = ANY_ROUTE.fields(GatewayError(Reasons.NO_CREDENTIAL), "")
    assert parameters(bare) == {"realm": ""}


KEYS = OtherKind("an API key", "ApiKey")
CREDENTIALS = [
    pytest.param(RouteChallenges(), [b'Bearer realm="gateway"'], "A bearer token is required.", id="tokens"),
    pytest.param(
        RouteChallenges(bearer=False, others=(KEYS,)), [b'ApiKey realm="gateway"'], "An API key is required.", id="keys"
    ),
    pytest.param(
        RouteChallenges(others=(KEYS,)),
        [b'Bearer realm="gateway"', b'ApiKey realm="gateway"'],
        "A bearer token or an API key is required.",
        id="either",
    ),
]


@pytest.mark.parametrize(("challenges", "wanted", "text"), CREDENTIALS)
@pytest.mark.rule("R108")
def test_challenges_are_those_of_the_credentials_that_the_route_takes(
    challenges: RouteChallenges, wanted: list[bytes], text: str
) -> None:
    """RFC 9110 section 11.6.1: one for each kind; what is wrong with a key is in the body only."""
    for reason in (Reasons.NO_CREDENTIAL, UNKNOWN_API_KEY, Reasons.MISSING_SCOPE, Reasons.SEVERAL_CREDENTIALS):
        reply = answer(GatewayError(reason, scope="a b"), TOKENS, "r", challenges)
        found = [value for name, value in reply.headers if name == b"WWW-Authenticate"]
        assert [value.partition(b", ")[0] for value in found] == wanted
        assert [value for value in found if value.startswith(b"ApiKey")] == wanted[challenges.bearer :]
        described = json.loads(reply.body)["error_description"]
        assert described == (text if reason is Reasons.NO_CREDENTIAL else reason.text)


@pytest.mark.rule("R113")
def test_answers_without_a_challenge_have_none_for_keys_either() -> None:
    reply = answer(GatewayError(NO_API_KEYS), TOKENS, "r", RouteChallenges(others=(KEYS,)))
    assert not [name for name, _ in reply.headers if name == b"WWW-Authenticate"]


def test_scope_is_not_told_with_a_bare_challenge() -> None:
    """RFC 6750 section 3.1: no error information for a request without a credential."""
    (bare,) = ANY_ROUTE.fields(GatewayError(Reasons.NO_CREDENTIAL, scope="a b"), "gateway")
    assert parameters(bare) == {"realm": "gateway"}


@REASONS
@pytest.mark.rule("R110", "R115")
def test_challenges_of_a_resource_lead_to_its_document(reason: Reason) -> None:
    """One more parameter, also of a bare challenge (RFC 9728 section 5.1); no challenge, no parameter."""
    url = document_url(ODD_IDENTIFIER)
    error = GatewayError(reason, scope="a b")
    leading = RouteChallenges(parameters={"": f'resource_metadata="{url}"'})
    value = fields(answer(error, TOKENS, "r", leading)).get(b"www-authenticate")
    without = fields(answer(error, TOKENS, "r")).get(b"www-authenticate")
    if value is None or without is None:
        assert value is without is None
        assert reason.kind.challenge is Challenge.NONE
        return
    assert parameters(value) == {**parameters(without), "resource_metadata": url}


DPOP, BEARER = b'DPoP realm="gateway", algs="ES256 EdDSA"', b'Bearer realm="gateway"'


@pytest.mark.parametrize(
    ("schemes", "about", "reason", "starts"),
    [
        (("DPoP",), "", Reasons.NO_CREDENTIAL, [DPOP]),
        (("DPoP", "Bearer"), "", Reasons.NO_CREDENTIAL, [DPOP, BEARER]),
        (("DPoP", "Bearer"), "", PROOF_NONCE, [DPOP + b', error="use_dpop_nonce", error_description="', BEARER]),
        (("Bearer", "DPoP"), "", Reasons.EXPIRED, [BEARER + b', error="invalid_token", error_description="', DPOP]),
        (("Bearer", "DPoP"), "DPoP", PROOF_NONCE, [DPOP + b', error="use_dpop_nonce", error_description="', BEARER]),
        (
            ("DPoP", "Bearer"),
            "Bearer",
            Reasons.EXPIRED,
            [BEARER + b', error="invalid_token", error_description="', DPOP],
        ),
    ],
)
@pytest.mark.rule("R133", "R138")
def test_each_scheme_has_its_challenge_and_the_one_in_use_the_error(
    schemes: tuple[str, ...], about: str, reason: Reason, starts: list[bytes]
) -> None:
    """RFC 9449 section 7.1, RFC 9110 section 11.6.1."""
    parameters = {"": 'resource_metadata="https://a.test/m"', "DPoP": 'algs="ES256 EdDSA"'}
    reply = answer(
        GatewayError(reason, scheme=about), TOKENS, "r", RouteChallenges(schemes=schemes, parameters=parameters)
    )
    found = [value for name, value in reply.headers if name == b"WWW-Authenticate"]
    assert [value.startswith(start) for value, start in zip(found, starts, strict=True)] == [True] * len(starts)
    assert all(value.endswith(b', resource_metadata="https://a.test/m"') for value in found)
    assert [b"error" in value for value in found[1:]] == [False] * (len(found) - 1)
