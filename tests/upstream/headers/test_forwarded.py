"""X-Forwarded-*, Forwarded, and the client's address: whose word counts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.http1.trusted_proxies import UNIX, ForwardedFields, Peer, address_text, parse_node
from gateway.upstream.headers import forwarded
from gateway.upstream.headers.forwarded import (
    MAX_SAID,
    Forwarding,
    client_address,
    external_origin,
    forwarding_headers,
    http_scheme,
    parse_forwarded,
)
from gateway.upstream.headers.header_policy import HeaderPolicy, header_policy
from tests.support.calls import recorded_calls
from tests.support.kept_memory import kept_memory
from tests.support.wire.heads import upstream_section

PROXIES = ["10.0.0.0/8", "2001:db8:1::/48"]
TRUSTING = header_policy((), b"gw", PROXIES, fields="both")
PROXY = Peer(b"10.0.0.1", False, 8080)
STRANGER = Peer(b"192.0.2.7", False, 8080)

SPOOFED = (
    (b"X-Forwarded-For", b"1.1.1.1"),
    (b"X-Forwarded-Proto", b"https"),
    (b"X-Forwarded-Host", b"admin.test"),
    (b"X-Forwarded-Port", b"443"),
    (b"Forwarded", b"for=1.2.3.4;proto=https"),
)


def sent(
    *headers: tuple[bytes, bytes],
    peer: Peer = PROXY,
    client_host: bytes = b"api.test",
    policy: HeaderPolicy = TRUSTING,
) -> dict[bytes, list[bytes]]:
    """The forwarding fields that the upstream gets, by lower-case name."""
    section = upstream_section(headers, policy=policy, peer=peer, client_host=client_host)
    found: dict[bytes, list[bytes]] = {}
    for name, value in section:
        if b"forwarded" in name.lower():
            found.setdefault(name.lower(), []).append(value)
    return found


@pytest.mark.rule("C54", "R256", "R258")
def test_strangers_are_not_believed() -> None:
    """One line each with the real values, Forwarded dropped; by default no proxy is trusted."""
    real = {
        b"x-forwarded-for": [b"192.0.2.7"],
        b"x-forwarded-proto": [b"http"],
        b"x-forwarded-host": [b"api.test"],
        b"x-forwarded-port": [b"8080"],
    }
    assert sent(*SPOOFED, *SPOOFED, peer=STRANGER) == real
    assert sent(peer=STRANGER) == real
    nobody = header_policy((), b"gw")
    assert sent(*SPOOFED, peer=PROXY, policy=nobody) == real | {b"x-forwarded-for": [b"10.0.0.1"]}


@pytest.mark.rule("C54", "R256", "R258")
def test_trusted_proxy_is_continued() -> None:
    """Appended to one line."""
    assert sent(*SPOOFED) == {
        b"x-forwarded-for": [b"1.1.1.1, 10.0.0.1"],
        b"x-forwarded-proto": [b"https"],
        b"x-forwarded-host": [b"admin.test"],
        b"x-forwarded-port": [b"443"],
        b"forwarded": [b"for=1.2.3.4;proto=https, for=10.0.0.1;host=api.test;proto=http"],
    }


@pytest.mark.rule("C54", "R256")
def test_several_lines_of_a_trusted_proxy_become_one() -> None:
    """In order; of single values the last is the proxy's own."""
    found = sent(
        (b"X-Forwarded-For", b"1.1.1.1,2.2.2.2"),
        (b"x-forwarded-for", b" 3.3.3.3 ,, "),
        (b"X-Forwarded-Proto", b"http, HTTPS"),
        (b"X-Forwarded-Host", b"evil.test"),
        (b"X-Forwarded-Host", b"good.test:8443"),
        (b"Forwarded", b"for=1.1.1.1"),
        (b"Forwarded", b"for=2.2.2.2"),
    )
    assert found[b"x-forwarded-for"] == [b"1.1.1.1, 2.2.2.2, 3.3.3.3, 10.0.0.1"]
    assert found[b"x-forwarded-proto"] == [b"https"]
    assert found[b"x-forwarded-host"] == [b"good.test:8443"]
    assert found[b"x-forwarded-port"] == [b"8080"]
    assert found[b"forwarded"] == [b"for=1.1.1.1, for=2.2.2.2, for=10.0.0.1;host=api.test;proto=http"]


