"""The identity as a value, and claims as header values."""

from __future__ import annotations

import json
import math
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.identity import (
    CLIENT,
    ISSUER,
    MAX_HEADER_VALUE,
    SCOPES,
    HeaderRule,
    Identity,
    UnsafeClaimError,
    find_claim,
    freeze,
    header_value,
    identity_lines,
)
from tests.support.wire.identity_fields import header_lines, identity_headers


def coded(text: str) -> bytes:
    """A value such as ``header_value`` makes; empty for text that it refuses."""
    try:
        return header_value(text) or b""
    except UnsafeClaimError:
        return b""


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        pytest.param("alice", b"alice", id="text"),
        pytest.param("auth0|5f7c", b"auth0|5f7c", id="visible punctuation"),
        pytest.param("Alice B. Carol", b"Alice B. Carol", id="inner spaces"),
        pytest.param("a,b;c", b"a,b;c", id="comma and semicolon in text"),
        pytest.param('say "hi" \\', b'say "hi" \\', id="quotes and backslash"),
        pytest.param("100%", b"100%", id="percent in ASCII text stands"),
        pytest.param("", b"", id="empty text"),
        pytest.param(" admin", b"%20admin", id="leading space"),
        pytest.param("admin ", b"admin%20", id="trailing space"),
        pytest.param("Mikołaj", b"Miko%C5%82aj", id="outside Latin-1"),
        pytest.param("é ł", b"%C3%A9%20%C5%82", id="spaces of coded text"),
        pytest.param("50 % Ångström", b"50%20%25%20%C3%85ngstr%C3%B6m", id="percent of coded text"),
        pytest.param("王", b"%E7%8E%8B", id="CJK"),
        pytest.param("\N{GRINNING FACE}", b"%F0%9F%98%80", id="astral"),
        pytest.param(True, b"true", id="true"),
        pytest.param(False, b"false", id="false"),
        pytest.param(12, b"12", id="integer"),
        pytest.param(0, b"0", id="zero"),
        pytest.param(-1, b"-1", id="negative"),
        pytest.param(2**53 + 1, b"9007199254740993", id="integer beyond a double"),
        pytest.param(1.0, b"1.0", id="1.0"),
        pytest.param(1.5, b"1.5", id="fraction"),
        pytest.param(["a", "b"], b"a,b", id="list of text"),
        pytest.param(["a"], b"a", id="list of one"),
        pytest.param([], b"", id="empty list"),
        pytest.param(["a", "ż"], b"a,%C5%BC", id="each element coded by itself"),
        pytest.param([" a", "b "], b"%20a,b%20", id="spaces of elements"),
        pytest.param(["a", "b,c"], b'["a","b,c"]', id="comma in an element"),
        pytest.param(["é,"], b'["\\u00e9,"]', id="JSON is ASCII"),
        pytest.param(["a", 1], b'["a",1]', id="mixed list"),
        pytest.param([None], b"[null]", id="null in a list"),
        pytest.param([["a"], {"k": 1}], b'[["a"],{"k":1}]', id="nested"),
        pytest.param({"k": 1}, b'{"k":1}', id="object"),
        pytest.param({}, b"{}", id="empty object"),
        pytest.param({"k": "a\r\nb\x00\x7f"}, b'{"k":"a\\r\\nb\\u0000\\u007f"}', id="JSON escapes controls, DEL too"),
        pytest.param(None, None, id="null"),
    ],
)
@pytest.mark.rule("C69", "R347", "R349", "R350", "R351")
def test_claim_has_one_documented_coding(claim: Any, value: bytes | None) -> None:
    """Frozen or not."""
    assert header_value(claim) == value
    assert header_value(freeze(claim)) == value


@pytest.mark.parametrize(
    "claim",
    [
        *(f"a{chr(code)}b" for code in (*range(32), *range(0x7F, 0xA0))),
        *("a\r\nX-Admin: 1", "\x00", "\t", "é\n", " \r"),
        *(["a", "b\n"], ["\x7f"], ["é\x00"]),
        *("\ud800", "a\udfffb", ["\ud800"]),
        *(math.inf, -math.inf, math.nan, [math.nan], {"a": math.inf}),
        *({"a": object()}, object()),
        pytest.param(10**5000, id="an integer that Python does not write"),
    ],
)
@pytest.mark.rule("C69", "R346", "R348")
def test_claim_that_cannot_be_a_header_is_refused(claim: Any) -> None:
    """Control characters, lone surrogates, what is no JSON; never cut, replaced or split."""
    with pytest.raises(UnsafeClaimError):
        header_value(claim)


