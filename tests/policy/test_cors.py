"""What pages of other origins may do, as pure values (Fetch standard, HTTP CORS protocol)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError, Reason, Reasons
from gateway.policy.cors import (
    CorsPolicy,
    compile_cors,
    preflight_fields,
    refusal_fields,
    requested_method,
    response_fields,
    without_own,
)
from tests.support.composed import Route

APP = b"https://app.test"


def policy(**options: Any) -> CorsPolicy:
    settings = {"path": "/", "upstream": "u", "cors_origins": [APP.decode()], **options}
    found = compile_cors(Route.model_validate(settings))
    assert found is not None
    return found


def asking(
    method: bytes = b"GET", headers: bytes | None = None, origin: bytes = APP, *more: tuple[bytes, bytes]
) -> list[tuple[bytes, bytes]]:
    pairs = [(b"Host", b"h"), (b"Origin", origin), (b"Access-Control-Request-Method", method)]
    if headers is not None:
        pairs.append((b"Access-Control-Request-Headers", headers))
    return [*pairs, *more]


def allowed(rules: CorsPolicy, headers: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    fields = preflight_fields(rules, headers)
    assert len(dict(fields)) == len(fields)
    return dict(fields)


def refused(rules: CorsPolicy, headers: list[tuple[bytes, bytes]]) -> Reason:
    with pytest.raises(GatewayError) as caught:
        preflight_fields(rules, headers)
    return caught.value.reason


def test_a_route_without_origins_has_no_rules() -> None:
    assert compile_cors(Route.model_validate({"path": "/", "upstream": "u"})) is None


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([(b"Origin", APP)], id="no requested method"),
        pytest.param([(b"Access-Control-Request-Method", b"GET")], id="no origin"),
        pytest.param(asking(b"GET", None, APP, (b"origin", APP)), id="two origins"),
        pytest.param(asking(b"GET", None, APP, (b"access-control-request-METHOD", b"PUT")), id="two methods"),
        pytest.param([], id="nothing"),
    ],
)
@pytest.mark.rule("R114", "C72")
def test_only_one_origin_and_one_requested_method_make_a_preflight(headers: list[tuple[bytes, bytes]]) -> None:
    """Any other OPTIONS is a request like any other."""
    assert requested_method(headers) is None


def test_the_method_that_a_page_wants_to_use_is_told() -> None:
    assert requested_method(asking(b"PATCH")) == "PATCH"


@pytest.mark.rule("R114")
def test_an_allowed_preflight_is_told_everything_that_a_browser_asks() -> None:
    """Origin, method, fields, and for how long."""
    fields = allowed(policy(methods=["GET", "PUT"]), asking(b"PUT", b"authorization, content-type"))
    assert fields == {
        b"Access-Control-Allow-Origin": APP,
        b"Access-Control-Allow-Methods": b"GET, PUT",
        b"Access-Control-Allow-Headers": b"authorization, content-type",
        b"Access-Control-Max-Age": b"600",
        b"Vary": b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
    }


def test_without_lists_what_is_asked_for_is_allowed() -> None:
    fields = allowed(policy(cors_max_age_seconds=0), asking(b"QUERY"))
    assert fields[b"Access-Control-Allow-Methods"] == b"QUERY"
    assert b"Access-Control-Allow-Headers" not in fields
    assert fields[b"Access-Control-Max-Age"] == b"0"


def test_configured_lists_are_told_whole() -> None:
    rules = policy(cors_methods=["POST"], cors_headers=["Authorization", "X-Trace"])
    fields = allowed(rules, asking(b"POST", b"authorization"))
    assert fields[b"Access-Control-Allow-Methods"] == b"POST"
    assert fields[b"Access-Control-Allow-Headers"] == b"authorization, x-trace"


@pytest.mark.parametrize(
    "origin",
    [
        b"https://app.test.evil.test",
        b"https://evil.test",
        b"http://app.test",
        b"https://app.test:444",
        b"null",
        b"",
        b"https://app.test/",
        b"HTTPS://APP.TEST",
        b"https://app.test https://app.test",
        b"*",
        b"https://xapp.test",
    ],
)
@pytest.mark.rule("C72")
def test_an_origin_that_is_not_listed_exactly_is_refused(origin: bytes) -> None:
    """No prefixes, no suffixes, no patterns."""
    assert refused(policy(), asking(origin=origin)) is Reasons.CORS_ORIGIN
    assert response_fields(policy(), [(b"Origin", origin)], ()) == ((b"Vary", b"Origin"),)


@pytest.mark.parametrize("method", [b"PUT", b"post", b"CONNECT", b"TRACE", b"TRACK", b"", b"PO ST"])
def test_a_method_that_is_not_listed_is_refused(method: bytes) -> None:
    assert refused(policy(cors_methods=["POST"]), asking(method)) is Reasons.CORS_METHOD


@pytest.mark.parametrize(
    "method", [b"CONNECT", b"TRACE", b"TRACK", b"", b"A\x00", b"A,B", b"A B", b"patch", b"A" * 33, b"G!"]
)
def test_no_list_does_not_mean_any_bytes(method: bytes) -> None:
    assert refused(policy(), asking(method)) is Reasons.CORS_METHOD


@pytest.mark.parametrize("names", [b"x-other", b"authorization, x-other", b"Authorization,X-OTHER"])
def test_a_field_that_is_not_listed_is_refused(names: bytes) -> None:
    assert refused(policy(cors_headers=["authorization"]), asking(headers=names)) is Reasons.CORS_HEADER


def test_names_of_fields_are_compared_without_case_and_over_all_lines() -> None:
    rules = policy(cors_headers=["Authorization", "X-B"])
    more = (b"access-control-request-headers", b" X-b ,, ")
    assert allowed(rules, asking(b"GET", b"AUTHORIZATION", APP, more))


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
@pytest.mark.rule("C72", "R274")
def test_nothing_but_plain_tokens_and_configured_values_is_ever_repeated(
    origin: bytes, method: bytes, names: bytes
) -> None:
    try:
        fields = preflight_fields(policy(), asking(method, names, origin))
    except GatewayError:
        return
    for _, value in fields:
        assert value.isascii()
        assert value.decode().isprintable()
    assert dict(fields)[b"Access-Control-Allow-Origin"] == APP


def test_every_origin_gets_one_answer_that_does_not_vary() -> None:
    rules = policy(cors_origins=["*"])
    for headers in ([], [(b"Origin", b"https://any.test")], [(b"Origin", b"null")]):
        assert response_fields(rules, headers, ()) == ((b"Access-Control-Allow-Origin", b"*"),)
    assert allowed(rules, asking(origin=b"https://any.test"))[b"Access-Control-Allow-Origin"] == b"*"


def test_credentials_are_allowed_only_when_told_to() -> None:
    """The value is an origin then, never a wildcard (checks of the settings see to it)."""
    allow = (b"Access-Control-Allow-Credentials", b"true")
    assert allow in response_fields(policy(cors_credentials=True), [(b"Origin", APP)], ())
    assert allow in preflight_fields(policy(cors_credentials=True), asking())
    assert allow not in response_fields(policy(), [(b"Origin", APP)], ())


def test_a_response_says_who_may_read_it_and_that_this_varies() -> None:
    given_fields = response_fields(policy(), [(b"origin", APP)], [(b"Content-Type", b"a/b")])
    assert given_fields == ((b"Access-Control-Allow-Origin", APP), (b"Vary", b"Origin"))


def test_a_response_for_nobody_in_particular_varies_all_the_same() -> None:
    """A shared cache would otherwise give it to a page."""
    assert response_fields(policy(), [], ()) == ((b"Vary", b"Origin"),)


@pytest.mark.parametrize("vary", [b"Origin", b"Accept, origin", b"*", b"Accept,\tORIGIN ,X"])
def test_vary_is_not_said_twice(vary: bytes) -> None:
    assert response_fields(policy(), [], [(b"vary", vary)]) == ()


@pytest.mark.rule("R434")
def test_what_an_upstream_says_about_pages_itself_goes() -> None:
    """In any letter case, and nothing else of it."""
    kept = ((b"Content-Type", b"a/b"), (b"X-Access-Control-Allow-Origin", b"x"), (b"Vary", b"Origin"))
    own = (
        (b"access-control-allow-ORIGIN", b"*"),
        (b"Access-Control-Allow-Credentials", b"true"),
        (b"ACCESS-CONTROL-X", b""),
    )
    assert without_own((own[0], *kept, *own[1:])) == kept
    assert response_fields(policy(), [(b"Origin", APP)], own)[0] == (b"Access-Control-Allow-Origin", APP)


def test_pages_can_read_the_services_fields_that_are_listed() -> None:
    rules = policy(cors_expose_headers=["ETag", "X-Total"])
    fields = response_fields(rules, [(b"Origin", APP)], (), [(b"RateLimit", b"1")])
    assert fields[-1] == (b"Access-Control-Expose-Headers", b"etag, x-total, RateLimit")
    assert response_fields(rules, [], ()) == ((b"Vary", b"Origin"),)


def test_pages_can_read_refusals_and_why() -> None:
    fields = dict(refusal_fields(policy(), [(b"Origin", APP)]))
    assert fields[b"Access-Control-Allow-Origin"] == APP
    assert b"WWW-Authenticate" in fields[b"Access-Control-Expose-Headers"]
    assert refusal_fields(policy(), [(b"Origin", b"https://evil.test")]) == ((b"Vary", b"Origin"),)


@pytest.mark.rule("R138")
def test_pages_can_read_what_the_gateway_adds() -> None:
    """A nonce is of no use to a page that cannot see it; to other pages nothing is exposed."""
    added = ((b"DPoP-Nonce", b"a"), (b"X-More", b"b"), (b"X-More", b"c"))
    asked = [(b"Origin", APP)]
    assert dict(response_fields(policy(), asked, (), added))[b"Access-Control-Expose-Headers"] == b"DPoP-Nonce, X-More"
    exposed = dict(refusal_fields(policy(), asked, added))[b"Access-Control-Expose-Headers"]
    assert exposed == b"Retry-After, WWW-Authenticate, X-Request-Id, DPoP-Nonce, X-More"
    assert response_fields(policy(), [], (), added) == refusal_fields(policy(), [], added) == ((b"Vary", b"Origin"),)
