"""Rules R133 to R139, and R096: a bound token counts only with what it is bound to. In both lanes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients.proving import BASE, CLIENT, OTHER, bound_token, challenges, proof_for, proved
from tests.support.gateways.running import LANE, RunningGateway, request, running_gateway
from tests.support.parts import proofs
from tests.support.tokens.minting import ABSENT, SigningKey
from tests.support.tokens.proofs import with_proof
from tests.support.upstreams.recording import RawUpstream, raw_upstream

ROUTES: tuple[dict[str, Any], ...] = (
    {"path": "/"},
    {"path": "/bound", "sender_constrained": "required"},
    {"path": "/key", "sender_constrained": "dpop"},
    {"path": "/certificate", "sender_constrained": "mtls"},
    {"path": "/forward", "forward_authorization": True},
    {"path": "/observed", "observe": True},
    {"path": "/optional", "auth": "optional"},
    {"path": "/public", "auth": "public"},
    {"path": "/scoped", "scopes": ["admin"]},
    {"path": "/pages", "cors_origins": ["https://app.test"]},
)
ALGORITHMS = 'algs="ES256 EdDSA PS256 RS256"'


@pytest.fixture(params=["express", "full"], autouse=True)
def lane(request: pytest.FixtureRequest) -> Iterator[str]:
    token = LANE.set(request.param)
    yield request.param
    LANE.reset(token)


@asynccontextmanager
async def running(directory: Path, **options: Any) -> AsyncIterator[tuple[RunningGateway, RawUpstream]]:
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, directory, **{"routes": ROUTES, **options}) as gateway,
    ):
        yield gateway, upstream


@pytest.mark.rule("R133", "R344")
async def test_a_bound_token_passes_with_its_proof_and_the_upstream_sees_neither(tmp_path: Path) -> None:
    """One proof each time; on a kept connection, too, where the token is known."""
    async with running(tmp_path) as (gateway, upstream):
        token = bound_token(gateway, sub="alice")
        client = await gateway.client()
        for _ in range(3):
            assert (await client.exchange(proved(token))).status == 200
        for received in upstream.requests:
            assert received.all(b"x-user-id") == [b"alice"]
            assert received.one(b"authorization") is received.one(b"dpop") is None
        assert proofs(gateway.app).outcomes == {("dpop", "accepted"): 3}


@pytest.mark.rule("R096", "R133")
async def test_a_bound_token_as_a_bearer_token_is_refused_on_every_path(tmp_path: Path) -> None:
    """First and later, alone and after a proof, new and kept connections, whatever else is sent."""
    async with running(tmp_path) as (gateway, upstream):
        token, fresh = bound_token(gateway), bound_token(gateway, sub="bob")
        kept = await gateway.client()
        answers = [await kept.exchange(request(b"GET", "/", token=fresh)) for _ in range(3)]
        assert (await kept.exchange(proved(token))).status == 200
        for one in (token, fresh):
            # Requests that differ in nothing, in their token, and in a field that is not read.
            answers += [await kept.exchange(request(b"GET", "/", token=one)) for _ in range(3)]
            answers += [
                await kept.exchange(request(b"GET", "/", (b"X-Trace", b"%d" % number), token=one)) for number in (1, 2)
            ]
            answers.append(await gateway.get("/", token=one))
            answers.append(await gateway.get("/", (b"DPoP", proof_for(one)), token=one))
            answers.append(await gateway.get("/optional", token=one))
            answers.append(await kept.exchange(request(b"POST", "/", (b"Content-Length", b"2"), token=one, body=b"ab")))
        # A good bearer token, then the bound one where it stood.
        assert (await kept.exchange(request(b"GET", "/", token=gateway.token()))).status == 200
        answers.append(await kept.exchange(request(b"GET", "/", token=token)))
        assert {answer.status for answer in answers} == {401}
        for answer in answers:
            assert challenges(answer)[0].startswith(f'DPoP realm="gateway", {ALGORITHMS}, error="invalid_token"')
        log = await gateway.log(len(answers) + 2)
        assert {line["reason"] for line in log if line["status"] == 401} == {"sender_constrained"}
        assert [received.one(b"dpop") for received in upstream.requests] == [None, None]


@pytest.mark.rule("R096")
async def test_pipelined_bound_tokens_are_refused_each(tmp_path: Path) -> None:
    """New tokens that are verified together at the end of a turn."""
    async with running(tmp_path) as (gateway, upstream):
        client = await gateway.client()
        assert (await client.exchange(request(b"GET", "/", token=gateway.token()))).status == 200
        tokens = [bound_token(gateway, sub=f"user-{number}") for number in range(5)]
        await client.send(b"".join(request(b"GET", "/", token=token) for token in [*tokens, *tokens]))
        assert [(await client.response()).status for _ in range(10)] == [401] * 10
        assert len(upstream.requests) == 1


@pytest.mark.rule("R133")
async def test_the_scheme_dpop_takes_no_plain_bearer_token(tmp_path: Path) -> None:
    """RFC 9449 section 7.1; also when it is known, and with a proof."""
    async with running(tmp_path) as (gateway, upstream):
        token = gateway.token()
        for known in (False, True):
            answer = await gateway.exchange(proved(token))
            assert (answer.status, answer.json["error"]) == (401, "invalid_token"), known
            assert challenges(answer)[0].startswith("DPoP ")
            assert (await gateway.get("/", token=token)).status == 200
        assert [line.get("reason", "") for line in await gateway.log(4)] == ["unbound_token", "", "unbound_token", ""]
        assert len(upstream.requests) == 2


@pytest.mark.rule("R133")
async def test_a_proof_beside_a_plain_bearer_token_is_not_looked_at(tmp_path: Path) -> None:
    """It vouches for nothing, and no route asks for it; the upstream does not get it."""
    async with running(tmp_path) as (gateway, upstream):
        assert (await gateway.get("/", (b"DPoP", b"nonsense"), token=gateway.token())).status == 200
        assert (await gateway.get("/public", (b"DPoP", b"nonsense"))).status == 200
        assert [received.one(b"dpop") for received in upstream.requests] == [None, None]


@pytest.mark.rule("R133")
async def test_none_or_several_proofs_are_no_proof(tmp_path: Path) -> None:
    """RFC 9449 section 4.3, point 1."""
    async with running(tmp_path) as (gateway, upstream):
        token = bound_token(gateway)
        scheme, proof = with_proof(token, proof_for(token))
        cases: dict[str, list[tuple[tuple[bytes, bytes], ...]]] = {
            "missing_proof": [(scheme,)],
            "several_proofs": [(scheme, proof, proof), (scheme, proof, (b"dpop", proof_for(token)))],
            "malformed_proof": [(scheme, (b"DPoP", proof[1] + b", " + proof[1])), (scheme, (b"DPoP", b""))],
        }
        for reason, requests in cases.items():
            for fields in requests:
                answer = await gateway.get("/", *fields)
                assert (answer.status, answer.json["error"]) == (401, "invalid_dpop_proof")
                assert f'{ALGORITHMS}, error="invalid_dpop_proof"' in challenges(answer)[0]
                assert proofs(gateway.app).outcomes["dpop", reason] > 0
        for fields in ((scheme, scheme, proof), ((b"Authorization", b"DPoP a, DPoP b"), proof)):
            assert (await gateway.get("/", *fields)).status == 400
        assert upstream.connections == 0


#: Options of a proof, the code in the answer and the reason in the log.
BAD_PROOFS: dict[str, tuple[dict[str, Any], str, str]] = {
    "alg none": ({"header": {"alg": "none"}}, "invalid_dpop_proof", "malformed_proof"),
    "alg HS256": ({"header": {"alg": "HS256"}}, "invalid_dpop_proof", "malformed_proof"),
    "an algorithm that is not configured": (
        {"key": SigningKey.ec("client", "P-384")},
        "invalid_dpop_proof",
        "malformed_proof",
    ),
    "typ JWT": ({"header": {"typ": "JWT"}}, "invalid_dpop_proof", "malformed_proof"),
    "a private key": ({"header": {"jwk": CLIENT.private_jwk()}}, "invalid_dpop_proof", "unusable_proof_key"),
    "somebody else's key": ({"key": OTHER}, "invalid_token", "wrong_proof_key"),
    "somebody else's signature": (
        {"key": OTHER, "header": {"jwk": CLIENT.public_jwk()}},
        "invalid_dpop_proof",
        "proof_signature",
    ),
    "another method": ({"htm": "POST"}, "invalid_dpop_proof", "foreign_proof"),
    "another path": ({"htu": BASE + "/other"}, "invalid_dpop_proof", "foreign_proof"),
    "another host": ({"htu": "http://other.test/"}, "invalid_dpop_proof", "foreign_proof"),
    "another scheme": ({"htu": "https://gateway.test/"}, "invalid_dpop_proof", "foreign_proof"),
    "another token": ({"ath": "A" * 43}, "invalid_dpop_proof", "foreign_proof"),
    "no token": ({"ath": ABSENT}, "invalid_dpop_proof", "foreign_proof"),
    "no id": ({"jti": ABSENT}, "invalid_dpop_proof", "malformed_proof"),
    "ten minutes old": ({"iat": int(time.time()) - 600}, "invalid_dpop_proof", "stale_proof"),
    "a day early": ({"iat": int(time.time()) + 86_400}, "invalid_dpop_proof", "stale_proof"),
}


@pytest.mark.rule("R134", "R135", "R136", "R137")
async def test_a_proof_that_is_not_for_this_request_is_refused(tmp_path: Path) -> None:
    """Each check of RFC 9449 section 4.3, through the gateway."""
    async with running(tmp_path) as (gateway, upstream):
        token = bound_token(gateway)
        for what, (options, error, reason) in BAD_PROOFS.items():
            before = proofs(gateway.app).outcomes["dpop", reason]
            answer = await gateway.exchange(proved(token, **options))
            assert (answer.status, answer.json["error"]) == (401, error), what
            assert f'error="{error}"' in challenges(answer)[0], what
            assert proofs(gateway.app).outcomes["dpop", reason] == before + 1, what
        assert upstream.connections == 0


@pytest.mark.rule("R135")
async def test_the_uri_is_compared_as_the_client_knows_it(tmp_path: Path) -> None:
    """Without query, in its normal form, before a prefix is stripped."""
    routes = ({"path": "/"}, {"path": "/api", "strip_prefix": True})
    async with running(tmp_path, routes=routes) as (gateway, upstream):
        token = bound_token(gateway)
        for target, uri in (
            ("/orders?page=2", "HTTP://Gateway.Test:80/orders"),
            ("/%6frders/a%2Db", "http://gateway.test/orders/a-b"),
            ("/api/7", "http://gateway.test/api/7"),
            ("http://gateway.test/orders", "http://gateway.test/orders"),
        ):
            fields = with_proof(token, proof_for(token, htu=uri))
            assert (await gateway.exchange(request(b"GET", target, *fields))).status == 200, target
        stripped = with_proof(token, proof_for(token, "/7"))
        assert (await gateway.exchange(request(b"GET", "/api/7", *stripped))).status == 401
        assert upstream.requests[2].target == b"/7"


@pytest.mark.parametrize(
    ("fields", "uri"),
    [
        ({"X-Forwarded-Proto": "https", "X-Forwarded-Host": "api.example.com"}, "https://api.example.com/"),
        ({"X-Forwarded-Proto": "https"}, "https://gateway.test/"),
        ({"Forwarded": "for=198.51.100.7;host=api.example.com;proto=https"}, "https://api.example.com/"),
        (
            {"Forwarded": 'for=198.51.100.7;host="api.example.com:8443";proto=https, for=127.0.0.2;host=x;proto=http'},
            "https://api.example.com:8443/",
        ),
    ],
)
@pytest.mark.rule("R135")
async def test_behind_a_trusted_proxy_the_uri_is_the_clients(tmp_path: Path, fields: dict[str, str], uri: str) -> None:
    """Behind a TLS terminator; no other client is believed."""
    extra = [(name.encode(), value.encode()) for name, value in fields.items()]
    kind = "forwarded" if "Forwarded" in fields else "x-forwarded"
    server = {"trusted_proxies": ["127.0.0.0/8"], "forwarded_fields": kind}
    async with running(tmp_path, server=server) as (gateway, _):
        token = bound_token(gateway)
        assert (await gateway.exchange(proved(token, "/", *extra, htu=uri))).status == 200
        assert (await gateway.exchange(proved(token, "/", *extra))).status == 401
    async with running(tmp_path, server={"trusted_proxies": ["192.0.2.1"]}) as (gateway, _):
        token = bound_token(gateway)
        assert (await gateway.exchange(proved(token, "/", *extra, htu=uri))).status == 401
        assert (await gateway.exchange(proved(token, "/", *extra))).status == 200


@pytest.mark.rule("R135")
async def test_configured_origins_say_what_a_proof_may_name(tmp_path: Path) -> None:
    """Where no proxy tells how clients come here."""
    origins = ["https://api.example.com", "https://API.example.org:8443"]
    async with running(tmp_path, dpop={"origins": origins}) as (gateway, _):
        token = bound_token(gateway)
        for origin, status in ((origins[0], 200), (origins[1], 200), (BASE, 401), ("https://api.example.org", 401)):
            assert (await gateway.exchange(proved(token, "/x", base=origin))).status == status


@pytest.mark.rule("R137")
async def test_a_proof_passes_once(tmp_path: Path) -> None:
    """RFC 9449 section 11.1; another proof with the same id is a replay, too."""
    async with running(tmp_path) as (gateway, upstream):
        token = bound_token(gateway)
        same = proved(token)
        assert [(await gateway.exchange(same)).status for _ in range(3)] == [200, 401, 401]
        numbered = [(await gateway.exchange(proved(token, jti="n-1"))).status for _ in range(2)]
        assert numbered == [200, 401]
        assert proofs(gateway.app).outcomes["dpop", "replayed_proof"] == 3
        assert proofs(gateway.app).used.entries == 2
        assert len(upstream.requests) == 2
        # The id is the client's own: another key may use it.
        other = bound_token(gateway, OTHER)
        assert (await gateway.exchange(proved(other, jti="n-1", key=OTHER))).status == 200


@pytest.mark.rule("R137")
async def test_a_full_memory_admits_nothing(tmp_path: Path) -> None:
    """Nothing is forgotten to make room."""
    async with running(tmp_path, tokens={"replay_size": 2}) as (gateway, upstream):
        token = bound_token(gateway)
        answers = [await gateway.exchange(proved(token)) for _ in range(4)]
        assert [answer.status for answer in answers] == [200, 200, 503, 503]
        assert answers[2].one(b"retry-after") is not None
        assert (await gateway.get("/", token=gateway.token())).status == 200
        assert [line.get("reason", "") for line in await gateway.log(5)][2:4] == ["replay_store"] * 2
        assert len(upstream.requests) == 3


@pytest.mark.rule("R138")
async def test_nonces_are_asked_for_and_given(tmp_path: Path) -> None:
    """RFC 9449 section 9."""
    async with running(tmp_path, dpop={"nonce_seconds": 3600}) as (gateway, _):
        token = bound_token(gateway)
        client = await gateway.client()
        asked = await client.exchange(proved(token))
        assert (asked.status, asked.json["error"]) == (401, "use_dpop_nonce")
        assert f'{ALGORITHMS}, error="use_dpop_nonce"' in challenges(asked)[0]
        (nonce,) = asked.all(b"dpop-nonce")
        passed = await client.exchange(proved(token, nonce=nonce.decode()))
        assert (passed.status, passed.all(b"dpop-nonce")) == (200, [])
        for wrong in ("x", nonce.decode() + "x", nonce.decode()[:-1], "\u00e9"):
            refused = await client.exchange(proved(token, nonce=wrong))
            assert (refused.status, refused.all(b"dpop-nonce")) == (401, [nonce])
        assert (await client.exchange(proved(token, nonce=""))).json["error"] == "invalid_dpop_proof"
        assert (await client.exchange(request(b"GET", "/", token=gateway.token()))).all(b"dpop-nonce") == []
        # A page of another origin can read it.
        page = await client.exchange(proved(token, "/pages", (b"Origin", b"https://app.test")))
        exposed = b", ".join(page.all(b"access-control-expose-headers"))
        assert (page.status, b"DPoP-Nonce" in exposed, b"WWW-Authenticate" in exposed) == (401, True, True)


@pytest.mark.rule("R096", "R133")
async def test_routes_say_which_tokens_they_take(tmp_path: Path) -> None:
    """Only bound ones where the route says so, and its challenges say how."""
    async with running(tmp_path) as (gateway, upstream):
        plain, bound = gateway.token(), bound_token(gateway)
        kept = await gateway.client()
        for path, status in (("/", 200), ("/bound", 401), ("/key", 401), ("/certificate", 401)):
            for _ in range(2):
                assert (await kept.exchange(request(b"GET", path, token=plain))).status == status, path
        for path, status in (("/", 200), ("/bound", 200), ("/key", 200), ("/certificate", 401)):
            assert (await kept.exchange(proved(bound, path))).status == status, path
        dpop, bearer = f'DPoP realm="gateway", {ALGORITHMS}', 'Bearer realm="gateway"'
        for path, wanted in (("/", [bearer]), ("/bound", [dpop, bearer]), ("/key", [dpop]), ("/certificate", [bearer])):
            for _ in range(2):
                assert challenges(await kept.exchange(request(b"GET", path))) == wanted
        reasons = {line["reason"] for line in await gateway.log(20) if line["status"] == 401}
        assert reasons == {"unbound_token", "no_credential"}
        assert len(upstream.requests) == 5


@pytest.mark.rule("R100", "R133")
async def test_the_error_is_in_the_challenge_of_the_scheme_in_use(tmp_path: Path) -> None:
    async with running(tmp_path) as (gateway, _):
        expired, bound = gateway.token(exp=int(time.time()) - 600), bound_token(gateway)
        old = bound_token(gateway, exp=int(time.time()) - 600)
        error = 'error="invalid_token", error_description="The access token expired."'
        dpop, bearer = f'DPoP realm="gateway", {ALGORITHMS}', 'Bearer realm="gateway"'
        assert challenges(await gateway.get("/", token=expired)) == [f"{bearer}, {error}"]
        assert challenges(await gateway.get("/bound", token=expired)) == [f"{bearer}, {error}", dpop]
        assert challenges(await gateway.get("/key", token=expired)) == [f"{dpop}, {error}"]
        assert challenges(await gateway.exchange(proved(old, "/"))) == [f"{dpop}, {error}", bearer]
        scoped = await gateway.exchange(proved(bound, "/scoped"))
        assert scoped.status == 403
        assert challenges(scoped)[0].startswith(f'{dpop}, error="insufficient_scope"')
        assert challenges(scoped)[0].endswith('scope="admin"')


@pytest.mark.rule("R096")
async def test_an_observed_route_notes_a_bad_proof(tmp_path: Path) -> None:
    """The upstream gets no identity."""
    async with running(tmp_path) as (gateway, upstream):
        token = bound_token(gateway)
        assert (await gateway.get("/observed", token=token)).status == 200
        assert (await gateway.exchange(proved(token, "/observed"))).status == 200
        assert [received.one(b"x-user-id") for received in upstream.requests] == [None, b"alice"]
        assert [line.get("observed", "") for line in await gateway.log(2)] == ["sender_constrained", ""]


@pytest.mark.rule("R133")
async def test_where_authorization_is_sent_on_its_proof_goes_with_it(tmp_path: Path) -> None:
    """No other spelling of the field does."""
    async with running(tmp_path, server={"underscore_headers": "pass"}) as (gateway, upstream):
        token = bound_token(gateway)
        data = proved(token, "/forward", (b"D_PoP", b"x"), (b"DPOP_", b"x"))
        assert (await gateway.exchange(data)).status == 200
        received = upstream.requests[0]
        assert received.one(b"authorization") == b"DPoP " + token
        assert received.one(b"dpop") is not None
        assert b"d_pop" in received.head.lower()


@pytest.mark.parametrize(
    "cnf",
    [{"kid": "a"}, {"jwk": CLIENT.public_jwk()}, {"x5t#S512": "A" * 43}, {"jkt": 1}, {"jkt": "short"}, {}, "x", []],
    ids=["kid", "jwk", "another hash", "a number", "too short", "empty", "a text", "a list"],
)
@pytest.mark.rule("R096")
async def test_a_binding_that_is_not_understood_is_never_no_binding(tmp_path: Path, cnf: Any) -> None:
    """With and without a proof."""
    async with running(tmp_path) as (gateway, upstream):
        token = gateway.token(cnf=cnf)
        assert (await gateway.get("/", token=token)).status == 401
        assert (await gateway.exchange(proved(token))).status == 401
        assert [line.get("reason", "") for line in await gateway.log(2)] == ["sender_constrained"] * 2
        assert upstream.connections == 0


@pytest.mark.rule("R194")
async def test_a_known_token_beside_another_keys_proof_is_refused(tmp_path: Path) -> None:
    """What a hit in the cache saves is the token's signature, never the sender's proof."""
    async with running(tmp_path) as (gateway, upstream):
        token = bound_token(gateway)
        client = await gateway.client()
        for options, status in (({}, 200), ({"key": OTHER}, 401), ({"htm": "PUT"}, 401), ({}, 200)):
            assert (await client.exchange(proved(token, **options))).status == status
        assert len(gateway.app.authenticator.cache) == 1
        assert len(upstream.requests) == 2


@pytest.mark.rule("R102", "R133")
async def test_what_a_kept_connection_repeats_byte_for_byte_gets_the_same_answer(tmp_path: Path) -> None:
    """Also where a credential is spelled in a way that nothing is remembered of."""
    async with running(tmp_path) as (gateway, _):
        token, bound = gateway.token(), bound_token(gateway)
        client = await gateway.client()
        for field, reason, status in (
            (b"BEARER " + token, "", 200),
            (b"Bearer  " + token, "", 200),
            (b"DPoP " + token, "unbound_token", 401),
            (b"dpop " + bound, "missing_proof", 401),
            (b"Bearer " + bound, "sender_constrained", 401),
        ):
            data = request(b"GET", "/", (b"Authorization", field))
            await gateway.settled()
            before = gateway.app.telemetry.refusals[reason]
            assert [(await client.exchange(data)).status for _ in range(3)] == [status] * 3
            await gateway.settled()
            assert gateway.app.telemetry.refusals[reason] == before + (3 if reason else 0)


EVIL = "http://evil-rs.example"


@pytest.mark.rule("R407")
async def test_a_proof_for_another_server_is_refused_where_origins_bound_the_name(tmp_path: Path) -> None:
    """RFC 9449 section 11.1; a server that was shown a proof sends it on under its own name as Host."""
    async with running(tmp_path, dpop={"origins": [BASE]}) as (gateway, upstream):
        token = bound_token(gateway)
        evil = proved(token, "/x", (b"Host", b"evil-rs.example"), base=EVIL)
        assert (await gateway.exchange(evil)).status == 401
        absolute = request(b"GET", f"{EVIL}/x", *with_proof(token, proof_for(token, htu=f"{EVIL}/x")))
        assert (await gateway.exchange(absolute)).status == 401
        assert upstream.requests == []
        assert (await gateway.exchange(proved(token, "/x", (b"Host", b"evil-rs.example"), base=BASE))).status == 200


@pytest.mark.rule("R407")
async def test_the_hosts_of_a_route_bound_what_a_proof_may_name(tmp_path: Path) -> None:
    """Neither a Host that leads to no route, nor what a trusted proxy passes on of the client's own field."""
    routes = [{"path": "/", "hosts": ["gateway.test", "api.example.com"]}]
    server = {"trusted_proxies": ["127.0.0.0/8"]}
    async with running(tmp_path, routes=routes, server=server) as (gateway, upstream):
        token = bound_token(gateway)
        evil = b"evil-rs.example"
        for fields in (
            {b"Host": evil},
            {b"X-Forwarded-Host": evil},
            {b"X-Forwarded-Host": b"gateway.test.evil-rs.example"},
            {b"Forwarded": b"for=192.0.2.1;host=" + evil},
        ):
            named = next(iter(fields.values())).rpartition(b"=")[2].decode()
            data = proved(token, "/x", *fields.items(), base=f"http://{named}")
            assert (await gateway.exchange(data)).status in (401, 404), fields
        assert upstream.requests == []
        for fields in ({}, {b"X-Forwarded-Host": b"api.example.com"}, {b"X-Forwarded-Host": b"API.example.com:8443"}):
            named = fields.get(b"X-Forwarded-Host", b"gateway.test").decode()
            assert (await gateway.exchange(proved(token, "/x", *fields.items(), base=f"http://{named}"))).status == 200


@pytest.mark.rule("R407")
async def test_without_origins_and_hosts_the_name_is_the_clients_choice(tmp_path: Path) -> None:
    """What `check` warns of; a gateway that does not know its names cannot tell."""
    async with running(tmp_path) as (gateway, _):
        token = bound_token(gateway)
        assert (await gateway.exchange(proved(token, "/x", (b"Host", b"evil-rs.example"), base=EVIL))).status == 200