@pytest.mark.rule("R352", "R094")
def test_deep_claim_is_refused_and_not_an_accident() -> None:
    """RecursionError stays inside."""
    deep: Any = "a"
    for _ in range(200_000):
        deep = [deep]
    with pytest.raises(UnsafeClaimError):
        header_value(deep)
    while isinstance(deep, list):  # taken apart step by step: letting go at once would recurse too
        deep = deep.pop()


@pytest.mark.parametrize("unit", ["a", "é"])
@pytest.mark.rule("C69", "R353")
def test_claim_over_the_limit_is_refused(unit: str) -> None:
    """The limit is on the coded bytes, and nothing is cut off."""
    size = len(header_value(unit) or b"")
    fitting = unit * (MAX_HEADER_VALUE // size)
    assert len(header_value(fitting) or b"") <= MAX_HEADER_VALUE
    for claim in (fitting + unit, [fitting + unit], {"k": fitting}, [unit] * MAX_HEADER_VALUE, 20 * 1024 * unit):
        with pytest.raises(UnsafeClaimError):
            header_value(claim)


@pytest.mark.rule("R353")
def test_all_headers_together_are_bounded() -> None:
    """5,000 groups are refused, not cut; and so are many claims that each would do."""
    with pytest.raises(UnsafeClaimError):
        identity_headers([HeaderRule(b"x-groups", ("groups",))], {"groups": [f"group{i}" for i in range(5000)]}, ())
    rules = [HeaderRule(b"x-%d" % number, ("c",)) for number in range(5)]
    claims = {"c": "a" * 8000}
    assert len(identity_headers(rules[:4], claims, ())) == 4
    with pytest.raises(UnsafeClaimError):
        identity_headers(rules, claims, ())


@pytest.mark.rule("R350", "R351", "R354")
def test_headers_are_made_by_rule_and_in_order() -> None:
    """An absent or null claim gives no header."""
    rules = [
        HeaderRule(b"x-user-id", ("sub",)),
        HeaderRule(b"x-user-role", ("role",)),
        HeaderRule(b"x-email", ("email",)),
        HeaderRule(b"x-roles", ("realm_access", "roles")),
        HeaderRule(b"x-issuer", (ISSUER,)),
        HeaderRule(b"x-client", (CLIENT,)),
        HeaderRule(b"x-scope", (SCOPES,)),
        HeaderRule(b"x-tenant", ("https://x/tenant.id",)),
    ]
    claims = {
        "sub": "alice",
        "role": None,
        "realm_access": {"roles": ["a", "b"]},
        "iss": "https://idp.test/",
        "client_id": "app",
        "https://x/tenant.id": 7,
    }
    assert identity_headers(rules, claims, ("read", "write")) == (
        (b"x-user-id", b"alice"),
        (b"x-roles", b"a,b"),
        (b"x-issuer", b"https://idp.test/"),
        (b"x-client", b"app"),
        (b"x-scope", b"read write"),
        (b"x-tenant", b"7"),
    )
    assert identity_headers(rules, {}, ()) == ()


@pytest.mark.parametrize(
    ("claims", "value"),
    [
        ({"azp": "a"}, b"a"),
        ({"client_id": "c"}, b"c"),
        ({"azp": "a", "client_id": "c"}, b"a"),
        ({"azp": None, "client_id": "c"}, b"c"),
        ({"azp": ["x"], "client_id": "c"}, b"c"),
        ({"azp": {"x": 1}}, None),
        ({}, None),
    ],
)
@pytest.mark.rule("R350", "R352")
def test_client_is_the_first_name_that_is_one(claims: dict[str, Any], value: bytes | None) -> None:
    headers = identity_headers([HeaderRule(b"x-client", (CLIENT,))], claims, ())
    assert headers == (() if value is None else ((b"x-client", value),))


@pytest.mark.parametrize(
    ("scopes", "value"),
    [
        ((), None),
        (("",), None),
        (("read",), b"read"),
        (("read", "write"), b"read write"),
        (("read write",), b"read%20write"),
        (("a", " b", "é"), b"a %20b %C3%A9"),
        (("a", "", "b"), b"a b"),
    ],
)
@pytest.mark.rule("C97")
def test_scopes_are_split_at_spaces_as_they_were_granted(scopes: tuple[str, ...], value: bytes | None) -> None:
    """One scope with a space in it does not become two upstream."""
    headers = identity_headers([HeaderRule(b"x-scope", (SCOPES,))], {}, scopes)
    assert headers == (() if value is None else ((b"x-scope", value),))


@pytest.mark.parametrize("scope", ["a\nb", "\x00", "a b\r", "\x85", "\ud800", "a \ud800"])
@pytest.mark.rule("R346", "R348")
def test_scope_that_cannot_be_a_header_is_refused(scope: str) -> None:
    with pytest.raises(UnsafeClaimError):
        identity_headers([HeaderRule(b"x-scope", (SCOPES,))], {}, ("ok", scope))


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"realm_access": "x"},
        {"realm_access": None},
        {"realm_access": ["roles"]},
        {"realm_access": 5},
        {"realm_access": True},
        {"realm_access": {}},
        {"realm_access": {"roles": None}},
        {"realm_access.roles": ["a"]},
    ],
)
@pytest.mark.rule("R352", "R093")
def test_nested_claim_of_another_shape_is_absent(claims: dict[str, Any]) -> None:
    """Nothing raises, and a name with a dot is no path."""
    assert find_claim(claims, ("realm_access", "roles")) is None
    assert find_claim(freeze(claims), ("realm_access", "roles")) is None


