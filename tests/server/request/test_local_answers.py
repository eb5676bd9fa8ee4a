"""What the gateway answers without a refusal and without an upstream, as pure values."""

from __future__ import annotations

import json

import pytest

from gateway.errors import GatewayError, Reasons
from gateway.features.resource_metadata.options import Resource
from gateway.features.resource_metadata.reasons import DOCUMENT_METHOD
from gateway.http1.trusted_proxies import Peer
from gateway.server.pipeline.judge_steps import Pipeline
from gateway.server.request.error_answers import Answer
from gateway.server.request.local_answers import last_recipient, own_answer
from gateway.telemetry.record import Record
from tests.support.clock import FakeClock
from tests.support.composed import Route
from tests.support.pipeline import pipeline_of
from tests.support.tokens.verifying import make_settings
from tests.support.wire.heads import block_of

PATH = b"/.well-known/oauth-protected-resource/orders"
HOST, ORIGIN = (b"Host", b"a.test"), (b"Origin", b"https://app.test")


def _pipeline() -> Pipeline:
    routes = [
        Route(path="/", upstream="orders"),
        Route(path="/cors", upstream="orders", cors_origins=["https://app.test"]),
    ]
    settings = make_settings(issuers=[], routes=routes, resources=[Resource(resource="https://a.test/orders")])
    return pipeline_of(settings, FakeClock())


def ask(method: str, target: bytes, *headers: tuple[bytes, bytes]) -> Answer | None:
    pipeline = _pipeline()
    head = pipeline.reader.read(block_of((HOST, *headers), method=method.encode(), target=target))
    return own_answer(pipeline.admit(head, Peer(b"192.0.2.1", False, 8080), Record(0.0)), head, b"r-1")


def asked(method: str, target: bytes, *headers: tuple[bytes, bytes]) -> tuple[int, dict[bytes, bytes]]:
    answer = ask(method, target, *headers)
    assert answer is not None
    assert len(dict(answer.headers)) == len(answer.headers)
    assert not answer.close
    return answer.status, dict(answer.headers)


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_requests_to_an_upstream_have_no_own_answer(method: str) -> None:
    assert ask(method, b"/orders") is None
    assert ask(method, b"/cors", ORIGIN) is None


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("headers", [(), (ORIGIN,), ((b"Authorization", b"Bearer junk"),)])
@pytest.mark.rule("R116")
def test_the_document_is_given_to_everybody(method: str, headers: tuple[tuple[bytes, bytes], ...]) -> None:
    """With and without a page, and no token is looked at."""
    answer = ask(method, PATH, *headers)
    assert answer is not None
    assert json.loads(answer.body)["resource"] == "https://a.test/orders"
    assert asked(method, PATH, *headers) == (
        200,
        {
            b"Content-Type": b"application/json",
            b"Cache-Control": b"public, max-age=300",
            b"Access-Control-Allow-Origin": b"*",
            b"X-Request-Id": b"r-1",
        },
    )


@pytest.mark.parametrize("target", [PATH + b"?x=1", PATH.replace(b"orders", b"%6frders"), PATH + b";v=1"])
@pytest.mark.rule("R116")
def test_every_spelling_of_the_path_that_the_guard_lets_through_is_the_document(target: bytes) -> None:
    assert asked("GET", target)[0] == 200


@pytest.mark.parametrize("change", [b"/x/../orders", b"//orders", b"/orders/..;", b"/orders%00"])
@pytest.mark.rule("R116", "R229", "R233")
def test_the_path_guard_comes_first(change: bytes) -> None:
    with pytest.raises(GatewayError) as caught:
        ask("GET", PATH.replace(b"/orders", change))
    assert caught.value.reason is Reasons.BAD_PATH


@pytest.mark.rule("R114", "R116")
def test_a_page_may_ask_whether_it_may_read_with_fields_of_its_own() -> None:
    """MCP clients in browsers send `MCP-Protocol-Version`."""
    wanted = (b"Access-Control-Request-Headers", b"mcp-protocol-version")
    status, fields = asked("OPTIONS", PATH, ORIGIN, (b"Access-Control-Request-Method", b"GET"), wanted)
    assert status == 204
    assert fields[b"Access-Control-Allow-Origin"] == b"*"
    assert fields[b"Access-Control-Allow-Methods"] == b"GET, HEAD"
    assert fields[b"Access-Control-Allow-Headers"] == b"mcp-protocol-version"


def test_a_page_may_not_ask_for_more_than_reading() -> None:
    with pytest.raises(GatewayError) as caught:
        ask("OPTIONS", PATH, ORIGIN, (b"Access-Control-Request-Method", b"PUT"))
    assert caught.value.reason is Reasons.CORS_METHOD


@pytest.mark.rule("R414")
def test_the_last_recipient_tells_the_methods_and_nothing_else() -> None:
    """RFC 9110 section 9.3.7: 204 has no content."""
    answer = last_recipient(["GET", "OPTIONS"], ((b"RateLimit", b"1"),), b"r-1")
    assert (answer.status, answer.body, answer.close) == (204, b"", False)
    assert answer.headers == ((b"Allow", b"GET, OPTIONS"), (b"RateLimit", b"1"), (b"X-Request-Id", b"r-1"))


def test_options_without_a_page_tells_the_methods() -> None:
    """RFC 9110 section 9.3.7."""
    status, fields = asked("OPTIONS", PATH)
    assert (status, fields[b"Allow"]) == (204, b"GET, HEAD, OPTIONS")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "PROPFIND", "GETS"])
@pytest.mark.rule("R116")
def test_nothing_else_can_be_done_with_a_document(method: str) -> None:
    with pytest.raises(GatewayError) as caught:
        ask(method, PATH)
    assert caught.value.reason is DOCUMENT_METHOD


@pytest.mark.rule("R114")
def test_a_preflight_for_a_route_is_answered_by_its_rules() -> None:
    status, fields = asked("OPTIONS", b"/cors", ORIGIN, (b"Access-Control-Request-Method", b"PUT"))
    assert (status, fields[b"Access-Control-Allow-Methods"]) == (204, b"PUT")
    assert fields[b"X-Request-Id"] == b"r-1"
