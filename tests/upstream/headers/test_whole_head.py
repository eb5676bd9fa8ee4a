"""Rules R227, R250-R264 and R390 on the whole head, as the upstream and the client get it."""

from __future__ import annotations

import pytest

from gateway.http1.fields import RawHeaders, connection_options
from gateway.http1.trusted_proxies import Peer
from gateway.upstream.headers.header_policy import compile_header_policy
from gateway.upstream.headers.rewrite import (
    passed_before,
    render_head,
    request_headers,
    request_id,
    response_headers,
    without_key,
)
from tests.support.composed import Settings

SETTINGS = Settings.model_validate(
    {
        "server": {"trusted_proxies": ["10.0.0.0/8"]},
        "upstreams": [{"name": "u", "urls": ["http://127.0.0.1:9000"]}],
        "routes": [{"path": "/", "upstream": "u"}],
    }
)
POLICY = compile_header_policy(SETTINGS, b"gw")
CLIENT = Peer(b"192.0.2.7", False, 8080)

GATEWAYS_OWN = (
    b"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: api.test\r\nX-Forwarded-Port: 8080\r\n"
    b"Via: 1.1 gw\r\nx-user-id: alice\r\nX-Request-Id: new\r\n\r\n"
)


def upstream_head(headers: RawHeaders, *, peer: Peer = CLIENT, forward_authorization: bool = False) -> bytes:
    section = request_headers(
        headers,
        policy=POLICY,
        peer=peer,
        identity=((b"x-user-id", b"alice"),),
        request_id=request_id(headers, lambda: b"new"),
        host=b"127.0.0.1:9000",
        client_host=b"api.test",
        forward_authorization=forward_authorization,
        framing=(),
    )
    return render_head(b"GET / HTTP/1.1", section)


def client_part(headers: RawHeaders) -> bytes:
    """What the upstream gets of a client's fields."""
    head = upstream_head(headers)
    begin = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:9000\r\n"
    assert head.startswith(begin)
    assert head.endswith(GATEWAYS_OWN)
    return head[len(begin) : -len(GATEWAYS_OWN)]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"X-HTTP-Method-Override: DELETE", id="R227"),
        pytest.param(b"Connection: keep-alive", id="R250 Connection"),
        pytest.param(b"Keep-Alive: timeout=5", id="R250 Keep-Alive"),
        pytest.param(b"Proxy-Connection: keep-alive", id="R250 Proxy-Connection"),
        pytest.param(b"Transfer-Encoding: chunked", id="R250 Transfer-Encoding"),
        pytest.param(b"Upgrade: h2c", id="R250 Upgrade"),
        pytest.param(b"Proxy-Authorization: Basic x", id="R250 Proxy-Authorization"),
        pytest.param(b"TE: trailers, gzip", id="R253"),
        pytest.param(b"X-Forwarded-For: 1.1.1.1", id="R256"),
        pytest.param(b"Forwarded: for=1.1.1.1;host=evil", id="R258"),
        pytest.param(b"X-Real-IP: 1.1.1.1", id="R259 X-Real-IP"),
        pytest.param(b"X-Original-URL: /admin", id="R259 X-Original-URL"),
        pytest.param(b"X-Rewrite-URL: /admin", id="R259 X-Rewrite-URL"),
        pytest.param(b"X-Forwarded-Prefix: /x", id="R259 X-Forwarded-Prefix"),
        pytest.param(b"True-Client-IP: 1.1.1.1", id="R259 True-Client-IP"),
        pytest.param(b"CF-Connecting-IP: 1.1.1.1", id="R259 CF-Connecting-IP"),
        pytest.param(b"X-Client-Cert-Subject: CN=x", id="R259 X-Client-Cert"),
        pytest.param(b"Proxy: http://evil", id="R260"),
        pytest.param(b"Host: evil", id="R261"),
        pytest.param(b"X-Request-Id: " + b"x" * 10_240, id="R390 long"),
        pytest.param(b"X-Request-Id: a%0d%0aX: 1", id="R390 odd"),
    ],
)
@pytest.mark.rule("R227", "R250", "R253", "R256", "R258", "R259", "R260", "R261", "R390")
def test_field_goes_and_the_rest_stays(line: bytes) -> None:
    name, _, value = line.partition(b": ")
    before, after = (b"X-Before", b"1"), (b"X-After", b"2")
    assert client_part([before, (name, value), after]) == b"X-Before: 1\r\nX-After: 2\r\n"


@pytest.mark.rule("R251")
def test_nominated_names_of_all_connection_lines_go() -> None:
    """CVE-2021-33197: the first line is empty."""
    headers = [(b"Connection", b""), (b"Connection", b"close, X-Foo"), (b"X-Foo", b"1"), (b"X-Bar", b"2")]
    assert client_part(headers) == b"X-Bar: 2\r\n"
    assert connection_options(headers) == {b"close", b"x-foo"}


