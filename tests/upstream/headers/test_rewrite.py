"""Header sections in both directions: what goes, what stays as it is, what the gateway adds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http1.fields import connection_options
from gateway.http1.request_head import MalformedError
from gateway.http1.trusted_proxies import Peer
from gateway.upstream.headers.header_policy import HeaderPolicy, compile_header_policy, fold, header_policy
from gateway.upstream.headers.rewrite import client_lines, passed_before, response_headers
from tests.support.calls import recorded_calls
from tests.support.composed import Settings
from tests.support.wire.fields import fields
from tests.support.wire.heads import head_of, reader_of, upstream_bytes, upstream_section

IDENTITY_NAMES = ("x-user-id", "x-user-role", "x-scope")
IDENTITY = ((b"x-user-id", b"alice"), (b"x-scope", b"read"))
POLICY = header_policy(IDENTITY_NAMES, b"gw")
PEER = Peer(b"192.0.2.7", False, 8080)
ADDED = [
    (b"X-Forwarded-For", b"192.0.2.7"),
    (b"X-Forwarded-Proto", b"http"),
    (b"X-Forwarded-Host", b"api.test"),
    (b"X-Forwarded-Port", b"8080"),
    (b"Via", b"1.1 gw"),
    *IDENTITY,
    (b"X-Request-Id", b"id-1"),
]


def arguments_of(policy: HeaderPolicy = POLICY, **options: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "policy": policy,
        "peer": PEER,
        "identity": IDENTITY,
        "made_id": b"id-1",
        "host": b"upstream:9000",
        "client_host": b"api.test",
    }
    return arguments | options


def built(*headers: tuple[bytes, bytes], policy: HeaderPolicy = POLICY, **options: Any) -> list[tuple[bytes, bytes]]:
    return upstream_section(headers, **arguments_of(policy, **options))


def passed(*headers: tuple[bytes, bytes], policy: HeaderPolicy = POLICY, **options: Any) -> list[tuple[bytes, bytes]]:
    """What is left of the client's fields."""
    section = built(*headers, policy=policy, **options)
    assert section[0] == (b"Host", b"upstream:9000")
    assert section[len(section) - len(ADDED) :] == ADDED
    return section[1 : len(section) - len(ADDED)]


@pytest.mark.rule("R252", "R261", "R344")
def test_section_is_built_in_a_fixed_order() -> None:
    """Host first, the client's fields as they came, then the gateway's."""
    client = ((b"accept", b"*/*"), (b"Host", b"api.test"), (b"content-length", b"02"), (b"X-A", b"1"))
    section = built(*client, identity=())
    assert section == [
        (b"Host", b"upstream:9000"),
        (b"accept", b"*/*"),
        (b"X-A", b"1"),
        (b"Content-Length", b"2"),
        *(pair for pair in ADDED if pair not in IDENTITY),
    ]
    assert built()[-3:-1] == list(IDENTITY)


@pytest.mark.parametrize(
    "name",
    [
        *(b"Connection", b"Keep-Alive", b"Proxy-Connection", b"TE", b"Trailer", b"Transfer-Encoding", b"Upgrade"),
        *(b"Proxy-Authenticate", b"Proxy-Authorization", b"Proxy-Authentication-Info", b"HTTP2-Settings"),
        *(b"Host", b"Content-Length", b"Expect", b"X-Request-Id", b"Authorization", b"Proxy"),
        *(b"X-HTTP-Method-Override", b"X-HTTP-Method", b"X-Method-Override"),
        *(b"X-Real-IP", b"True-Client-IP", b"CF-Connecting-IP", b"X-Client-Cert", b"X-Client-Cert-Chain"),
        *(b"X-Original-URL", b"X-Rewrite-URL", b"X-Forwarded-Uri", b"X-Forwarded-Method", b"X-Forwarded-Prefix"),
        *(b"X-Forwarded-User", b"X-Forwarded-Client-Cert", b"X-Forwarded", b"Client-Cert", b"Front-End-Https"),
        *(b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"X-Forwarded-Port", b"Forwarded"),
        *(b"X-User-Id", b"X-User-Role", b"X-Scope"),
    ],
)
@pytest.mark.rule("R227", "R250", "R256", "R259", "R260", "R340", "R341", "R342", "R344", "C51", "C52")
def test_protected_fields_never_pass_in_any_spelling(name: bytes) -> None:
    """Every fold, several copies, any peer's."""
    spellings = {name, name.lower(), name.upper(), name.replace(b"-", b"_"), name.replace(b"-", b".")}
    spellings |= {b"HTTP_" + name.upper().replace(b"-", b"_"), b"Http-" + name, name.replace(b"-", b"_", 1)}
    for spelling in spellings:
        client = ((spelling, b"evil"), (b"X-Other", b"1"), (spelling, b"evil2"))
        if spelling.lower() in (b"content-length", b"transfer-encoding"):
            with pytest.raises(MalformedError):
                passed(*client)
        else:
            assert passed(*client) == [(b"X-Other", b"1")]


