"""Identifiers of protected resources, and where their documents are (RFC 9728 sections 1.2 and 3.1)."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.features.resource_metadata.options import (
    WELL_KNOWN,
    Resource,
    document_path,
    document_url,
    issuer_identifier,
    resource_host,
    resource_identifier,
    resource_path,
    shown_text,
)
from gateway.http1.target import parse_target

#: Segments that a path may have, decoded; no dot segments, and nothing that the path guard refuses.
SEGMENTS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\;"), min_size=1, max_size=8
).filter(lambda text: text not in (".", ".."))


@pytest.mark.parametrize(
    "text",
    [
        "https://api.example.com",
        "https://api.example.com/",
        "https://API.example.com:8443/v1/Orders/",
        "https://[2001:db8::1]/mcp",
        "https://api.example.com/a%20b/gr%C3%B6%C3%9Fe/@me,x=1",
        "http://127.0.0.1:8080/mcp",
        "http://localhost/mcp",
        "http://[::1]:8080",
    ],
)
@pytest.mark.rule("R116")
def test_an_identifier_stays_as_it_is_written(text: str) -> None:
    """`resource` is exact."""
    assert resource_identifier(text) == text
    assert Resource(resource=text).resource == text


# fmt: off
@pytest.mark.parametrize(
    ("text", "problem"),
    [("", "must begin with http"), ("api", "must begin with http"), ("ftp://a.test", "must begin with http"),
     ("http://api.example.com", "for loopback only"),
     ("https://a.test/#x", "fragment"), ("https://a.test#", "fragment"),
     ("https://a.test/?x=1", "query"), ("https://a.test?", "query"), ("https://u:p@a.test/", "credentials"),
     ("https://a.test/a b", "printable ASCII"), ("https://a.test/größe", "printable ASCII"),
     ("https://a.test/a\\b", "printable ASCII"), ('https://a.test/"', "character in its path"),
     ("https://a.test/a;v=1", "character in its path"), ("https://a.test/%zz", "character in its path"),
     ("https://a.test/a%2fb", "encoded slash"), ("https://a.test/%3B", "encoded slash"),
     ("https://a.test/a%5Cb", "encoded slash"),
     ("https://a.test/%00", "encoded slash"), ("https://a.test/%7F", "encoded slash"),
     ("https://a.test/%C2%85", "encoded slash"), ("https://a.test/%ff", "not UTF-8"),
     ("https://a.test/a/../b", "dot segments"), ("https://a.test/%2e/b", "dot segments"),
     ("https://a.test//a", "empty segment"), ("https://a.test/a//", "empty segment"), ("https://", "is missing"),
     ("https://a.test:99999", "malformed"), ("https://*.a.test", "wildcards")],
)
@pytest.mark.rule("R110", "R116")
def test_an_identifier_with_two_readings_or_none_is_a_fault(text: str, problem: str) -> None:
    """Nothing of it would need an escape in a challenge, and every path can be asked for."""
    with pytest.raises(ValueError, match=problem):
        resource_identifier(text)
# fmt: on


@pytest.mark.parametrize("text", ["https://idp.example.com/realms/a", "http://localhost:9401"])
def test_an_issuer_identifier_stays_as_it_is_written(text: str) -> None:
    assert issuer_identifier(text) == text


@pytest.mark.parametrize("text", ["http://idp.example.com", "https://idp.example.com/?a", "https://i.test/#a", "idp"])
def test_other_issuer_identifiers_are_faults(text: str) -> None:
    """RFC 8414 section 2: https, neither query nor fragment."""
    with pytest.raises(ValueError, match=r"must|query|fragment"):
        issuer_identifier(text)


def test_text_for_people_is_printable_and_short() -> None:
    assert shown_text("Bestellungen für Händler") == "Bestellungen für Händler"
    for text in ("a\nb", "\x1b[31m", "x" * 201):
        with pytest.raises(ValueError, match="printable"):
            shown_text(text)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"resource": "https://a.test", "bearer_methods_supported": ["query"]},
        {"resource": "https://a.test", "scopes_supported": ["a b"]},
        {"resource": "https://a.test", "documentation": "page.html"},
        {"resource": "https://a.test", "authorization_servers": ["idp"]},
    ],
)
def test_other_options_are_checked_too(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Resource.model_validate(given)


@pytest.mark.parametrize(
    ("identifier", "url"),
    [
        ("https://resource.example.com", "https://resource.example.com/.well-known/oauth-protected-resource"),
        ("https://resource.example.com/", "https://resource.example.com/.well-known/oauth-protected-resource"),
        (
            "https://resource.example.com/resource1",
            "https://resource.example.com/.well-known/oauth-protected-resource/resource1",
        ),
        ("https://A.test:8443/v1/x/", "https://A.test:8443/.well-known/oauth-protected-resource/v1/x/"),
        ("http://[::1]:80/%C3%B6", "http://[::1]:80/.well-known/oauth-protected-resource/%C3%B6"),
    ],
)
@pytest.mark.rule("R115", "R116")
def test_the_document_is_between_host_and_path(identifier: str, url: str) -> None:
    """The examples of RFC 9728 section 3.1, and odd ones."""
    assert document_url(identifier) == url


@given(st.lists(SEGMENTS, max_size=4), st.booleans(), st.sampled_from(["a.test", "A.test:8443", "[2001:DB8::1]"]))
@pytest.mark.rule("R115", "R116")
def test_a_request_for_the_url_of_a_document_has_its_path(segments: list[str], slash: bool, netloc: str) -> None:
    """URL and path of a document agree for every identifier, through the path guard (RFC 9728 section 3.1).

    Taking the well-known part out of the URL gives the identifier back, but for
    a slash alone behind the host.
    """
    path = "".join(f"/{quote(segment, safe='!$&()*+,=:@')}" for segment in segments) + ("/" if slash else "")
    identifier = resource_identifier(f"https://{netloc}{path}")
    url = document_url(identifier)
    assert url.replace(WELL_KNOWN, "", 1) == identifier.removesuffix("/") + ("/" if slash and segments else "")
    assert '"' not in url
    assert url.isascii()
    target = parse_target("GET", urlsplit(url).path.encode("ascii"))
    assert target.match_path == document_path(identifier)
    assert not target.encoded_slash
    assert resource_path(identifier) == "".join(f"/{segment}" for segment in segments) + (
        "/" if slash and segments else ""
    )


def test_hosts_have_one_spelling() -> None:
    assert resource_host("https://API.Example.com.:8443/x") == "api.example.com"
    assert resource_host("https://[2001:DB8:0::1]/x") == "[2001:db8::1]"
