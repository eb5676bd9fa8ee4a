"""What ``cnf`` says, and that nothing else passes for a bearer token."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError, Reason, Reasons
from gateway.identity import Confirmation
from gateway.jwt.claims.confirmation import read_confirmation

ONE, OTHER = "A" * 43, "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"


def judged(cnf: Any) -> Confirmation | Reason | None:
    """Return what a confirmation demands, or why it is refused."""
    try:
        return read_confirmation({"cnf": cnf})
    except GatewayError as error:
        return error.reason


def test_a_token_without_a_confirmation_is_a_bearer_token() -> None:
    assert read_confirmation({}) is None
    assert read_confirmation({"cnf": None, "jkt": OTHER}) is None


@pytest.mark.rule("R133", "R139")
def test_keys_and_certificates_are_read() -> None:
    """RFC 9449 section 6.1, RFC 8705 section 3.1; members beside them that are unknown do not count."""
    assert read_confirmation({"cnf": {"jkt": OTHER}}) == Confirmation(OTHER, None)
    assert read_confirmation({"cnf": {"x5t#S256": ONE, "kid": "a"}}) == Confirmation(None, ONE)
    assert read_confirmation({"cnf": {"jkt": OTHER, "x5t#S256": ONE}}) == Confirmation(OTHER, ONE)


@pytest.mark.parametrize(
    "cnf",
    [
        {},
        [],
        "",
        "x",
        0,
        False,
        {"kid": "a"},
        {"jwk": {}},
        {"jkt": None},
        {"jkt": ""},
        {"jkt": OTHER + "="},
        {"jkt": OTHER[:-1]},
        {"jkt": OTHER[:-1] + "J"},
        {"jkt": "\u00e9" * 43},
        {"jkt": [OTHER]},
        {"jkt": OTHER, "x5t#S256": None},
        {"x5t#S256": ONE, "jkt": 1},
        {"JKT": OTHER},
    ],
    ids=str,
)
@pytest.mark.rule("R096")
def test_what_is_not_understood_is_refused(cnf: Any) -> None:
    """Never a plain bearer token, and never half of what it demands."""
    assert judged(cnf) is Reasons.SENDER_CONSTRAINED


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["jkt", "x5t#S256"]) | st.text(), inner),
    ).filter(lambda value: value is not None)
)
@pytest.mark.rule("R096")
def test_any_confirmation_is_a_refusal_or_a_demand(cnf: Any) -> None:
    assert judged(cnf) not in (None, (None, None))
