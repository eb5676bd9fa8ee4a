"""``gateway/policy/caller_names.py``: one name for one caller, and never one for two."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.identity import Identity, freeze
from gateway.policy.caller_names import NAME_BYTES, Namer, network_of

NAMER = Namer("scope")


def caller(subject: str | None = "alice", issuer: str = "https://idp.test/", **claims: Any) -> Identity:
    return Identity("main", issuer, subject, (), MappingProxyType(freeze(claims)), b"", 0.0, 0.0, None)


def test_subjects_are_their_issuers() -> None:
    """RFC 7519 section 4.1.2: a subject is unique within its issuer only."""
    names = {
        NAMER.subject(caller(subject, issuer))
        for subject in ("alice", "bob", "", "lone \ud800")
        for issuer in ("https://a.test", "https://b.test", "")
    }
    assert len(names) == 12
    assert NAMER.subject(caller()) == NAMER.subject(caller(role="other"))


@given(*[st.text(max_size=4)] * 4)
def test_no_part_of_an_issuer_is_taken_for_a_subject(one: str, two: str, three: str, four: str) -> None:
    same = (one, two) == (three, four)
    assert (NAMER.subject(caller(two, one)) == NAMER.subject(caller(four, three))) is same
    assert (NAMER.token_id(one, two) == NAMER.token_id(three, four)) is same


def test_callers_without_a_subject_share_one_name_for_each_issuer() -> None:
    assert NAMER.subject(caller(None)) == NAMER.subject(caller(None, role="x"))
    assert NAMER.subject(caller(None)) != NAMER.subject(caller(None, "https://b.test"))
    assert NAMER.subject(caller(None)) not in (NAMER.subject(caller("")), NAMER.subject(caller("None")))


VALUES = ["1", 1, True, "true", "", 1.5, ["1"], [1], "[1]", {"a": 1}, {"a": {"b": [None]}}, [], {}, "null", "\ud800"]


def test_values_of_a_claim_are_apart_by_their_type() -> None:
    names = [NAMER.claim(caller(tenant=value), "tenant") for value in VALUES]
    assert len(set(names)) == len(VALUES)
    assert NAMER.claim(caller(tenant=1.0), "tenant") == NAMER.claim(caller(tenant=1), "tenant")
    assert NAMER.claim(caller(tenant={"b": 1, "a": 2}), "tenant") == NAMER.claim(
        caller(tenant={"a": 2, "b": 1}), "tenant"
    )


def test_callers_without_a_claim_share_one_name() -> None:
    nobody = NAMER.claim(caller(), "tenant")
    assert nobody == NAMER.claim(caller(tenant=None), "tenant") == NAMER.claim(caller("bob", other=1), "tenant")
    assert nobody not in {NAMER.claim(caller(tenant=value), "tenant") for value in VALUES}


def test_kinds_of_names_are_apart() -> None:
    text = "192.0.2.1"
    names = {NAMER.address(text), NAMER.thing(text), NAMER.credential(text.encode()), NAMER.claim(caller(x=text), "x")}
    assert len(names) == 4
    assert {len(one) for one in names} == {NAME_BYTES}


def test_scopes_are_apart() -> None:
    scopes = [("a", "b"), ("a,b",), ("a",), ("b", "a"), ("a", "b", "")]
    assert len({Namer(*scope).address("192.0.2.1") for scope in scopes}) == len(scopes)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:0:0:1", True),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::1", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("unknown", "unknown", True),
        ("fe80::bad::1", "fe80::1", False),
    ],
)
def test_an_ipv6_client_is_its_network(one: str, other: str, same: bool) -> None:
    """RFC 6177: a client has a /64 at least, and may choose among its addresses for each request."""
    assert (network_of(one) == network_of(other)) is same
    assert (NAMER.address(one) == NAMER.address(other)) is same


def test_what_cannot_be_written_is_no_value() -> None:
    identity = caller()._replace(claims={"odd": object()})
    with pytest.raises(TypeError):
        NAMER.claim(identity, "odd")
