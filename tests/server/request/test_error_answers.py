"""The gateway's own answers, for every reason there is: status, body, challenge, framing."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Challenge, GatewayError, Reason, Reasons
from gateway.features.api_keys.reasons import NO_API_KEYS, UNKNOWN_API_KEY
from gateway.features.listed import reasons
from gateway.features.resource_metadata.options import document_url, resource_identifier
from gateway.features.resource_metadata.reasons import DOCUMENT_METHOD
from gateway.features.sender_constrained.reasons import PROOF_NONCE
from gateway.server.request.error_answers import Answer, answer, challenge, connection_field, phrase, render
from gateway.settings.tables.root import Tokens

REASONS = pytest.mark.parametrize("reason", reasons(), ids=lambda reason: reason.code)
TOKENS = Tokens()

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


def fields(reply: Answer) -> dict[bytes, bytes]:
    """The fields by name; none of an answer's may stand twice."""
    named = {name.lower(): value for name, value in reply.headers}
    assert len(named) == len(reply.headers)
    return named


@REASONS
def test_every_reason_has_a_sound_answer(reason: Reason) -> None:
    """Contract (answers table), R108-R111, R113, R333: parsed strictly, whatever the reason."""
    reply = answer(GatewayError(reason, detail="DETAIL"), TOKENS, "r-1")
    assert reply.status == reason.kind.status
    assert json.loads(reply.body) == {
        "error": reason.kind.error,
        "error_description": reason.text,
        "request_id": "r-1",
    }
    named = fields(reply)
    assert named[b"content-type"] == b"application/json"
    assert named[b"cache-control"] == b"no-store"
    assert named[b"x-request-id"] == b"r-1"
    assert (b"www-authenticate" in named) == (reason.kind.challenge is not Challenge.NONE)
    assert (b"retry-after" in named) == (reply.status in (429, 503))
    assert (b"allow" in named) == (reply.status == 405)
    assert reply.close is reason.kind.close
    whole = render(reply, http_11=True, keep_alive=True, head_only=False, date=b"now")
    assert b"DETAIL" not in whole


@REASONS
def test_challenge_follows_the_grammar(reason: Reason) -> None:
    """R108-R110: bare without a credential, else error and error_description; scope only when told to."""
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


def test_realm_and_scope_may_hold_every_character_that_the_configuration_admits() -> None:
    """R110: settings checks and challenge grammar agree on every one."""
    scope = f"{ODD_SCOPE} orders:read"
    tokens = Tokens(realm=ODD_REALM)
    reply = answer(GatewayError(Reasons.MISSING_SCOPE, scope=scope), tokens, "r")
    value = fields(reply)[b"www-authenticate"]
    assert parameters(value)["realm"] == ODD_REALM
    assert parameters(value)["scope"] == scope
    assert parameters(challenge(Reasons.NO_CREDENTIAL, "")) == {"realm": ""}


CREDENTIALS = [
    pytest.param(("jwt",), [b'Bearer realm="gateway"'], "A bearer token is required.", id="tokens"),
    pytest.param(("api_key",), [b'ApiKey realm="gateway"'], "An API key is required.", id="keys"),
    pytest.param(
        ("api_key", "jwt"),
        [b'Bearer realm="gateway"', b'ApiKey realm="gateway"'],
        "A bearer token or an API key is required.",
        id="either",
    ),
]


@pytest.mark.parametrize(("credentials", "wanted", "text"), CREDENTIALS)
def test_challenges_are_those_of_the_credentials_that_the_route_takes(
    credentials: tuple[str, ...], wanted: list[bytes], text: str
) -> None:
    """R108, RFC 9110 section 11.6.1: one for each kind; what is wrong with a key is in the body only."""
    for reason in (Reasons.NO_CREDENTIAL, UNKNOWN_API_KEY, Reasons.MISSING_SCOPE, Reasons.SEVERAL_CREDENTIALS):
        error = GatewayError(reason, scope="a b")
        error.credentials = credentials
        reply = answer(error, TOKENS, "r")
        found = [value for name, value in reply.headers if name == b"WWW-Authenticate"]
        assert [value.partition(b", ")[0] for value in found] == wanted
        assert [value for value in found if value.startswith(b"ApiKey")] == wanted[("jwt" in credentials) :]
        described = json.loads(reply.body)["error_description"]
        assert described == (text if reason is Reasons.NO_CREDENTIAL else reason.text)


def test_answers_without_a_challenge_have_none_for_keys_either() -> None:
    """R113."""
    error = GatewayError(NO_API_KEYS)
    error.credentials = ("jwt", "api_key")
    assert not [name for name, _ in answer(error, TOKENS, "r").headers if name == b"WWW-Authenticate"]


def test_scope_is_not_told_with_a_bare_challenge() -> None:
    """RFC 6750 section 3.1: no error information for a request without a credential."""
    assert parameters(challenge(Reasons.NO_CREDENTIAL, "gateway", "a b")) == {"realm": "gateway"}


@REASONS
def test_challenges_of_a_resource_lead_to_its_document(reason: Reason) -> None:
    """R110, R115: one more parameter, also of a bare challenge (RFC 9728 section 5.1); no challenge, no parameter."""
    url = document_url(ODD_IDENTIFIER)
    error = GatewayError(reason, scope="a b")
    value = fields(answer(error, TOKENS, "r", url)).get(b"www-authenticate")
    without = fields(answer(error, TOKENS, "r")).get(b"www-authenticate")
    if value is None or without is None:
        assert value is without is None
        assert reason.kind.challenge is Challenge.NONE
        return
    assert parameters(value) == {**parameters(without), "resource_metadata": url}