@pytest.mark.parametrize("name", [b"HTTP_VIA", b"Http-Via"])
@pytest.mark.rule("R254")
def test_via_passes_only_as_itself(name: bytes) -> None:
    """A list that others wrote before us stays; another spelling of it does not."""
    assert passed((name, b"1.1 evil")) == []
    assert passed((b"via", b"1.1 front"), (b"VIA", b"2 edge")) == [(b"via", b"1.1 front"), (b"VIA", b"2 edge")]


@pytest.mark.rule("R262", "R263", "R264", "R268", "C48")
def test_other_fields_pass_byte_for_byte() -> None:
    """Order, case, repetition, and odd bytes."""
    headers = fields(b"""
Cookie: a="b;c", =x
X-A: 1
cookie: second
x-a: 2
X-Bytes: ad\xffmin \xe9\xe4
X-Empty:
X-User-Idx: z
X-Us-Er-Id: z
Authorization-Hint: z
X-Reality: z
Early-Data: 1
""")
    assert passed(*headers) == list(headers)


@pytest.mark.rule("R342")
def test_names_of_other_characters_pass_only_where_the_configuration_says_so() -> None:
    """none by default; with ``pass`` those that cannot be read as a name with a meaning."""
    free = fields(b"Content_Types: x\nmy_app_token: y\nX.Foo: z\n!#$%&'*+.^`|~: odd")
    names = b"X_User_Id SCRIPT_NAME X_Forwarded_For Content_Length $WSRU X.Original.Url Max_Forwards HTTP_VIA"
    twins = [(name, b"evil") for name in (names + b" Transfer.Encoding x~scope").split()]
    assert passed(*free, (b"X-Plain", b"1"), *twins) == [(b"X-Plain", b"1")]
    assert passed(*free, *twins, policy=header_policy(IDENTITY_NAMES, b"gw", plain_only=False)) == list(free)


@pytest.mark.rule("C51")
def test_identity_is_found_behind_many_other_fields() -> None:
    """After no number of fields does the gateway stop looking; the memory for names may overflow meanwhile."""
    for first in range(0, 3996, 999):
        filler = tuple((b"X-Filler-%d" % number, b"1") for number in range(first, first + 999))
        assert passed(*filler, (b"X-USER-ID", b"admin")) == list(filler)
        assert passed((b"x_user_id", b"admin"), (b"x_USER_id", b"admin")) == []
    long = ((b"X-" + b"L" * 5000, b"1"),)
    assert passed(*long) == list(long)
    assert passed((b"X_User_Id" + b"_" * 5000, b"1"), (b"X-User-Id", b"admin")) == []


