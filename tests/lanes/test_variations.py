"""A request that differs in one line from the one before, on a connection that remembers, and on one that does not.

What the gateway makes of the two must be the same, whatever the line: that a
field means nothing to it is a claim that only this comparison can hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.server.express_lane.varying_fields import Shape, Variation
from tests.fuzz.stage import Stage, on_stage, stage
from tests.fuzz.tokens import PUBLISHED
from tests.support.gateways.running import RawClient, RawResponse
from tests.support.tokens.api_keys import KEY, OTHER, entry
from tests.support.tokens.minting import good_claims, mint
from tests.support.upstreams.recording import Received

pytestmark = pytest.mark.untraced

Fields = tuple[tuple[bytes, bytes], ...]

ROUTES: tuple[dict[str, Any], ...] = (
    {"path": "/t"},
    {"path": "/", "auth": "public"},
    {"path": "/put", "auth": "public", "methods": ["PUT"], "cors_origins": ["https://a.test"]},
    {"path": "/cors", "auth": "public", "cors_origins": ["https://a.test"]},
    {"path": "/k", "credentials": ["jwt", "api_key"]},
    {"path": "/partner", "credentials": ["api_key"], "api_key_header": "Partner_Key"},
)
API_KEYS = [entry(), entry(OTHER, "other")]

NAMES = (
    *(b"X-Trace", b"traceparent", b"Cookie", b"User-Agent", b"Range", b"Max-Forwards", b"Date", b"X-Userid"),
    *(b"Via", b"X-Forwarded-For", b"x-forwarded-proto", b"X-Forwarded-User", b"Forwarded", b"X-Real-IP"),
    *(b"X-Request-Id", b"x-user-id", b"X_User_Id", b"x-scope", b"Authorization", b"Proxy-Authorization"),
    *(b"Connection", b"Keep-Alive", b"Upgrade", b"TE", b"Trailer", b"Expect", b"Transfer-Encoding"),
    *(b"Origin", b"Access-Control-Request-Method", b"Access-Control-Request-Headers", b"Sec-WebSocket-Protocol"),
    *(b"SCRIPT_NAME", b"Script-Name", b"X_Trace", b"Remote-User", b"X-Forwarded-Host", b"Access-Control-Allow-Origin"),
    *(b"X-Api-Key", b"X_Api_Key", b"Partner_Key", b"partner-key"),
    *(b"X-HTTP-Method-Override", b"X-Original-URL", b"Content-Type", b"Content-Encoding", b"Client-Cert", b"DPoP"),
)

VALUES = (
    *(
        b"a",
        b"b",
        b"",
        b" a",
        b"a ",
        b"\ta",
        b"a\tb",
        b"a,b",
        b"a: b",
        b"a, a",
        b"\xff",
        b"caf\xc3\xa9",
        b"a\x01b",
        b"a\rb",
    ),
    *(
        b"x" * 300,
        b"x" * 66_000,
        b"0",
        b"1",
        b"0, 0",
        b"wss",
        b"for=192.0.2.8;proto=wss",
        b"unix",
        b"3",
        b"03",
        b"+3",
        b"close",
        b"keep-alive",
        b"x-trace",
        b"X-Trace, close",
    ),
    *(b"1.1 PSEUDONYM", b"1.1 other, 1.1 PSEUDONYM", b"192.0.2.7", b"for=192.0.2.7", b"https", b"100-continue"),
    *(
        b"https://a.test",
        b"https://b.test",
        b"PUT",
        b"GET",
        b"websocket",
        b"chunked",
        b"trailers",
        b"mine-1",
        b"mine 2",
    ),
    *(
        b"Bearer GOOD",
        b"Bearer OTHER",
        b"Bearer FORGED",
        b"Bearer BOUND",
        b"DPoP BOUND",
        b"DPoP GOOD",
        b"BEARER GOOD",
        b"bearer GOOD",
        b"Bearer  GOOD",
        b"Bearer GOOD, x",
        b"Basic eDp5",
    ),
    *(KEY, OTHER),
)

FIELD = st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES))
LINES = (
    b"GET /a",
    b"GET /t?x=1",
    b"GET /k",
    b"GET /partner",
    b"POST /a",
    b"PUT /put",
    b"OPTIONS /put",
    b"OPTIONS /cors",
    b"HEAD /a",
    b"head /a",
    b"options /cors",
    b"OPTIONS /t",
)


@dataclass(frozen=True)
class Pair:
    """A request, and what is different in the one behind it.

    Attributes:
        changes: by the number of a field, its other value.
        lengths: of the contents; 0 = none, and no Content-Length.
    """

    line: bytes
    fields: Fields
    changes: tuple[tuple[int, bytes], ...]
    lengths: tuple[int, int] = (0, 0)

    def requests(self, words: dict[bytes, bytes]) -> tuple[bytes, bytes]:
        """Return both requests; ``words`` stand in the values for what they name."""
        changed = dict(self.changes)
        other = tuple((name, changed.get(number, value)) for number, (name, value) in enumerate(self.fields))
        return self._one(self.fields, self.lengths[0], words), self._one(other, self.lengths[1], words)

    def _one(self, fields: Sequence[tuple[bytes, bytes]], length: int, words: dict[bytes, bytes]) -> bytes:
        lines = [self.line + b" HTTP/1.1", b"Host: api.test", *(b"%b: %b" % pair for pair in fields)]
        if length:
            lines.append(b"Content-Length: %d" % length)
        data = b"\r\n".join(lines) + b"\r\n\r\n"
        for word, value in words.items():
            data = data.replace(word, value)
        chunked = any(name == b"Transfer-Encoding" and value == b"chunked" for name, value in fields)
        return data + (b"0\r\n\r\n" if chunked and not length else b"x" * length)


@st.composite
def pairs(draw: st.DrawFn) -> Pair:
    fields = tuple(draw(st.lists(FIELD, min_size=1, max_size=4)))
    numbers = st.integers(0, len(fields) - 1)
    changes = tuple(draw(st.lists(st.tuples(numbers, st.sampled_from(VALUES)), min_size=1, max_size=2)))
    line = draw(st.sampled_from(LINES))
    lengths = draw(st.sampled_from([(0, 0), (3, 3), (3, 12), (3, 70_000)])) if line.startswith(b"P") else (0, 0)
    return Pair(line, fields, changes, lengths)


async def answer(client: RawClient, data: bytes) -> RawResponse | None:
    """Return the response, not a 100 before it; None when the connection was closed without one."""
    try:
        await client.send(data)
        while (response := await client.response(head_only=data.startswith(b"HEAD "))).status == 100:
            pass
        return response
    except (EOFError, ConnectionError):
        return None


def seen(response: RawResponse | None, content: int) -> object:
    """Return of a response what may not depend on what went before it; ``content`` is the request's length."""
    if response is None:
        return None
    ignored = [b"x-request-id", b"date"]
    if content > 65_536 and response.status >= 400:
        # A refusal ends the connection when it comes before all of the content, which takes more than one read.
        ignored.append(b"connection")
    own = [pair for pair in response.headers if pair[0].lower() not in ignored]
    # A gateway's own answer quotes the id that it has made.
    body = response.body if response.one(b"content-type") != b"application/json" else response.body[:60]
    return response.status, own, body