def test_a_document_that_can_only_be_read_says_so() -> None:
    """RFC 9110 section 15.5.6; other methods that are never served have an empty list."""
    assert fields(answer(GatewayError(DOCUMENT_METHOD), TOKENS, "r"))[b"allow"] == b"GET, HEAD, OPTIONS"
    assert fields(answer(GatewayError(Reasons.METHOD_REFUSED), TOKENS, "r"))[b"allow"] == b""


@given(st.text(max_size=40))
def test_detail_never_reaches_an_answer(detail: str) -> None:
    """R108, R110, R333: whatever an error's detail quotes, the bytes are the same without it."""
    for reason in (Reasons.UNKNOWN_ISSUER, Reasons.UPSTREAM_CONNECT):
        with_detail = answer(GatewayError(reason, detail=detail), TOKENS, "r")
        assert with_detail == answer(GatewayError(reason), TOKENS, "r")


@pytest.mark.parametrize(("status", "bad", "missing"), [(401, 401, 401), (403, 403, 401)])
def test_status_of_bad_tokens_is_configured_and_of_nothing_else(status: Any, bad: int, missing: int) -> None:
    """Contract: tokens.invalid_token_status; the challenge stays."""
    tokens = Tokens(invalid_token_status=status)
    replies = {reason: answer(GatewayError(reason), tokens, "r") for reason in reasons()}
    for reason, reply in replies.items():
        if reason.kind.error == "invalid_token":
            assert reply.status == bad
            assert b"www-authenticate" in fields(reply)
        else:
            assert reply.status == reason.kind.status
    assert replies[Reasons.NO_CREDENTIAL].status == missing


@pytest.mark.parametrize(("given_seconds", "told"), [(None, b"1"), (0, b"1"), (-5, b"1"), (1, b"1"), (86400, b"86400")])
def test_retry_after_is_at_least_a_second(given_seconds: int | None, told: bytes) -> None:
    """R113: delay-seconds (RFC 9110 section 10.2.3); 0 would ask for a storm."""
    reply = answer(GatewayError(Reasons.NO_KEYS, retry_after=given_seconds), TOKENS, "r")
    assert fields(reply)[b"retry-after"] == told


@REASONS
@pytest.mark.parametrize("http_11", [True, False])
@pytest.mark.parametrize("keep_alive", [True, False])
@pytest.mark.parametrize("head_only", [True, False])
def test_rendered_bytes_are_one_framed_message(
    reason: Reason, http_11: bool, keep_alive: bool, head_only: bool
) -> None:
    """RFC 9112 sections 4, 6.2, 9.3: the length is the body's, also when HEAD leaves the body out."""
    reply = answer(GatewayError(reason), TOKENS, "r")
    data = render(reply, http_11=http_11, keep_alive=keep_alive, head_only=head_only, date=b"now")
    head, _, body = data.partition(b"\r\n\r\n")
    status_line, *lines = head.split(b"\r\n")
    assert re.fullmatch(rb"HTTP/1\.1 %d [ -~]+" % reply.status, status_line)
    assert all(re.fullmatch(rb"[A-Za-z-]+: [ -~]*", line) for line in lines)
    assert body == (b"" if head_only else reply.body)
    assert lines.count(b"Content-Length: %d" % len(reply.body)) == 1
    connection = [line for line in lines if line.lower().startswith(b"connection:")]
    options = [line.split(b": ")[1].lower() for line in connection if b"upgrade" not in line.lower()]
    assert options == ([b"close"] if not keep_alive else [] if http_11 else [b"keep-alive"])


@pytest.mark.parametrize(
    ("http_11", "keep_alive", "value"),
    [(True, True, b""), (True, False, b"close"), (False, True, b"keep-alive"), (False, False, b"close")],
)
def test_connection_field_says_only_what_the_version_does_not(http_11: bool, keep_alive: bool, value: bytes) -> None:
    """RFC 9112 section 9.3."""
    assert connection_field(http_11=http_11, keep_alive=keep_alive) == value


@pytest.mark.parametrize(("status", "text"), [(200, b"OK"), (431, b"Request Header Fields Too Large"), (599, b"")])
def test_phrase_is_the_registered_one_or_none(status: int, text: bytes) -> None:
    """RFC 9110 section 15."""
    assert phrase(status) == text


DPOP, BEARER = b'DPoP realm="gateway", algs="ES256 EdDSA"', b'Bearer realm="gateway"'


@pytest.mark.parametrize(
    ("schemes", "reason", "starts"),
    [
        (("DPoP",), Reasons.NO_CREDENTIAL, [DPOP]),
        (("DPoP", "Bearer"), Reasons.NO_CREDENTIAL, [DPOP, BEARER]),
        (("DPoP", "Bearer"), PROOF_NONCE, [DPOP + b', error="use_dpop_nonce", error_description="', BEARER]),
        (("Bearer", "DPoP"), Reasons.EXPIRED, [BEARER + b', error="invalid_token", error_description="', DPOP]),
    ],
)
def test_each_scheme_has_its_challenge_and_the_first_one_the_error(
    schemes: tuple[str, ...], reason: Reason, starts: list[bytes]
) -> None:
    """R133, R138: RFC 9449 section 7.1, RFC 9110 section 11.6.1."""
    error = GatewayError(reason)
    error.schemes = schemes
    reply = answer(error, TOKENS, "r", "https://a.test/m", ["ES256", "EdDSA"])
    found = [value for name, value in reply.headers if name == b"WWW-Authenticate"]
    assert [value.startswith(start) for value, start in zip(found, starts, strict=True)] == [True] * len(starts)
    assert all(value.endswith(b', resource_metadata="https://a.test/m"') for value in found)
    assert [b"error" in value for value in found[1:]] == [False] * (len(found) - 1)