@pytest.mark.rule("R340", "R343")
def test_configured_names_are_the_protected_ones() -> None:
    """The configuration's headers, in every spelling; no more than these."""
    settings = Settings.model_validate(
        {
            "upstreams": [{"name": "u", "urls": ["http://127.0.0.1:1"]}],
            "routes": [{"path": "/", "upstream": "u"}],
            "identity": {"x-auth-subject": "sub"},
            "server": {"trusted_proxies": ["10.0.0.0/8"]},
        }
    )
    policy = compile_header_policy(settings, b"gw")
    assert policy.identity_names == {b"x-auth-subject"}
    assert passed((b"X_Auth_Subject", b"evil"), (b"X-Account", b"app's own"), policy=policy) == [
        (b"X-Account", b"app's own")
    ]
    assert policy.trusted.believes(b"10.1.2.3")
    assert not policy.trusted.believes(b"11.1.2.3")


@pytest.mark.rule("R334")
def test_fields_that_many_lines_nominate_go_after_one_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """CWE-407, as for the options of a connection."""
    readings = recorded_calls(monkeypatch, "gateway.upstream.headers.rewrite.options_of")
    lines = [(b"Connection", b"x-%d" % number) for number in range(900)]
    answered = response_headers([*lines, (b"X-899", b"1"), (b"X-A", b"2")], b"gw")
    assert answered == [(b"X-A", b"2"), (b"Via", b"1.1 gw")]
    assert len(readings) == 1


@pytest.mark.rule("R251")
def test_nominated_fields_go() -> None:
    """All Connection lines together, empty members skipped, wherever they stand."""
    headers = (
        (b"X-Foo", b"1"),
        (b"Connection", b""),
        (b"x-bar", b"2"),
        (b"connection", b"close, X-FOO,, "),
        (b"Connection", b"x-bar\t,keep-alive"),
        (b"X-Foo", b"3"),
        (b"X-Baz", b"4"),
    )
    assert passed(*headers) == [(b"X-Baz", b"4")]
    assert connection_options(headers) == {b"close", b"x-foo", b"x-bar", b"keep-alive"}
    assert connection_options(((b"X-Connection", b"x"), (b"Keep-Alive", b"y"))) == frozenset()


@pytest.mark.parametrize(
    "nominated",
    [b"close, X-User-Id, X-Forwarded-For, Authorization, Host", b"via, x-request-id, content-length, x-scope"],
)
@pytest.mark.rule("R252", "R345")
def test_connection_cannot_remove_what_the_gateway_says(nominated: bytes) -> None:
    """CVE-2025-48865: removed first, added after."""
    token = (b"Authorization", b"Bearer t")
    length = (b"Content-Length", b"2")
    via = (b"Via", b"1.0 front")
    section = built((b"Connection", nominated), token, via, length, forward_authorization=True)
    assert section == [(b"Host", b"upstream:9000"), token, via, length, *ADDED]


@pytest.mark.rule("R253")
def test_te_expect_and_trailers_are_answered_here() -> None:
    """Nothing of this hop's dealings passes."""
    headers = ((b"TE", b"trailers, gzip"), (b"Connection", b"TE"), (b"Trailer", b"X-A"), (b"Expect", b"100-continue"))
    assert passed(*headers) == []


@pytest.mark.rule("R252", "C85")
def test_authorization_passes_only_where_the_route_asks() -> None:
    """Its other spellings and the proxy's own credential never do."""
    token = (b"authorization", b"Bearer t")
    others = ((b"Proxy-Authorization", b"Basic x"), (b"HTTP_AUTHORIZATION", b"Bearer u"))
    assert passed(token, *others) == []
    assert passed(token, *others, forward_authorization=True) == [token]


@pytest.mark.rule("R254")
def test_via_names_the_version_received() -> None:
    assert (b"Via", b"1.0 gw") in built(http_version=b"1.0")


# --- responses ---