@pytest.mark.rule("R258")
def test_what_a_trusted_proxy_quotes_in_forwarded_is_continued_byte_for_byte() -> None:
    """RFC 7239 section 4: a comma within quotes ends nothing."""
    received = b'for=1.1.1.1;secret="a ,b",  for="[2001:db8::1]"'
    (continued,) = sent((b"Forwarded", b" " + received))[b"forwarded"]
    assert continued == received + b", for=10.0.0.1;host=api.test;proto=http"


@pytest.mark.rule("R258")
def test_trusted_proxy_that_says_nothing_adds_nothing_but_its_address() -> None:
    """Forwarded is continued, not begun."""
    assert sent() == {
        b"x-forwarded-for": [b"10.0.0.1"],
        b"x-forwarded-proto": [b"http"],
        b"x-forwarded-host": [b"api.test"],
        b"x-forwarded-port": [b"8080"],
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((b"X-Forwarded-Proto", value) for value in (b"javascript", b"httpss", b"http://", b"", b"https;x", b"\xe9")),
        *((b"X-Forwarded-Host", value) for value in (b"a b", b"h/x", b"u@h", b'h"', b"\xe9", b"h" * 300)),
        *((b"X-Forwarded-Port", value) for value in (b"x", b"-1", b"123456", b"8 0", b"")),
    ],
)
@pytest.mark.rule("R256")
def test_nonsense_from_a_trusted_proxy_is_replaced(name: bytes, value: bytes) -> None:
    """A value that cannot be what its name says is the gateway's own instead."""
    assert sent((name, value)) == sent()


@pytest.mark.parametrize(
    "value", [b"for", b"for=", b'for="a', b"for=a;", b"for=a;for=b", b"a=b c=d", b"for=\xe9", b";"]
)
@pytest.mark.rule("R258")
def test_malformed_forwarded_is_not_passed_on(value: bytes) -> None:
    """The peer's own element begins a new one."""
    assert parse_forwarded(value) is None
    assert sent((b"Forwarded", value))[b"forwarded"] == [b"for=10.0.0.1;host=api.test;proto=http"]


@pytest.mark.rule("R258")
def test_ipv6_and_ports_are_quoted_in_forwarded() -> None:
    """RFC 7239 section 6. Over TLS the proto is https."""
    peer = Peer(b"2001:db8:1::5", True, 443)
    found = sent((b"Forwarded", b"for=_x"), peer=peer, client_host=b"api.test:8443")
    assert found[b"forwarded"] == [b'for=_x, for="[2001:db8:1::5]";host="api.test:8443";proto=https']
    assert found[b"x-forwarded-for"] == [b"_x, 2001:db8:1::5"]
    assert found[b"x-forwarded-proto"] == [b"https"]
    for host in (b"", b'a"b', b"a;b"):
        assert b"host=" not in sent((b"Forwarded", b"for=_x"), peer=peer, client_host=host)[b"forwarded"][0]


def client_of(policy: HeaderPolicy, *headers: tuple[bytes, bytes], peer: Peer = PROXY) -> tuple[bytes, bytes, bytes]:
    """Address, scheme and host of the client as the rules see them."""
    return (
        client_address(headers, policy.trusted, peer),
        *external_origin(headers, policy.trusted, peer, b"inner.test"),
    )