@pytest.mark.rule("R093")
def test_claim_is_found_by_its_exact_names() -> None:
    """Dots and URLs are parts of names."""
    claims = freeze({"https://x/roles": {"a.b": ["c"]}, "a": {"b": "no"}})
    assert find_claim(claims, ("https://x/roles", "a.b")) == ("c",)
    assert find_claim(claims, ("a", "b")) == "no"
    assert find_claim(claims, ("A", "b")) is None
    assert find_claim(claims, ()) is claims


@pytest.mark.rule("R187")
def test_frozen_claims_cannot_be_changed() -> None:
    """What is shared between requests stays what was verified."""
    source = {"roles": ["a"], "nested": {"k": [1]}}
    frozen = freeze(source)
    source["roles"].append("admin")  # type: ignore[attr-defined]
    assert frozen["roles"] == ("a",)
    with pytest.raises(TypeError):
        frozen["roles"] = ("admin",)
    with pytest.raises(TypeError):
        frozen["nested"]["k"] = 2
    identity = Identity("i", "i", "s", (), frozen, b"", 1.0, 0.0, None)
    with pytest.raises(AttributeError):
        identity.subject = "t"  # type: ignore[misc]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(_JSON)
@pytest.mark.rule("C69", "R346", "R347", "R348", "R349", "R350", "R351")
def test_any_claim_is_visible_ascii_without_outer_spaces_or_refused(claim: Any) -> None:
    """Nothing else raises, and a field value survives the wire as it is (RFC 9110 section 5.5)."""
    try:
        value = header_value(freeze(claim))
    except UnsafeClaimError:
        return
    if value is None:
        assert claim is None
        return
    assert all(0x20 <= code < 0x7F for code in value)
    assert value.strip() == value
    if isinstance(claim, dict | int | float):
        assert json.loads(value) == claim


@given(st.text(max_size=20))
@pytest.mark.rule("R347")
def test_coded_text_can_be_decoded(text: str) -> None:
    """Percent-decoding gives the text back wherever it was coded, that is, was not plain ASCII already."""
    try:
        value = header_value(text)
    except UnsafeClaimError:
        return
    assert value is not None
    plain = text.isascii() and text.strip(" ") == text
    assert value.decode() == text if plain else unquote(value.decode()) == text


@given(st.lists(st.text(max_size=5), max_size=5))
@pytest.mark.rule("C69", "R349")
def test_list_of_text_can_be_taken_apart(elements: list[str]) -> None:
    """No element becomes two."""
    try:
        value = header_value(elements)
    except UnsafeClaimError:
        return
    assert value is not None
    if any("," in element for element in elements):
        assert json.loads(value) == elements
    elif elements:
        assert len(value.split(b",")) == len(elements)


@given(st.lists(st.tuples(st.sampled_from([b"x-user-id", b"x-role"]), st.text().map(coded)), max_size=4))
def test_headers_are_kept_as_lines_and_are_the_same_again(headers: list[tuple[bytes, bytes]]) -> None:
    identity = Identity("i", "i", "s", (), freeze({}), header_lines(headers), 1.0, 0.0, None)
    assert identity.headers == tuple(headers)
    assert identity.lines.count(b"\r\n") == len(headers)


@pytest.mark.parametrize("size", [10, 5000])
def test_headers_of_any_size_are_the_same_each_time(size: int) -> None:
    for letter in (b"a", b"b", b"a"):
        headers = ((b"x-user-id", letter * size), (b"x-role", b"r: s"))
        identity = Identity("i", "i", "s", (), freeze({}), header_lines(headers), 1.0, 0.0, None)
        assert identity.headers == headers


def test_lines_are_those_of_a_head() -> None:
    rules = [HeaderRule(b"x-user-id", ("sub",)), HeaderRule(b"x-none", ("none",)), HeaderRule(b"x-note", ("note",))]
    lines = identity_lines(rules, {"sub": "alice", "note": "read: write"}, ())
    assert lines == b"x-user-id: alice\r\nx-note: read: write\r\n"
