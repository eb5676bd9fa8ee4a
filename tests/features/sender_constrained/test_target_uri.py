"""The normal form of the URI that a proof names."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.features.sender_constrained.target_uri import normal_uri

SAME = [
    ("https://api.test/orders", "https://api.test/orders"),
    ("HTTPS://API.Test/orders", "https://api.test/orders"),
    ("https://api.test:443/orders", "https://api.test/orders"),
    ("http://api.test:80", "http://api.test/"),
    ("http://api.test:0080/", "http://api.test/"),
    ("https://api.test:/orders", "https://api.test/orders"),
    ("https://api.test", "https://api.test/"),
    ("https://api.test?x=1", "https://api.test/"),
    ("https://api.test#x", "https://api.test/"),
    ("https://api.test/orders?x=/../1#y", "https://api.test/orders"),
    ("https://api.test/%6frders/%7E%2d", "https://api.test/orders/~-"),
    ("https://api.test/a%2fb%c3%a9", "https://api.test/a%2Fb%C3%A9"),
    ("https://api.test/a/./b/../c", "https://api.test/a/c"),
    ("https://api.test/a/%2e%2E/c", "https://api.test/c"),
    ("https://api.test/a/..", "https://api.test/"),
    ("https://api.test/a/.", "https://api.test/a/"),
    ("https://api.test/../../a", "https://api.test/a"),
    ("https://api.test:8443/a", "https://api.test:8443/a"),
    ("http://api.test:443/a", "http://api.test:443/a"),
    ("https://[2001:DB8:0:0::1]:443/a", "https://[2001:db8::1]/a"),
    ("https://api.test/a//b/", "https://api.test/a//b/"),
    ("WSS://api.test:443/socket", "wss://api.test/socket"),
    ("ws://api.test:443/socket", "ws://api.test:443/socket"),
    ("https://api.test/Orders;v=1", "https://api.test/Orders;v=1"),
]

NONE = [
    "",
    "/orders",
    "api.test/orders",
    "ftp://api.test/",
    "https:///orders",
    "https://user@api.test/",
    "https://user:secret@api.test/",
    "https://api.test:x/",
    "https://api.test:123456/",
    "https://[::1/",
    "https://[fe80::1%25eth0]/",
    "https://[1:2]/",
    "https://api.test/a b",
    "https://api.test/\u00e9",
    "https://\u0430pi.test/",
    "https://api.test/%",
    "https://api.test/%2",
    "https://api.test/%zz",
    "https://api.test/%\u0662\u0662",
    "https://api.test\\@evil.test/",
    "https://api.test/\n",
    " https://api.test/",
    "https://api.test:\u0664\u0664\u0663/",
]


@pytest.mark.parametrize(("uri", "normal"), SAME, ids=[uri for uri, _ in SAME])
@pytest.mark.rule("R135")
def test_uris_that_mean_the_same_are_one(uri: str, normal: str) -> None:
    """RFC 9449 section 4.3, RFC 3986 sections 6.2.2 and 6.2.3."""
    assert normal_uri(uri) == normal


@pytest.mark.parametrize("uri", NONE, ids=repr)
def test_what_is_no_http_uri_equals_nothing(uri: str) -> None:
    assert normal_uri(uri) is None


@pytest.mark.parametrize(
    "uri",
    [
        "http://api.test/orders",
        "https://api.test/Orders",
        "https://api.test/orders/",
        "https://api.test.evil.test/orders",
        "https://api.test:444/orders",
        "https://api.test/order%73%2F",
        "https://api.test./orders",
    ],
)
@pytest.mark.rule("R135")
def test_uris_that_differ_stay_different(uri: str) -> None:
    """Scheme, port, letter case of the path and a final slash count."""
    assert normal_uri(uri) not in (None, "https://api.test/orders")


@given(st.text() | st.text(alphabet="htps:/.%2eE[]@?#a0").map("http://a/".__add__))
def test_any_text_has_a_normal_form_of_itself_or_none(uri: str) -> None:
    normal = normal_uri(uri)
    assert normal is None or normal_uri(normal) == normal


@given(
    st.sampled_from(["http", "https"]),
    st.from_regex(r"[a-z0-9]{1,10}(\.[a-z0-9]{1,10}){0,2}", fullmatch=True),
    st.lists(st.text(alphabet=string.ascii_letters + string.digits + "-_~!$&'()*+,=:@;", min_size=1), min_size=1),
    st.randoms(use_true_random=False),
)
@pytest.mark.rule("R135")
def test_every_spelling_of_a_uri_has_its_normal_form(
    scheme: str, host: str, segments: list[str], random: object
) -> None:
    """Whatever is escaped that need not be, however the host is written."""
    choose = random.choice  # type: ignore[attr-defined]
    unreserved = string.ascii_letters + string.digits + "-_~"
    path = "/" + "/".join(segments)
    spelled = "".join(
        choose([letter, f"%{ord(letter):02X}", f"%{ord(letter):02x}"]) if letter in unreserved else letter
        for letter in path
    )
    port = choose(["", ":", ":443" if scheme == "https" else ":80"])
    uri = f"{choose([scheme, scheme.upper()])}://{choose([host, host.upper()])}{port}{spelled}{choose(['', '?', '#x'])}"
    assert normal_uri(uri) == f"{scheme}://{host}{path}"