WRITTEN_BY_PROXY = {
    "x-forwarded": (
        (b"X-Forwarded-For", b"203.0.113.9"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Forwarded-Host", b"api.test"),
    ),
    "forwarded": ((b"Forwarded", b"for=203.0.113.9;proto=https;host=api.test"),),
}


@pytest.mark.parametrize(("kind", "other"), [("x-forwarded", "forwarded"), ("forwarded", "x-forwarded")])
@pytest.mark.rule("R417", "C110")
def test_the_kind_of_field_that_the_proxy_does_not_write_is_the_clients_and_never_counts(
    kind: ForwardedFields, other: str
) -> None:
    """CWE-348: neither for the rules nor for the service, alone or beside the proxy's own."""
    policy = header_policy((), b"gw", PROXIES, fields=kind)
    swapped = {"203.0.113.9": "6.6.6.6", "https": "http", "api.test": "evil.test"}
    forged = tuple(
        (name, next(value.replace(a.encode(), b.encode()) for a, b in swapped.items() if a.encode() in value))
        for name, value in WRITTEN_BY_PROXY[other]
    ) + ((b"X-Forwarded-Port", b"666"),) * (other == "x-forwarded")
    true = WRITTEN_BY_PROXY[kind]
    for headers in ((*forged, *true), (*true, *forged)):
        assert client_of(policy, *headers) == (b"203.0.113.9", b"https", b"api.test")
        assert sent(*headers, policy=policy) == sent(*true, policy=policy)
    assert client_of(policy, *forged) == (b"10.0.0.1", b"http", b"inner.test")
    assert sent(*forged, policy=policy) == sent(policy=policy)


@pytest.mark.parametrize("kind", ["x-forwarded", "forwarded", "both"])
@pytest.mark.rule("R256", "R417")
def test_the_service_gets_what_the_rules_have_seen(kind: ForwardedFields) -> None:
    """Whichever kind the proxy writes."""
    policy = header_policy((), b"gw", PROXIES, fields=kind)
    found = sent(*WRITTEN_BY_PROXY["forwarded" if kind == "both" else kind], policy=policy)
    assert found[b"x-forwarded-for"] == [b"203.0.113.9, 10.0.0.1"]
    assert (found[b"x-forwarded-proto"], found[b"x-forwarded-host"]) == ([b"https"], [b"api.test"])
    assert (b"forwarded" in found) is (kind != "x-forwarded")


@pytest.mark.parametrize(
    ("headers", "scheme", "said"),
    [
        (((b"X-Forwarded-Proto", b"wss"),), b"https", b"wss"),
        (((b"X-Forwarded-Proto", b"WSS"),), b"https", b"wss"),
        (((b"X-Forwarded-Proto", b"http, wss"),), b"https", b"wss"),
        (((b"X-Forwarded-Proto", b"ws"),), b"http", b"ws"),
        (((b"X-Forwarded-Proto", b"wsss"),), b"http", b"http"),
        (((b"Forwarded", b"for=192.0.2.1;proto=wss"),), b"https", b"wss"),
        (((b"Forwarded", b"for=192.0.2.1;proto=Ws"),), b"http", b"ws"),
    ],
)
@pytest.mark.rule("R410", "C106")
def test_schemes_of_websockets_mean_those_of_http(
    headers: tuple[tuple[bytes, bytes], ...], scheme: bytes, said: bytes
) -> None:
    """Traefik writes them; services know http and https."""
    assert sent(*headers)[b"x-forwarded-proto"] == [scheme]
    assert external_origin(headers, TRUSTING.trusted, PROXY, b"h")[0] == said
    assert http_scheme(said) == scheme


SOCKET = Peer(UNIX, False, 0)


@pytest.mark.rule("R411", "C103")
def test_the_peer_of_a_unix_socket_is_believed_where_it_is_named() -> None:
    """And is an address of its own, for the log and for limits, where it is not."""
    policy = header_policy((), b"gw", ["unix", "10.0.0.0/8"])
    written = WRITTEN_BY_PROXY["x-forwarded"]
    assert client_of(policy, *written, peer=SOCKET) == (b"203.0.113.9", b"https", b"api.test")
    found = sent(*written, policy=policy, peer=SOCKET)
    assert (found[b"x-forwarded-for"], found[b"x-forwarded-proto"]) == ([b"203.0.113.9, unix"], [b"https"])
    assert client_of(policy, peer=SOCKET)[0] == b"unix"
    for stranger in (TRUSTING, header_policy((), b"gw")):
        assert client_of(stranger, *written, peer=SOCKET) == (b"unix", b"http", b"inner.test")
        assert sent(*written, policy=stranger, peer=SOCKET)[b"x-forwarded-for"] == [b"unix"]


@pytest.mark.rule("R411")
def test_a_unix_socket_between_two_trusted_proxies_hides_no_client() -> None:
    """What the first gateway of a chain wrote of its own peer is read by the second."""
    chain = (b"X-Forwarded-For", b"6.6.6.6, 203.0.113.9, unix, 10.0.0.2")
    assert client_of(header_policy((), b"gw", ["unix", "10.0.0.0/8"]), chain)[0] == b"203.0.113.9"
    assert client_of(header_policy((), b"gw", ["10.0.0.0/8"]), chain)[0] == b"unix"
    policy = header_policy((), b"gw", ["unix"], fields="forwarded")
    first = (b"Forwarded", b"for=203.0.113.9;proto=https")
    continued = sent(first, policy=policy, peer=SOCKET)[b"forwarded"][0]
    assert continued == b"for=203.0.113.9;proto=https, for=_unix;host=api.test;proto=http"
    assert client_of(policy, (b"Forwarded", continued), peer=SOCKET)[0] == b"203.0.113.9"


@pytest.mark.rule("R256")
def test_what_is_no_socket_has_neither_address_nor_port() -> None:
    """No proxy to trust, nothing made up."""
    peer = Peer(address_text(""), False, 0)
    assert sent(*SPOOFED, peer=peer, client_host=b"") == {
        b"x-forwarded-for": [b"unknown"],
        b"x-forwarded-proto": [b"http"],
    }


# --- the client's address ---


@pytest.mark.parametrize(
    ("chain", "address"),
    [
        ([b"1.1.1.1, 2.2.2.2"], b"2.2.2.2"),
        ([b"1.1.1.1", b"2.2.2.2"], b"2.2.2.2"),
        ([b"1.1.1.1, 2.2.2.2, 10.9.9.9"], b"2.2.2.2"),
        ([b"1.1.1.1, 2.2.2.2, 10.9.9.9, 2001:db8:1::7"], b"2.2.2.2"),
        ([b"10.1.1.1, 10.2.2.2"], b"10.1.1.1"),
        ([b"2.2.2.2:4711"], b"2.2.2.2"),
        ([b"[2001:db8::1]:4711"], b"2001:db8::1"),
        ([b"2001:DB8:0::1"], b"2001:db8::1"),
        ([b"::ffff:2.2.2.2"], b"2.2.2.2"),
        ([b"::ffff:10.2.2.2"], b"10.2.2.2"),
        ([b"1.1.1.1, unknown"], b"10.0.0.1"),
        ([b"1.1.1.1, _hidden, 10.2.2.2"], b"10.2.2.2"),
        ([b"1.1.1.1, 2.2.2.2.2"], b"10.0.0.1"),
        ([b"1.1.1.1, <script>"], b"10.0.0.1"),
        ([b""], b"10.0.0.1"),
        ([], b"10.0.0.1"),
    ],
)
@pytest.mark.rule("R257")
def test_client_address_is_the_first_untrusted_one_from_the_right(chain: list[bytes], address: bytes) -> None:
    """What stands left of it is the client's story."""
    headers = [(b"X-Forwarded-For", value) for value in chain]
    assert client_address(headers, TRUSTING.trusted, PROXY) == address
    assert client_address(headers, TRUSTING.trusted, STRANGER) == b"192.0.2.7"
    assert client_address(headers, header_policy((), b"gw").trusted, PROXY) == b"10.0.0.1"


@pytest.mark.parametrize(
    ("value", "address"),
    [
        (b"for=1.1.1.1, for=2.2.2.2", b"2.2.2.2"),
        (b'for=1.1.1.1, FOR="[2001:db8::1]:80";proto=http, for=10.1.1.1', b"2001:db8::1"),
        (b"for=1.1.1.1;by=_x,,for=2.2.2.2", b"2.2.2.2"),
        (b'for="2.2.2.2:_port"', b"2.2.2.2"),
        (b"for=1.1.1.1, for=_x", b"10.0.0.1"),
        (b"for=1.1.1.1, for=unknown", b"10.0.0.1"),
        (b"for=1.1.1.1, proto=https", b"10.0.0.1"),
        (b'for=1.1.1.1, for="', b"10.0.0.1"),
        (b'for=1.1.1.1;host="a, for=2.2.2.2"', b"1.1.1.1"),
    ],
)
@pytest.mark.rule("R258", "R257")
def test_client_address_from_forwarded(value: bytes, address: bytes) -> None:
    """Quoted addresses, obfuscated ids; a comma inside a quoted host begins no element."""
    assert client_address([(b"forwarded", value)], TRUSTING.trusted, PROXY) == address


@pytest.mark.rule("R257")
def test_x_forwarded_for_comes_before_forwarded() -> None:
    """Most proxies write only the former and let the latter through."""
    headers = [(b"Forwarded", b"for=1.1.1.1"), (b"X-Forwarded-For", b"2.2.2.2"), (b"X_Forwarded_For", b"3.3.3.3")]
    assert client_address(headers, TRUSTING.trusted, PROXY) == b"2.2.2.2"


_ELEMENTS = st.lists(
    st.dictionaries(
        st.sampled_from([b"for", b"by", b"host", b"proto", b"ext"]),
        st.from_regex(rb"\A[ -~]{0,8}\Z"),
        min_size=1,
    ),
    min_size=1,
    max_size=4,
)


@given(_ELEMENTS)
@pytest.mark.rule("R258")
def test_forwarded_is_read_as_it_was_written(elements: list[dict[bytes, bytes]]) -> None:
    """Every quoted value, with commas, semicolons, quotes and backslashes."""

    def quoted(value: bytes) -> bytes:
        return b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'

    written = b", ".join(b";".join(name + b"=" + quoted(value) for name, value in each.items()) for each in elements)
    assert parse_forwarded(written) == elements


@given(st.binary(max_size=60) | st.text('for=";,\\ab ', max_size=30).map(str.encode), st.booleans())
@example(b"unix", True)  # as nginx behind a Unix socket says of its clients
@pytest.mark.rule("R256", "R257", "R258")
def test_any_forwarding_field_gives_one_line_each(value: bytes, trusted: bool) -> None:
    """Nothing raises, no address is made up, the peer always stands last."""
    received = [(b"X-Forwarded-For", value), (b"Forwarded", value), (b"X-Forwarded-Host", value)]
    policy = TRUSTING if trusted else header_policy((), b"gw")
    headers = forwarding_headers(received, PROXY, b"h", trusted=policy.trusted)
    names = [name for name, _ in headers]
    assert len(names) == len(set(names))
    fields = dict(headers)
    assert fields[b"X-Forwarded-For"].endswith(b"10.0.0.1")
    if b"Forwarded" in fields:
        elements = parse_forwarded(fields[b"Forwarded"])
        assert elements is not None
        assert elements[-1] == {b"for": b"10.0.0.1", b"host": b"h", b"proto": b"http"}
    address = client_address(received, policy.trusted, PROXY)
    assert parse_node(address) is not None or (trusted and address == UNIX)


HTTPS = Peer(b"10.0.0.1", True, 8443)


@pytest.mark.parametrize(
    ("headers", "origin"),
    [
        ((), (b"http", b"inner.test")),
        (SPOOFED, (b"https", b"admin.test")),
        (((b"X-Forwarded-Proto", b"HTTPS"),), (b"https", b"inner.test")),
        (((b"X-Forwarded-Host", b"a.test, b.test:8443"),), (b"http", b"b.test:8443")),
        (((b"X-Forwarded-Host", b"a.test/x"), (b"X-Forwarded-Proto", b"ftp")), (b"http", b"inner.test")),
        (((b"Forwarded", b"for=192.0.2.1;proto=https;host=a.test"),), (b"https", b"a.test")),
        (((b"Forwarded", b'for=192.0.2.1;proto=ftp;host="a b"'),), (b"http", b"inner.test")),
        (((b"Forwarded", b"for=192.0.2.1;proto=https;host=a.test;"),), (b"http", b"inner.test")),
        # The element of the proxy nearest to the client; what stands before it is the client's own story.
        (
            ((b"Forwarded", b"for=1.1.1.1;host=evil.test, for=192.0.2.1;host=a.test"), (b"Forwarded", b"for=10.0.0.2")),
            (b"http", b"a.test"),
        ),
        (((b"Forwarded", b"for=192.0.2.1;host=a.test, for=_hidden;host=b.test"),), (b"http", b"b.test")),
        (((b"Forwarded", b"for=192.0.2.1;host=a.test"), (b"X-Forwarded-Host", b"c.test")), (b"http", b"c.test")),
    ],
)
@pytest.mark.rule("R135", "R256")
def test_the_clients_address_of_the_gateway_is_a_trusted_proxys_word(
    headers: tuple[tuple[bytes, bytes], ...], origin: tuple[bytes, bytes]
) -> None:
    """No other proxy's."""
    assert external_origin(headers, TRUSTING.trusted, PROXY, b"inner.test") == origin
    assert external_origin(headers, TRUSTING.trusted, STRANGER, b"inner.test") == (b"http", b"inner.test")


@pytest.mark.rule("R135")
def test_without_a_word_the_connection_counts() -> None:
    assert external_origin((), TRUSTING.trusted, HTTPS, b"a.test") == (b"https", b"a.test")


# --- what is remembered by value ---

_SAID = st.lists(
    st.tuples(
        st.sampled_from(
            [b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", b"forwarded"]
        ),
        st.sampled_from([b"", b"1.1.1.1", b"1.1.1.1, 10.0.0.2", b"https", b"a.test", b"443", b"for=2.2.2.2", b"\xff"]),
    ),
    max_size=3,
).map(tuple)
_PEERS = st.sampled_from(
    [PROXY, STRANGER, Peer(b"10.0.0.1", True, 8080), Peer(b"10.0.0.1", False, 9090), SOCKET, HTTPS]
)
_REMEMBERING = Forwarding(TRUSTING.trusted, b"gw")


@given(_SAID, _PEERS, st.sampled_from([b"", b"api.test", b"api.test:1", b"other.test"]), st.booleans())
@pytest.mark.rule("R254", "R256", "R257", "R258")
def test_what_is_remembered_is_what_follows_from_the_lines_and_the_connection(
    said: tuple[tuple[bytes, bytes], ...], peer: Peer, client_host: bytes, http_11: bool
) -> None:
    """Of no other lines, no other peer, no other port, scheme, host or version."""
    pairs = forwarding_headers(said, peer, client_host, trusted=TRUSTING.trusted)
    via = b"1.1 gw" if http_11 else b"1.0 gw"
    lines = b"".join(b"%b: %b\r\n" % pair for pair in [*pairs, (b"Via", via)])
    for _ in range(2):
        assert _REMEMBERING.lines(peer, said, client_host, http_11=http_11) == lines
        assert _REMEMBERING.client(peer, said) == client_address(said, TRUSTING.trusted, peer).decode()


def ask_for_many(forwarding: Forwarding, asked: str) -> None:
    for number in range(1000):
        said = ((b"x-forwarded-for", b"2.2.%d.%d" % divmod(number, 256)),)
        if asked == "client":
            assert forwarding.client(PROXY, said) == f"2.2.{number >> 8}.{number & 255}"
        else:
            lines = forwarding.lines(PROXY, said, b"h", http_11=True)
            assert b"2.2.%d.%d, 10.0.0.1\r\n" % divmod(number, 256) in lines


def ask_for_long(forwarding: Forwarding, asked: str) -> None:
    for number in range(256):
        long = ((b"x-forwarded-for", b"3.3.3.3, " * (MAX_SAID // 9 + 1) + b"4.4.%d.4" % number),)
        if asked == "client":
            assert forwarding.client(PROXY, long) == f"4.4.{number}.4"
        elif asked == "lines":
            assert b"4.4.%d.4, 10.0.0.1\r\n" % number in forwarding.lines(PROXY, long, b"h", http_11=True)
        else:
            host = b"h" * MAX_SAID + b"%d" % number
            assert host + b"\r\n" in forwarding.lines(PROXY, (), host, http_11=True)


@pytest.mark.parametrize(
    ("ask", "asked"),
    [(ask_for_many, "client"), (ask_for_many, "lines")]
    + [(ask_for_long, asked) for asked in ("client", "lines", "host")],
)
@pytest.mark.rule("R191")
def test_what_is_remembered_of_clients_takes_bounded_memory(
    ask: Callable[[Forwarding, str], None], asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CWE-770: in number and in length; all of it is theirs to choose."""
    if ask is ask_for_many:
        monkeypatch.setattr(forwarded, "MAX_CLIENTS", 10)
    ask(Forwarding(TRUSTING.trusted, b"gw"), asked)  # which addresses are trusted is remembered by then
    forwarding = Forwarding(TRUSTING.trusted, b"gw")
    with kept_memory() as kept:
        ask(forwarding, asked)
    assert kept.size < 20_000


@pytest.mark.rule("R191")
def test_many_short_forwarding_lines_are_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """CWE-770: a line in memory takes many times its bytes, and a head may have a thousand of them without a value."""
    forwarding = Forwarding(TRUSTING.trusted, b"gw")
    said = ((b"x-forwarded-for", b"2.2.2.2"), *[(b"x-forwarded-for", b"")] * 900)
    read = recorded_calls(monkeypatch, "gateway.upstream.headers.forwarded.client_address")
    rendered = recorded_calls(monkeypatch, "gateway.upstream.headers.forwarded.render_lines")
    for _ in range(2):
        assert forwarding.client(PROXY, said) == "2.2.2.2"
        assert b"2.2.2.2, 10.0.0.1\r\n" in forwarding.lines(PROXY, said, b"h", http_11=True)
    assert (len(read), len(rendered)) == (2, 2)


@pytest.mark.rule("R191")
def test_of_clients_that_are_not_believed_nothing_that_they_say_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """CWE-770: it says nothing, so all of it is one entry."""
    forwarding = Forwarding(TRUSTING.trusted, b"gw")
    read = recorded_calls(monkeypatch, "gateway.upstream.headers.forwarded.client_address")
    rendered = recorded_calls(monkeypatch, "gateway.upstream.headers.forwarded.render_lines")
    for number in range(3):
        said = ((b"x-forwarded-for", b"2.2.2.%d" % number),)
        assert forwarding.client(STRANGER, said) == "192.0.2.7"
        assert b"X-Forwarded-For: 192.0.2.7\r\n" in forwarding.lines(STRANGER, said, b"h", http_11=True)
    assert (len(read), len(rendered)) == (1, 1)


@pytest.mark.rule("R256", "R402")
def test_a_stripped_forwarding_field_is_not_sent_on_whatever_wrote_it() -> None:
    """The service gets the connection's own in its place; the rules believe the trusted proxy all the same."""
    names = ["x-forwarded-for", "X_Forwarded_Host", "forwarded"]
    policy = header_policy((), b"gw", PROXIES, fields="both", stripped=names)
    assert sent(*SPOOFED, policy=policy) == {
        b"x-forwarded-for": [b"10.0.0.1"],
        b"x-forwarded-proto": [b"https"],
        b"x-forwarded-host": [b"api.test"],
        b"x-forwarded-port": [b"443"],
    }
    assert Forwarding(policy.trusted, b"gw", policy.stripped).client(PROXY, ((b"x-forwarded-for", b"1.1.1.1"),)) == (
        "1.1.1.1"
    )
