"""The list of refusals: stable codes, sound kinds, and text that may stand in logs."""

from __future__ import annotations

import re
from collections import Counter
from http import HTTPStatus
from importlib import import_module

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Challenge, GatewayError, Reason, Reasons, printable
from gateway.features.listed import FEATURES, reasons

REASONS = pytest.mark.parametrize("reason", reasons(), ids=lambda reason: reason.code)


@REASONS
def test_reason_has_a_code_for_logs_and_labels(reason: Reason) -> None:
    """Contract: codes are stable and are metric labels."""
    assert re.fullmatch(r"[a-z][a-z_]{2,30}", reason.code)


def test_no_two_reasons_share_a_code() -> None:
    """Logs and metrics tell them apart."""
    assert Counter(reason.code for reason in reasons()).most_common(1)[0][1] == 1


@REASONS
def test_kind_is_sound(reason: Reason) -> None:
    """RFC 9110 sections 11.6.1, 15: a known error status; 401 always challenges; 429 and 503 say when to come again."""
    kind = reason.kind
    assert HTTPStatus(kind.status) >= HTTPStatus.BAD_REQUEST
    assert kind.status != HTTPStatus.INTERNAL_SERVER_ERROR
    assert (kind.status != HTTPStatus.UNAUTHORIZED) or kind.challenge is not Challenge.NONE
    later = kind.status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS)
    assert later == (kind.retry_after is not None)
    assert kind.retry_after is None or kind.retry_after >= 1


@REASONS
@pytest.mark.rule("R110")
def test_fixed_text_needs_no_escape_anywhere(reason: Reason) -> None:
    """RFC 6750 section 3, error_description is %x20-21 / %x23-5B / %x5D-7E."""
    assert re.fullmatch(r"[\x20-\x21\x23-\x5b\x5d-\x7e]+", reason.text)
    assert re.fullmatch(r"[\x20-\x21\x23-\x5b\x5d-\x7e]+", reason.kind.error)


@REASONS
@pytest.mark.rule("R113")
def test_could_not_decide_is_never_a_refusal_of_the_token(reason: Reason) -> None:
    """What is the gateway's own or an upstream's fault carries no challenge."""
    if reason.kind.status >= 500:
        assert reason.kind.challenge is Challenge.NONE


@pytest.mark.rule("R196")
def test_exception_shows_its_code_alone() -> None:
    """An exception's text ends up in unexpected places."""
    error = GatewayError(Reasons.BAD_SIGNATURE, detail="hint", scope="a b")
    assert str(error) == "bad_signature"
    assert (error.retry_after, error.scope, error.detail) == (None, "a b", "hint")


@pytest.mark.rule("R113")
def test_retry_after_is_the_kinds_unless_given() -> None:
    """An issuer that knows when it will try again says so."""
    assert GatewayError(Reasons.NO_KEYS).retry_after == 1
    assert GatewayError(Reasons.NO_KEYS, retry_after=17).retry_after == 17


@given(st.text(), st.integers(min_value=4, max_value=100))
@pytest.mark.rule("R197")
def test_printable_is_one_bounded_line_whatever_comes(text: str, limit: int) -> None:
    """CWE-117: ASCII, no line ends, at most ``limit`` characters."""
    shown = printable(text, limit)
    assert shown.isascii()
    assert shown.isprintable()
    assert len(shown) <= limit


@pytest.mark.parametrize(
    ("text", "shown"),
    [("plain", "plain"), ("a\r\nb", "a\\r\\nb"), ("é\ud800", "\\xe9\\ud800"), ("x" * 64, "x" * 64)],
)
@pytest.mark.rule("R197")
def test_printable_keeps_what_can_be_read(text: str, shown: str) -> None:
    """The operator still sees what it was."""
    assert printable(text) == shown


@pytest.mark.parametrize("text", ["x" * 65, "\n" * 40])
def test_printable_tells_that_it_cut(text: str) -> None:
    """Too long as it came, or once it is escaped."""
    assert printable(text).endswith("...")
    assert len(printable(text)) == 64


def test_each_reason_is_named_like_its_code() -> None:
    """So that a code in a log leads to the place that refuses."""
    homes = [
        vars(Reasons),
        *(vars(import_module(f"gateway.features.{one.name}.reasons")) for one in FEATURES if one.reasons),
    ]
    named = [(name, value.code) for home in homes for name, value in home.items() if isinstance(value, Reason)]
    assert [name.lower() for name, _ in named] == [code for _, code in named]
    assert len(named) == len(reasons())