@pytest.mark.rule("R250", "R251", "R263", "R266", "C48")
def test_response_keeps_everything_but_hop_by_hop() -> None:
    """Order and case, two Set-Cookie, two Link."""
    kept = [
        (b"Server", b"nginx"),
        (b"date", b"now"),
        (b"Set-Cookie", b"a=1"),
        (b"set-cookie", b"b=2; Domain=internal"),
        (b"Link", b"<a>"),
        (b"Link", b"<b>"),
        (b"X-Bytes", b"\xe9\xff"),
        (b"Content-Length", b"5"),
        (b"Location", b"http://internal/"),
        (b"X-User-Id", b"upstream's own"),
    ]
    gone = [
        (b"Connection", b"keep-alive, X-Private, Content-Length"),
        (b"keep-alive", b"timeout=5"),
        (b"Transfer-Encoding", b"chunked"),
        (b"X-Private", b"1"),
        (b"Upgrade", b"h2c"),
        (b"Trailer", b"X-T"),
        (b"Proxy-Authenticate", b"Basic"),
        (b"TE", b"x"),
    ]
    assert response_headers([*gone[:4], *kept, *gone[4:]], b"gw") == [*kept, (b"Via", b"1.1 gw")]


@pytest.mark.rule("R254")
def test_response_via_is_appended() -> None:
    """On its own line, after those that were there."""
    headers = [(b"Via", b"1.1 inner"), (b"Connection", b"via")]
    assert response_headers(headers, b"gw", b"1.0") == [(b"Via", b"1.1 inner"), (b"Via", b"1.0 gw")]


@pytest.mark.rule("R255")
def test_what_the_gateway_sends_is_recognised_when_it_comes_back() -> None:
    """One turn, also behind a proxy that joins lines."""
    assert passed_before(built((b"Via", b"1.1 front")), b"gw")
    joined = b", ".join(value for name, value in built((b"Via", b"1.1 front")) if name == b"Via")
    assert passed_before([(b"via", joined)], b"gw")


# --- anything at all ---

_NAMES = st.sampled_from(
    [
        *(b"X-User-Id", b"x_user_id", b"HTTP_X_USER_ID", b"X.User-Role", b"x-scope", b"Connection", b"Via", b"X-A"),
        *(b"X-Forwarded-For", b"Forwarded", b"Authorization", b"Transfer_Encoding", b"Content-Length", b"Host"),
    ]
) | st.from_regex(rb"\A[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}\Z")
_VALUES = st.binary(max_size=12) | st.sampled_from([b"x-user-id", b"X-A, via", b"for=a", b"close", b"10.0.0.1"])
_SECTIONS = st.lists(st.tuples(_NAMES, _VALUES), max_size=12)
_TRUSTING = header_policy(IDENTITY_NAMES, b"gw", ["192.0.2.0/24"])


@given(_SECTIONS, st.booleans(), st.booleans())
@pytest.mark.rule("R340", "R341", "R342", "R343", "R344", "R345", "R346", "R271")
def test_no_section_lets_a_folded_identity_name_or_a_line_end_through(
    section: list[tuple[bytes, bytes]], trusted: bool, authorization: bool
) -> None:
    """The identity is the gateway's alone, and a head has as many lines as fields."""
    options = arguments_of(_TRUSTING if trusted else POLICY, forward_authorization=authorization)
    odd = any(code in value for _, value in section for code in (*range(9), *range(10, 32), 127))
    try:
        head = upstream_bytes(section, **options)
    except MalformedError:
        lengths = [value for name, value in section if name.lower() == b"content-length"]
        assert odd or len(lengths) > 1 or not all(value.strip(b" \t").isdigit() for value in lengths)
        return
    assert not odd
    out = upstream_section(section, **options)
    assert head.count(b"\n") == head.count(b"\r") == len(out) + 2
    assert b"\x00" not in head
    assert [pair for pair in out if fold(pair[0]) in POLICY.identity_names] == list(IDENTITY)
    assert out[-3:-1] == list(IDENTITY)
    for single in (b"host", b"x-request-id", b"x-forwarded-for", b"x-forwarded-proto"):
        assert sum(fold(name) == single for name, _ in out) == 1
    assert not {fold(name) for name, _ in out} & {b"connection", b"transfer-encoding", b"upgrade"}
    lengths = [value.strip(b" \t") for name, value in section if name.lower() == b"content-length"]
    assert [pair for pair in out if fold(pair[0]) == b"content-length"] == [
        (b"Content-Length", b"%d" % int(value)) for value in lengths
    ]