def forwarded(requests: list[Received], given: bool) -> list[tuple[bytes, list[tuple[bytes, bytes]], bytes]]:
    """Return what an upstream got, without the ids that the gateway has made."""
    return [
        (one.line, [pair for pair in one.headers if given or pair[0] != b"X-Request-Id"], one.body) for one in requests
    ]


async def compare(made: Stage, pair: Pair) -> None:
    key, now = PUBLISHED["a"], made.now
    tokens = {
        b"GOOD": mint(key, good_claims(now)),
        b"OTHER": mint(key, good_claims(now, sub="bob")),
        b"BOUND": mint(key, good_claims(now, sub="joe", cnf={"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"})),
        b"FORGED": mint(key, good_claims(now, sub="eve"))[:-8] + b"AAAAAAAA",
        b"PSEUDONYM": made.gateway.app.pseudonym,
    }
    first, second = pair.requests(tokens)
    kept, fresh = await made.gateway.client(), await made.gateway.client()
    try:
        before = await answer(kept, first)
        if before is None or before.one(b"connection") == b"close":
            return
        got = []
        for client in (kept, fresh):
            made.upstream.requests.clear()
            response = await answer(client, second)
            given = response is not None and response.one(b"x-request-id") in (b"a", b"b", b"0", b"3", b"mine-1")
            got.append((seen(response, pair.lengths[1]), forwarded(made.upstream.requests, given)))
        assert got[0] == got[1]
    finally:
        for client in (kept, fresh):
            await client.close()
            made.gateway.clients.remove(client)


