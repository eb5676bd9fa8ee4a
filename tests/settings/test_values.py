"""Checks of one value: what is taken, in which form, and what is refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http1.fields import HOP_BY_HOP
from gateway.http1.request_head import Meaning
from gateway.settings import values
from gateway.upstream.headers import header_policy as names
from gateway.upstream.headers.claimed_names import is_claimed


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("0.0.0.0:8080", "0.0.0.0:8080"),
        ("localhost:0", "localhost:0"),
        ("[::]:8080", "[::]:8080"),
        ("[0:0:0:0:0:0:0:1]:65535", "[::1]:65535"),
        ("Gateway.Example:080", "gateway.example:80"),
        ("unix:/run/gateway.sock", "unix:/run/gateway.sock"),
    ],
)
@pytest.mark.rule("R381")
def test_a_listen_address_has_three_forms(text: str, result: str) -> None:
    """Wrong values are refused at the start."""
    assert values.listen_address(text) == result


# fmt: off
@pytest.mark.parametrize(
    "text",
    ["", "8080", ":8080", "host", "host:", "host:65536", "host:-1", "host:\uff18\uff10", "::1:80", "[::1]", "[::1",
     "a b:80", "http://host:80", "unix:", "unix:relative", "unix:/dir/", "unix:/a\0b", "*:80", "host:80\n",
     "ho\nst:80"],
)
@pytest.mark.rule("R381")
def test_other_listen_addresses_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        values.listen_address(text)
# fmt: on


def test_a_port_without_host_is_answered_with_what_to_write() -> None:
    with pytest.raises(ValueError, match=re.escape("write 0.0.0.0:8080")):
        values.listen_address(":8080")


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("192.0.2.7", "192.0.2.7/32"),
        ("::1", "::1/128"),
        ("2001:DB8::/32", "2001:db8::/32"),
    ],
)
def test_a_network_is_an_address_or_a_block(text: str, result: str) -> None:
    assert values.network(text) == result


@pytest.mark.parametrize(
    "text", ["", "proxy", "10.0.0.0/33", "10.0.0.0/8/8", "10.0.0", "fe80::1%eth0/64", "10.0.0.0/8 "]
)
def test_other_networks_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be an IP address or a CIDR block"):
        values.network(text)


def test_bits_behind_the_mask_are_refused_with_the_block_that_was_meant() -> None:
    with pytest.raises(ValueError, match=re.escape("10.0.0.0/8")):
        values.network("10.1.2.3/8")


@pytest.mark.parametrize("name", ["X-User-Id", "x_user_id", "X-Forwarded-User", "x-forwarded-groups", "remote.user"])
def test_identity_headers_may_have_any_name_of_their_own(name: str) -> None:
    assert values.identity_header_name(name) == name.lower()


# fmt: off
@pytest.mark.parametrize(
    "name",
    ["Host", "Content-Length", "transfer-encoding", "TE", "Trailer", "Connection", "Keep-Alive", "Upgrade", "Via",
     "Proxy-Authorization", "Authorization", "Cookie", "Forwarded", "X-Forwarded-For", "X-Request-Id", "Expect",
     "content_length", "HTTP_HOST", "x_forwarded.for", "Sec-WebSocket-Key"],
)
@pytest.mark.rule("R359")
def test_identity_headers_never_have_the_name_of_a_field_with_a_meaning(name: str) -> None:
    with pytest.raises(ValueError, match="another meaning"):
        values.identity_header_name(name)
# fmt: on


@pytest.mark.parametrize("name", ["", " ", "x user", "x:y", "x\r\ny", "größe", "x-user\0", "(x)", "--", "_"])
@pytest.mark.rule("R359")
def test_identity_headers_are_tokens(name: str) -> None:
    """RFC 9110 section 5.6.2."""
    with pytest.raises(ValueError, match="not a header name"):
        values.identity_header_name(name)


@given(st.text(alphabet=st.characters(max_codepoint=127), max_size=30))
@pytest.mark.rule("R341")
def test_names_fold_here_as_they_fold_where_requests_are_cleaned(name: str) -> None:
    """Two identity headers that one stripped name covers are found at the start."""
    assert values.fold_header_name(name).encode() == names.fold(name.encode())


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP))
@pytest.mark.rule("R359")
def test_no_hop_by_hop_field_can_be_an_identity_header(name: bytes) -> None:
    """The list of the configuration is not shorter than the one of the data path."""
    with pytest.raises(ValueError, match="another meaning"):
        values.identity_header_name(name.decode())


@pytest.mark.parametrize(
    "source", ["sub", "$scopes", "$issuer", "$client", ["realm_access", "roles"], ["$odd"], ["https://a.example/b"]]
)
def test_a_claim_source_is_a_claim_a_path_or_an_own_name(source: str | list[str]) -> None:
    assert values.claim_source(source) == source


@pytest.mark.parametrize("source", ["", "$scope", "$", [], ["$scopes"]])
def test_other_claim_sources_are_refused(source: str | list[str]) -> None:
    with pytest.raises(ValueError, match=r"is empty; name a claim|own names"):
        values.claim_source(source)


@pytest.mark.parametrize("text", ["orders:read", "https://api.example/.default", "!", "~"])
def test_a_scope_is_one_word(text: str) -> None:
    assert values.scope(text) == text


@pytest.mark.parametrize("text", ["", "a b", 'a"', "a\\b", "größe", "a\n", " a"])
def test_other_scopes_are_refused(text: str) -> None:
    """RFC 6749 section 3.3."""
    with pytest.raises(ValueError, match="not a scope"):
        values.scope(text)


@pytest.mark.parametrize("text", ['a"b', "a\\b", "a\nb", "ü", "x" * 201])
def test_the_realm_needs_no_escapes(text: str) -> None:
    with pytest.raises(ValueError, match="must be printable ASCII"):
        values.quoted_text(text)
    assert values.quoted_text("API of Example, Inc.") == "API of Example, Inc."


@pytest.mark.parametrize(
    "text",
    ["https://idp.example/keys", "http://127.0.0.1:8080", "https://[2001:db8::1]:8443/", "HTTPS://idp.example/?p=b2c"],
)
def test_urls_are_absolute_http(text: str) -> None:
    assert values.optional_http_url(text) == text
    assert values.optional_http_url("") == ""


# fmt: off
@pytest.mark.parametrize(
    "text",
    ["idp.example", "//idp.example", "/keys", "ftp://idp.example/", "file:///etc/passwd", "javascript:alert(1)",
     "http://", "http:///keys", "http://host:", "http://host:0", "http://host:65536", "http://host:http/",
     "http://host/#keys", "http://ho st/", "http://host\\@evil/", "http://[::1", "http://[::z]/", "http://h/\n",
     "http://größe/", "http://a..b/", "http://host /"],
)
def test_other_urls_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        values.optional_http_url(text)
# fmt: on


@pytest.mark.parametrize(
    "text", ["https://user:s3cret@idp.example/", "https://s3cret@idp.example", "https://@idp.example"]
)
@pytest.mark.rule("R384")
def test_credentials_in_a_url_are_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="credentials do not belong in URLs") as caught:
        values.upstream_url(text)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("text", ["http://h/?", "http://h/?a=b", "http://h/a/../b", "http://h/%2E%2e/", "http://h//a"])
def test_an_upstream_url_is_a_base(text: str) -> None:
    with pytest.raises(ValueError, match=r"query|segment"):
        values.upstream_url(text)
    assert values.upstream_url("https://orders.internal/v1/") == "https://orders.internal/v1/"


# fmt: off
@pytest.mark.parametrize(
    ("text", "result"),
    [("API.Example.com", "api.example.com"), ("api.example.", "api.example"), ("[2001:DB8::0:1]", "[2001:db8::1]"),
     ("192.0.2.1", "192.0.2.1"), ("my_host", "my_host"), ("xn--gre-6ka8i.example", "xn--gre-6ka8i.example")],
)
@pytest.mark.rule("R243")
def test_hosts_are_compared_in_one_form(text: str, result: str) -> None:
    assert values.host(text) == result
# fmt: on


# fmt: off
@pytest.mark.parametrize(
    "text",
    ["", ".", "api.example:443", "::1", "[::1]:80", "[::z]", "[fe80::1%eth0]",
     "*.example.com", "größe.example", "a..b", "a b", "-", "x" * 254,
     "http://host", "host/", "host\n"],
)
def test_other_hosts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        values.host(text)
# fmt: on


@pytest.mark.rule("R223", "R224")
def test_methods_are_tokens_in_upper_case_that_are_served() -> None:
    """CONNECT and TRACE on a route could never apply."""
    assert values.method("PURGE") == "PURGE"
    with pytest.raises(ValueError, match="write GET"):
        values.method("get")
    for text in ("", "GET POST", "GET,POST", "GÉT", "GET\n"):
        with pytest.raises(ValueError, match="not a method"):
            values.method(text)
    for text in ("CONNECT", "TRACE"):
        with pytest.raises(ValueError, match="never served"):
            values.method(text)


@pytest.mark.rule("R226")
def test_methods_that_no_request_can_have_are_refused() -> None:
    """Such a route would never be found."""
    for text in ("FOO", "M-SEARCH", "X_2", "A" * 32):
        assert values.method(text) == text
    for text in ("A" * 33, "GET!", "GET.POST", "A~"):
        with pytest.raises(ValueError, match="is not a method: 1 to 32"):
            values.method(text)


@pytest.mark.parametrize("text", ["unix", "10.0.0.0/8", "2001:db8::1"])
@pytest.mark.rule("R411")
def test_proxies_are_networks_or_clients_of_a_unix_socket(text: str) -> None:
    assert values.proxies(text).startswith(text)
    for other in ("unix:", "unix:/run/a.sock", "UNIX", "", "proxy.test"):
        with pytest.raises(ValueError, match="IP address or a CIDR block"):
            values.proxies(other)


@pytest.mark.rule("R402")
def test_any_header_that_the_gateway_does_not_need_can_be_stripped() -> None:
    """Names are compared folded; those that are dropped or made anyway do no harm."""
    for text in ("X-Team", "x_team", "Cookie", "X-User-Id", "X-Forwarded-For", "Expect", "TE"):
        assert values.stripped_header(text) == text.lower()


@pytest.mark.parametrize(
    "text",
    [
        *("Authorization", "Host", "content_length", "Transfer-Encoding", "connection", "Upgrade", "Via", "DPoP"),
        *("X-Request-Id", "Sec-WebSocket-Key", "HTTP_HOST"),
    ],
)
@pytest.mark.rule("R402")
def test_headers_that_the_gateway_works_with_cannot_be_stripped(text: str) -> None:
    """The option would say something else than what it does."""
    with pytest.raises(ValueError, match="leave it out"):
        values.stripped_header(text)


@pytest.mark.parametrize("text", ["", "*", "X-*", "a b", "-", "x:y", "é", "a\n"])
def test_only_names_can_be_stripped(text: str) -> None:
    with pytest.raises(ValueError, match="not a header name"):
        values.stripped_header(text)


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST.", "idp.localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_loopback_is_known_by_name(name: str) -> None:
    assert values.is_loopback(name)


@pytest.mark.parametrize(
    "name", ["", "localhost.example", "mylocalhost", "10.0.0.1", "128.0.0.1", "127.0.0.1.example", "::2"]
)
def test_nothing_else_is_loopback(name: str) -> None:
    assert not values.is_loopback(name)


def test_addresses_are_split_into_host_and_port() -> None:
    assert values.split_address("[::]:80") == ("::", 80)
    assert values.split_address("127.0.0.1:0") == ("127.0.0.1", 0)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("*", "*"),
        ("https://app.test", "https://app.test"),
        ("HTTPS://App.Test:443", "https://app.test"),
        ("http://app.test:80", "http://app.test"),
        ("http://app.test:443", "http://app.test:443"),
        ("http://localhost:5173", "http://localhost:5173"),
        ("https://[2001:DB8::1]:8443", "https://[2001:db8::1]:8443"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("https://app.test:0443", "https://app.test"),
    ],
)
@pytest.mark.rule("C72")
def test_an_origin_is_written_as_browsers_write_it(text: str, result: str) -> None:
    """It is compared byte for byte."""
    assert values.web_origin(text) == result


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "app.test",
        "https://",
        "https://app.test/",
        "https://app.test/path",
        "https://*.app.test",
        "https://app.test:",
        "https://app.test:port",
        "https://app.test:65536",
        "https://user@app.test",
        "https://app.test?x",
        "//app.test",
        "https://app.test,https://b.test",
        "https://app test",
        "https://ä.test",
    ],
)
def test_other_origins_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"origin|host|ASCII|wildcards"):
        values.web_origin(text)


def test_names_of_fields_are_compared_in_lower_case() -> None:
    assert values.field_name("X-Trace") == "x-trace"
    with pytest.raises(ValueError, match="leave the list empty"):
        values.field_name("*")
    for text in ("", "a b", "a:", "ä"):
        with pytest.raises(ValueError, match="not a header name"):
            values.field_name(text)


@pytest.mark.parametrize(
    ("text", "block"),
    [
        ("::ffff:127.0.0.0/104", "127.0.0.0/8"),
        ("::ffff:10.1.2.3", "10.1.2.3/32"),
        ("::FFFF:C000:0200/120", "192.0.2.0/24"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/0", "::/0"),
        ("::/96", "::/96"),
    ],
)
@pytest.mark.rule("R416", "C108")
def test_a_block_of_mapped_addresses_is_the_ipv4_block(text: str, block: str) -> None:
    """Peers over an IPv6 socket are known by their IPv4 address, so `::ffff:...` would never match."""
    assert values.network(text) == block


@pytest.mark.rule("R416")
def test_the_fault_of_a_mapped_block_names_the_ipv4_block() -> None:
    with pytest.raises(ValueError, match=r"the block is 10\.0\.0\.0/8"):
        values.network("::ffff:10.1.2.3/104")


@pytest.mark.rule("R416")
def test_a_mapped_loopback_address_is_loopback_on_every_python() -> None:
    """`is_loopback` of the standard library looks through the mapping from Python 3.13 on only."""
    assert values.is_loopback("::ffff:127.0.0.1")
    assert not values.is_loopback("::ffff:10.0.0.1")


@pytest.mark.parametrize("name", ["x-api-key", "API-Key", "apikey", "Partner_Key", "x.key", "token"])
def test_field_of_a_key_may_have_any_free_name(name: str) -> None:
    assert values.credential_header_name(name) == name.lower()


_UNFREE = [
    *("authorization", "Host", "connection", "Cookie", "set-cookie", "content-length", "transfer-encoding", "upgrade"),
    *("sec-websocket-protocol", "x-request-id", "X-Forwarded-For", "x_forwarded_for", "HTTP_COOKIE", "forwarded"),
    *("origin", "access-control-request-method", "accept-language", "content-language", "if-match", "traceparent"),
    *("", " ", "a b", "a:b", "é", "-", "x-api-key\n"),
]


@pytest.mark.parametrize("name", _UNFREE)
def test_field_of_a_key_is_none_that_means_something_else(name: str) -> None:
    with pytest.raises(ValueError, match=r"meaning|not a header name"):
        values.credential_header_name(name)


@pytest.mark.rule("R250", "R340")
def test_no_field_that_the_gateway_acts_on_can_hold_a_key() -> None:
    """The list here and that of the header rules agree."""
    for name in names.MEANINGFUL:
        with pytest.raises(ValueError, match="meaning"):
            values.credential_header_name(name.decode())


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyzABC0123456789-_.~", min_size=1, max_size=12))
def test_field_that_can_hold_a_key_is_sent_on_elsewhere(name: str) -> None:
    """On a route that takes no keys it is an ordinary one, unless services take it from proxies."""
    try:
        values.credential_header_name(name)
    except ValueError:
        return
    policy = names.header_policy((), b"gw", plain_only=False)
    assert is_claimed(names.fold(name.encode())) or policy.meaning(name.encode()) is Meaning.KEPT
