"""The gateway's own answers, for every reason there is: status, body, challenge, framing."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Challenge, GatewayError, Reason, Reasons
from gateway.features.listed import reasons
from gateway.features.resource_metadata.reasons import DOCUMENT_METHOD
from gateway.server.request.challenges import ANY_ROUTE
from gateway.server.request.error_answers import Answer, answer, connection_field, phrase, refusal_form, render
from tests.support.composed import Tokens

REASONS = pytest.mark.parametrize("reason", reasons(), ids=lambda reason: reason.code)
TOKENS = Tokens()


def fields(reply: Answer) -> dict[bytes, bytes]:
    """The fields by name; none of an answer's may stand twice."""
    named = {name.lower(): value for name, value in reply.headers}
    assert len(named) == len(reply.headers)
    return named


@REASONS
@pytest.mark.rule("R108", "R109", "R110", "R111", "R113", "R333")
def test_every_reason_has_a_sound_answer(reason: Reason) -> None:
    """Parsed strictly, whatever the reason."""
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


def test_a_document_that_can_only_be_read_says_so() -> None:
    """RFC 9110 section 15.5.6; other methods that are never served have an empty list."""
    assert fields(answer(GatewayError(DOCUMENT_METHOD), TOKENS, "r"))[b"allow"] == b"GET, HEAD, OPTIONS"
    assert fields(answer(GatewayError(Reasons.METHOD_REFUSED), TOKENS, "r"))[b"allow"] == b""


@given(st.text(max_size=40))
@pytest.mark.rule("R108", "R110", "R333")
def test_detail_never_reaches_an_answer(detail: str) -> None:
    """Whatever an error's detail quotes, the bytes are the same without it."""
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
@pytest.mark.rule("R113")
def test_retry_after_is_at_least_a_second(given_seconds: int | None, told: bytes) -> None:
    """Delay-seconds (RFC 9110 section 10.2.3); 0 would ask for a storm."""
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


@REASONS
@pytest.mark.rule("R400")
def test_what_refusals_have_in_common_makes_the_same_answer(reason: Reason) -> None:
    """CWE-444: whatever the id's length; an answer with another one's Content-Length ends in the next one."""
    error = GatewayError(reason, scope="a b", retry_after=7)
    form = refusal_form(error, TOKENS, ANY_ROUTE)
    for http_11, keep_alive, head_only in itertools.product((True, False), repeat=3):
        how: dict[str, Any] = {"http_11": http_11, "keep_alive": keep_alive, "head_only": head_only, "date": b"now"}
        for request_id in ("a", "A9._~+/=:@-" * 11, "0" * 32):
            made = answer(error, TOKENS, request_id)
            data, content = form.render(request_id.encode("ascii"), **how)
            assert data == render(made, **how)
            assert content == (0 if head_only else len(made.body))
            assert (form.status, form.close) == (made.status, made.close)