@pytest.mark.parametrize("access_log", ["json", "off"])
@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.rule("R213", "R252", "R257", "R340")
def test_variation_of_a_known_request_is_what_it_would_be_on_a_new_connection(
    trusted: bool, access_log: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upstream and client see the same bytes."""
    accepted: list[bool] = []
    whole = Shape.compare

    def noting(self: Shape, block: bytes) -> Variation | None:
        varied = whole(self, block)
        accepted.append(varied is not None)
        return varied

    monkeypatch.setattr(Shape, "compare", noting)
    server = {"express": True, "access_log": access_log, "trusted_proxies": ["127.0.0.0/8"] if trusted else []}
    with on_stage(stage(tmp_path, routes=ROUTES, server=server, api_keys=API_KEYS)) as (made, run):

        @settings(max_examples=150)  # with each log
        @example(Pair(b"GET /t", ((b"Authorization", b"Bearer GOOD"), (b"X-Trace", b"a")), ((1, b"b"),)))
        @example(
            Pair(b"GET /t", ((b"Authorization", b"Bearer GOOD"), (b"X-Trace", b"a")), ((0, b"Bearer OTHER"), (1, b"b")))
        )
        @example(Pair(b"POST /a", ((b"X-Trace", b"a"),), ((0, b"b"),), (3, 12)))
        @example(Pair(b"POST /a", ((b"Expect", b"a"),), ((0, b"b"),), (3, 70_000)))
        @example(Pair(b"GET /a", ((b"Via", b"a"),), ((0, b"1.1 PSEUDONYM"),)))
        @example(
            Pair(
                b"OPTIONS /put",
                ((b"Origin", b"https://a.test"), (b"Access-Control-Request-Method", b"GET")),
                ((1, b"PUT"),),
            )
        )
        @example(Pair(b"GET /a", ((b"X-Request-Id", b"mine-1"), (b"X-Trace", b"a")), ((0, b"mine 2"), (1, b"b"))))
        @example(Pair(b"GET /a", ((b"X-Trace", b"a"), (b"x-trace", b"a")), ((1, b"b"),)))
        @example(Pair(b"GET /k", ((b"X-Api-Key", KEY), (b"X-Trace", b"a")), ((0, OTHER),)))
        @example(Pair(b"GET /k", ((b"X-Api-Key", b"a"), (b"X-Trace", b"a")), ((0, KEY), (1, b"b"))))
        @example(Pair(b"GET /k", ((b"X_Api_Key", b"a"), (b"X-Api-Key", KEY)), ((0, b"b"),)))
        @example(Pair(b"GET /partner", ((b"Partner_Key", KEY), (b"partner-key", b"a")), ((1, b"b"),)))
        @example(Pair(b"GET /t", ((b"Authorization", b"Bearer GOOD"), (b"X-Api-Key", b"a")), ((1, KEY),)))
        @given(pairs())
        def look_at(pair: Pair) -> None:
            run(compare(made, pair))

        look_at()
    assert accepted.count(True) > 3
    assert accepted.count(False) > 3