@pytest.mark.rule("R340", "R341", "R342")
def test_field_of_a_key_is_taken_out_in_every_spelling() -> None:
    """What an upstream may read as it, several of them, and nothing else."""
    spellings = (b"X-Api-Key", b"x-api-key", b"X_API_KEY", b"x.api.key", b"HTTP_X_API_KEY", b"X-Api|Key")
    others = [(b"X-Api-Keys", b"1"), (b"Api-Key", b"2"), (b"X-Api-Key-Id", b"3")]
    client = [*((name, b"k") for name in spellings), *others]
    plain, every = (
        header_policy(IDENTITY_NAMES, b"gw", (), ["x-api-key", "partner_key"], plain_only=plain_only)
        for plain_only in (True, False)
    )
    for policy in (plain, every):
        assert passed(*client, without=[b"x-api-key"], policy=policy) == others
        for name in (b"Partner-Key", b"PARTNER_KEY"):
            assert passed((name, b"k"), *others, without=[b"partner_key"], policy=policy) == others
    assert passed(*client, policy=every) == client  # where the route takes no keys, and such names pass


@pytest.mark.parametrize("value", [b"1", b"  1\t", b"", b" ", b"a: b\t\xff"])
@pytest.mark.rule("R262", "R263", "R268")
def test_lines_go_on_as_they_came(value: bytes) -> None:
    """White space around a value is part of no value, and stays where it is."""
    line = b"X-A:" + value
    head = b"GET / HTTP/1.1\r\nHost: h\r\n%b\r\nCookie:a\r\n\r\n" % line
    assert client_lines(reader_of(POLICY).read(head)) == [b"\n" + line, b"\nCookie:a"]


@pytest.mark.rule("R414")
def test_max_forwards_says_what_is_left() -> None:
    """RFC 9110 section 7.6.2; in its place, whatever its spelling."""
    head = head_of((b"X-A", b"1"), (b"MAX-forwards", b"005"), (b"X-B", b"2"))
    assert client_lines(head, forwards_left=5) == [b"\nX-A: 1", b"\nMax-Forwards: 4", b"\nX-B: 2"]
    assert client_lines(head) == [b"\nX-A: 1", b"\nMAX-forwards: 005", b"\nX-B: 2"]


@pytest.mark.parametrize("scheme", [b"Negotiate abc", b"NTLM abc", b"negotiate", b"Ntlm\tx"])
@pytest.mark.rule("R252", "C85")
def test_a_credential_of_a_connection_goes_to_no_upstream(scheme: bytes) -> None:
    """RFC 4559 section 6: the connection to the service carries many clients."""
    token = (b"Authorization", scheme)
    assert passed((b"X-A", b"1"), token, forward_authorization=True) == [(b"X-A", b"1")]
    other = (b"Authorization", b"Negotiate-ish x")
    assert passed(other, (b"X-A", b"1"), forward_authorization=True) == [other, (b"X-A", b"1")]


@pytest.mark.rule("R252", "R263")
def test_credentials_that_go_on_stand_where_they_stood() -> None:
    """Also several of them, and a proof; the head itself is not changed by it."""
    proof, token = (b"DPoP", b"p"), (b"Authorization", b"DPoP t")
    client = ((b"X-A", b"1"), proof, (b"Connection", b"X-C"), (b"X-B", b"2"), token, (b"X-C", b"3"), token, proof)
    assert passed(*client, forward_authorization=True) == [
        *((b"X-A", b"1"), proof, (b"X-B", b"2"), token, token, proof)
    ]
    head = head_of(*client, policy=POLICY)
    kept = list(head.kept)
    client_lines(head, send_credentials=True)
    assert head.kept == kept == [b"\nX-A: 1", b"\nX-B: 2", b"\nX-C: 3"]