@pytest.mark.rule("R252")
def test_connection_names_cannot_remove_the_gateways_own() -> None:
    """CVE-2025-48865."""
    value = b"close, X-User-Id, X-Forwarded-For, X-Forwarded-Proto, X-Request-Id, Via, Authorization, Host"
    assert client_part([(b"Connection", value), (b"x-user-id", b"admin")]) == b""
    head = upstream_head([(b"Connection", value), (b"Authorization", b"Bearer t")], forward_authorization=True)
    assert b"\r\nAuthorization: Bearer t\r\n" in head


@pytest.mark.rule("R254", "R255")
def test_via_and_loop() -> None:
    """Both directions; the second turn is recognised."""
    section = [tuple(line.split(b": ", 1)) for line in upstream_head([]).split(b"\r\n")[1:-2]]
    assert (b"Via", b"1.1 gw") in section
    assert passed_before([(name, value) for name, value in section], b"gw")
    assert not passed_before([(b"Via", b"1.1 other")], b"gw")
    assert response_headers([], b"gw") == [(b"Via", b"1.1 gw")]


@pytest.mark.rule("R256", "R257", "R259")
def test_trusted_proxy_only() -> None:
    """It is believed about the connection, not about everything."""
    headers = [(b"X-Forwarded-For", b"203.0.113.9"), (b"X-Real-IP", b"203.0.113.9"), (b"X-Forwarded-User", b"admin")]
    head = upstream_head(headers, peer=Peer(b"10.0.0.1", False, 8080))
    assert b"\r\nX-Forwarded-For: 203.0.113.9, 10.0.0.1\r\n" in head
    assert b"X-Real-IP" not in head
    assert b"X-Forwarded-User" not in head


@pytest.mark.parametrize("value", [b"ad\xffmin", b"\xe9", b"a\tb", b'a="b;c", =x', b"\xc3\xa9", b""])
@pytest.mark.rule("R262", "R268")
def test_values_pass_byte_for_byte(value: bytes) -> None:
    assert client_part([(b"Cookie", value), (b"X-Text", value)]) == b"Cookie: %b\r\nX-Text: %b\r\n" % (value, value)


@pytest.mark.rule("R263", "R264", "R266", "R270")
def test_repetition_order_and_case_are_kept_in_both_directions() -> None:
    pairs = [(b"x-a", b"1"), (b"X-A", b"2"), (b"Cookie", b"a"), (b"X-a", b"3"), (b"cookie", b"b")]
    assert client_part(pairs) == b"x-a: 1\r\nX-A: 2\r\nCookie: a\r\nX-a: 3\r\ncookie: b\r\n"
    cookies = [(b"Set-Cookie", b"a=1"), (b"Date", b"d"), (b"set-cookie", b"b=2"), (b"Server", b"s")]
    assert response_headers(cookies, b"gw")[:-1] == cookies


@pytest.mark.rule("R265")
def test_nothing_is_added_that_the_client_did_not_send() -> None:
    """No Accept, Accept-Encoding, User-Agent, Content-Type, Content-Length."""
    assert client_part([]) == b""


@pytest.mark.parametrize("value", [b"a\r\nX: 1", b"a\n", b"a\x00", b"a\x1b[0m", b"\x7f"])
@pytest.mark.rule("R271", "R272")
def test_split_response_is_never_written(value: bytes) -> None:
    """In a value or in the reason phrase."""
    for line, headers in ((b"HTTP/1.1 200 OK", [(b"X", value)]), (b"HTTP/1.1 200 " + value, [])):
        with pytest.raises(ValueError, match="control character"):
            render_head(line, response_headers(headers, b"gw"))


@pytest.mark.rule("R390")
def test_sane_request_id_of_a_client_is_kept_once() -> None:
    head = upstream_head([(b"x-request-id", b"abc-1"), (b"X_Request_Id", b"other")])
    assert head.count(b"equest") == 1
    assert b"\r\nX-Request-Id: abc-1\r\n" in head


@pytest.mark.rule("R340", "R341", "R342")
def test_field_of_a_key_is_the_gateway_s_alone_where_keys_are_taken() -> None:
    """In any spelling; what it holds is for no service behind the gateway."""
    kept = ((b"X-Api-Keys", b"1"), (b"Accept", b"*/*"))
    spellings = (b"X-Api-Key", b"x_api_key", b"X.API.KEY", b"HTTP_X_API_KEY")
    given = (*((name, b"secret") for name in spellings), *kept)
    assert client_part(without_key(given, b"x-api-key")) == b"X-Api-Keys: 1\r\nAccept: */*\r\n"
