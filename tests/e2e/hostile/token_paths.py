"""Every way in which a secret can come to a gateway: good, bad and malformed requests, and failing upstreams.

Sends them; what is looked at afterwards is in ``test_no_token_leaks.py``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tests.support.clients.proving import CLIENT, bound_token, proof_for
from tests.support.clients.proving import OTHER as OTHER_CLIENT
from tests.support.gateways.running import RawResponse, RunningGateway, request, until
from tests.support.leaks import Secrets
from tests.support.tokens.api_keys import KEY, OTHER, entry
from tests.support.tokens.minting import SigningKey, b64, good_claims, mint
from tests.support.tokens.proofs import with_proof
from tests.support.upstreams.recording import Received

EXPIRED = b"gwk_old_89abcdef0123456789abcdef0123456789abcdef0123456789abcdef01234567"

#: A text in a claim of every token; it must not be seen decoded either.
MARKER = "marker-Zq7Xw9Kv3TbN5pRm"
SECRET_CLAIM = {"jti": MARKER}

ROUTES: tuple[dict[str, Any], ...] = (
    {"path": "/"},
    {"path": "/scoped", "scopes": ["admin"]},
    {"path": "/observe", "observe": True, "scopes": ["admin"]},
    {"path": "/optional", "auth": "optional"},
    {"path": "/public", "auth": "public"},
    {"path": "/pass", "forward_authorization": True},
    {"path": "/socket", "websocket_protocol_token": True},
    {"path": "/keys", "credentials": ["jwt", "api_key"]},
    {"path": "/keys/only", "credentials": ["api_key"], "scopes": ["read"]},
    {"path": "/keys/observe", "credentials": ["api_key"], "observe": True, "scopes": ["admin"]},
    {"path": "/keys/optional", "credentials": ["api_key"], "auth": "optional"},
    {"path": "/keys/cut", "credentials": ["api_key"], "end_at_expiry": True},
)

#: Keys that the gateway knows: a good one, one without rights, one that has expired.
API_KEYS: list[dict[str, Any]] = [
    entry(KEY, "good", scopes=["read"]),
    entry(OTHER, "poor"),
    entry(EXPIRED, "old", expires="2020-01-01T00:00:00Z"),
]

SHAKE = b"GET /socket HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
SHAKE_KEY = b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"


@dataclass
class Sender:
    """A gateway, a good token, and all secrets that were sent to it; ``access_log`` reads what it wrote."""

    gateway: RunningGateway
    token: bytes
    secrets: Secrets
    access_log: Callable[[], str]

    @classmethod
    def to(cls, gateway: RunningGateway, access_log: Callable[[], str] | None = None) -> Sender:
        """Make a good token for ``gateway``."""
        token = gateway.token(**SECRET_CLAIM)
        secrets = Secrets(token, MARKER.encode(), *(key.rpartition(b"_")[2] for key in (KEY, OTHER, EXPIRED)))
        return cls(gateway, token, secrets, access_log or gateway.out.getvalue)


Sending = Callable[[Sender], Awaitable[list[RawResponse]]]


async def echoing(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
    """Behave as the path says; the bad answers quote the Authorization field that came in."""
    quoted = received.one(b"authorization") or b""
    match received.target.partition(b"?")[0].rpartition(b"/")[2]:
        case b"breaks":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            await writer.drain()
            return None
        case b"closes":
            return None
        case b"stalls":
            await reader.read()
            return None
        case b"trickles":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            await writer.drain()
            await reader.read()
            return None
        case b"garbage":
            return b"HTTP/1.1 200 OK\r\nX-Quoted: \x01" + quoted + b"\r\nContent-Length: 0\r\n\r\n"
        case b"nonsense":
            return quoted + b"\r\n\r\n"
        case b"bad-chunk":
            return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + quoted + b"\r\n"
    return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def _raw(gateway: RunningGateway, data: bytes) -> list[RawResponse]:
    """Send bytes that may get any answer, or none."""
    client = await gateway.client()
    await client.send(data)
    try:
        return [await client.response(within=3)]
    except (asyncio.IncompleteReadError, ConnectionError):
        return []


def _get(*targets: str | bytes) -> Sending:
    async def send(sender: Sender) -> list[RawResponse]:
        filled = [target.replace(b"TOKEN", sender.token) if isinstance(target, bytes) else target for target in targets]
        return [await sender.gateway.get(target, token=sender.token) for target in filled]

    return send


def _bytes(template: bytes) -> Sending:
    async def send(sender: Sender) -> list[RawResponse]:
        return await _raw(sender.gateway, template.replace(b"TOKEN", sender.token))

    return send


def _altered(alter: Callable[[RunningGateway, bytes], bytes]) -> Sending:
    """Send a token made from the good one; it is refused on a strict, an optional and an observing route."""

    async def send(sender: Sender) -> list[RawResponse]:
        bad = alter(sender.gateway, sender.token)
        sender.secrets.add(bad)
        return [await sender.gateway.get(target, token=bad) for target in ("/", "/", "/optional", "/observe")]

    return send


def _minted(header: dict[str, Any] | None = None, **claims: Any) -> Sending:
    def alter(gateway: RunningGateway, _token: bytes) -> bytes:
        return mint(gateway.key, good_claims(time.time(), **SECRET_CLAIM, **claims), header=header)

    return _altered(alter)


def _signed_by(key: SigningKey) -> Sending:
    return _altered(lambda _gateway, _token: mint(key, good_claims(time.time(), **SECRET_CLAIM)))


def _with_segments(change: Callable[[list[bytes]], list[bytes]]) -> Sending:
    return _altered(lambda _gateway, token: b".".join(change(token.split(b"."))))


async def _leaves_early(sender: Sender) -> list[RawResponse]:
    client = await sender.gateway.client()
    await client.send(request(b"GET", "/public/trickles", token=sender.token))
    await client.response(head_only=True)
    await client.close()
    await until(lambda: "client_gone" in sender.access_log())
    return []


async def _uploads(sender: Sender) -> list[RawResponse]:
    """Content that is the token: refused, and with broken framing."""
    gateway, token = sender.gateway, sender.token
    chunked = ((b"Transfer-Encoding", b"chunked"),)
    length = ((b"Content-Length", b"%d" % len(token)),)
    found = [await gateway.exchange(request(b"POST", "/", *length, body=token))]
    for body in (token + b"\r\n\r\n", b"5\r\n" + token + b"\r\n0\r\n\r\n", b"1;" + token + b"\n\r\nx\r\n"):
        found += await _raw(gateway, request(b"POST", "/public", *chunked, body=body))
        found += await _raw(gateway, request(b"POST", "/", *chunked, token=token, body=body))
    return found


def _key(*fields: bytes, method: bytes = b"GET", unknown: bytes = b"") -> Sending:
    """Send a key in these fields to every route that looks at keys, and to some that do not, twice."""

    async def send(sender: Sender) -> list[RawResponse]:
        sender.secrets.add(unknown)
        found = []
        for target in (b"/keys", b"/keys/only", b"/keys/observe", b"/keys/optional", b"/keys/cut", b"/public", b"/"):
            head = b"\r\n".join([method + b" " + target + b" HTTP/1.1", b"Host: gateway.test", *fields])
            data = head.replace(b"TOKEN", sender.token) + b"\r\n\r\n"
            for _ in range(2):
                found += await _raw(sender.gateway, data)
        return found

    return send


def _proved(times: int = 1, **changes: Any) -> Sending:
    """Send a bound token with a proof, of which something is changed; both are secrets."""

    async def send(sender: Sender) -> list[RawResponse]:
        token = bound_token(sender.gateway, jti=MARKER)
        sender.secrets.add(token)
        as_bearer = request(b"GET", "/", (b"DPoP", proof_for(token)), token=token)
        found = [await sender.gateway.exchange(as_bearer)]
        for target in (b"/", b"/observe", b"/pass"):
            proof = proof_for(token, target.decode(), **{"jti": MARKER + target.decode(), **changes})
            sender.secrets.add(proof)
            fields = with_proof(token, proof)
            found += [await sender.gateway.get(target, *fields) for _ in range(times)]
        return found

    return send


UNKNOWN = b"d41d8cd98f00b204e9800998ecf8427e5bd1f0a3c2e4968778695a4b3c2d1e0f"

HEAD = b"GET / HTTP/1.1\r\nHost: gateway.test\r\n"

PATHS: dict[str, Sending] = {
    "accepted-twice": _get("/", "/", "/optional", "/public", "/pass"),
    "query-token": _get(b"/?access_token=TOKEN", b"/public?a=1&access_token=TOKEN", b"/nowhere?token=TOKEN"),
    "query-token-alone": _bytes(b"GET /?access_token=TOKEN HTTP/1.1\r\nHost: h\r\n\r\n"),
    "scope": _get("/scoped", "/observe"),
    "no-route-and-bad-path": _get("/a/../b", "/a%2fb", "//x", "/%00"),
    "bit-flipped": _with_segments(lambda parts: [parts[0], parts[1], parts[2][:40] + b"AAAA" + parts[2][44:]]),
    "unsigned": _with_segments(lambda parts: [b64(b'{"alg":"none"}'), parts[1], b"x" * 40]),
    "header-not-json": _with_segments(lambda parts: [parts[1][1:], parts[1], parts[2]]),
    "payload-not-json": _with_segments(lambda parts: [parts[0], parts[2], parts[1]]),
    "not-base64": _with_segments(lambda parts: [parts[0] + b"!", parts[1], parts[2]]),
    "padded": _with_segments(lambda parts: [*parts[:2], parts[2] + b"=="]),
    "five-parts": _with_segments(lambda parts: [*parts, parts[1], parts[2]]),
    "two-parts": _with_segments(lambda parts: parts[1:]),
    "one-part": _with_segments(lambda parts: [b"".join(parts)]),
    "too-long": _with_segments(lambda parts: [parts[0], parts[1] * 40, parts[2]]),
    "expired": _minted(exp=1),
    "wrong-audience": _minted(aud=MARKER),
    "foreign-issuer": _minted(iss="https://elsewhere.test/"),
    "bad-claim": _minted(sub=5),
    "control-in-claim": _minted(sub="a\nb"),
    "critical": _minted({"crit": [MARKER]}),
    "typed": _minted({"typ": "logout+jwt"}),
    "unknown-kid": _minted({"kid": "nobody"}),
    "wrong-kid-type": _minted({"kid": [MARKER]}),
    "other-key": _signed_by(SigningKey.rsa("a", variant=1)),
    "other-algorithm": _signed_by(SigningKey.ed25519("a")),
    "two-credentials": _bytes(HEAD + b"Authorization: Bearer TOKEN\r\nAuthorization: Bearer TOKEN\r\n\r\n"),
    "list": _bytes(HEAD + b"Authorization: Bearer TOKEN, Bearer TOKEN\r\n\r\n"),
    "two-words": _bytes(HEAD + b"Authorization: Bearer TOKEN TOKEN\r\n\r\n"),
    "bare": _bytes(HEAD + b"Authorization: TOKEN\r\n\r\n"),
    "other-scheme": _bytes(HEAD + b"Authorization: Basic TOKEN\r\n\r\n"),
    "tab": _bytes(HEAD + b"Authorization: Bearer\tTOKEN\r\n\r\n"),
    "cookie": _bytes(HEAD + b"Cookie: session=TOKEN\r\n\r\n"),
    "no-colon": _bytes(HEAD + b"Authorization Bearer TOKEN\r\n\r\n"),
    "token-is-a-line": _bytes(HEAD + b"TOKEN\r\n\r\n"),
    "field-name": _bytes(HEAD + b"TOKEN: x\r\n\r\n"),
    "bad-field-name": _bytes(HEAD + b"TOKEN(: x\r\n\r\n"),
    "space-before-colon": _bytes(HEAD + b"Authorization : Bearer TOKEN\r\n\r\n"),
    "control-in-value": _bytes(HEAD + b"Authorization: Bearer TOKEN\x00\r\n\r\n"),
    "bare-lf": _bytes(HEAD + b"Authorization: Bearer TOKEN\nX: y\r\n\r\n"),
    "bare-cr": _bytes(HEAD + b"Authorization: Bearer TOKEN\rX: y\r\n\r\n"),
    "folded": _bytes(HEAD + b"Authorization: Bearer\r\n TOKEN\r\n\r\n"),
    "raw-bytes": _bytes(HEAD + b"Authorization: Bearer TOKEN\xff\xfe\r\n\r\n"),
    "method": _bytes(b"TOKEN / HTTP/1.1\r\nHost: h\r\n\r\n"),
    "target": _bytes(b"GET TOKEN HTTP/1.1\r\nHost: h\r\n\r\n"),
    "version": _bytes(b"GET / TOKEN\r\nHost: h\r\n\r\n"),
    "request-line": _bytes(b"TOKEN\r\n\r\n"),
    "absolute-form": _bytes(b"GET http://u:TOKEN@h/ HTTP/1.1\r\nHost: h\r\n\r\n"),
    "fragment": _bytes(b"GET /#TOKEN HTTP/1.1\r\nHost: h\r\n\r\n"),
    "bad-host": _bytes(b"GET / HTTP/1.1\r\nHost: h/TOKEN\r\n\r\n"),
    "request-id": _bytes(HEAD + b"X-Request-Id: Bearer TOKEN\r\n\r\n"),
    "expectation": _bytes(HEAD + b"Expect: TOKEN\r\n\r\n"),
    "coding": _bytes(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: TOKEN\r\n\r\n"),
    "length": _bytes(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: TOKEN\r\n\r\n"),
    "upgrade": _bytes(HEAD + b"Connection: upgrade\r\nUpgrade: TOKEN\r\nAuthorization: Bearer TOKEN\r\n\r\n"),
    "head-too-large": _bytes(HEAD + b"Authorization: Bearer TOKEN\r\nX: " + b"TOKEN" * 300 + b"\r\n\r\n"),
    "line-too-long": _bytes(b"GET /?" + b"TOKEN" * 300 + b" HTTP/1.1\r\nHost: h\r\n\r\n"),
    "endless-head": _bytes(HEAD + b"Authorization: Bearer " + b"TOKEN" * 300),
    "tls-hello-like": _bytes(b"\x16\x03\x01TOKEN\r\n\r\n"),
    "socket": _bytes(SHAKE + SHAKE_KEY + b"Sec-WebSocket-Protocol: bearer, TOKEN, v1\r\n\r\n"),
    "socket-bad-token": _bytes(SHAKE + SHAKE_KEY + b"Sec-WebSocket-Protocol: bearer, xTOKEN\r\n\r\n"),
    "socket-alone": _bytes(SHAKE + SHAKE_KEY + b"Sec-WebSocket-Protocol: TOKEN, bearer\r\n\r\n"),
    "socket-two": _bytes(SHAKE + b"Authorization: Bearer TOKEN\r\nSec-WebSocket-Protocol: bearer, TOKEN\r\n\r\n"),
    "socket-key": _bytes(SHAKE + b"Sec-WebSocket-Key: TOKEN\r\nSec-WebSocket-Protocol: bearer, TOKEN\r\n\r\n"),
    "key": _key(b"X-Api-Key: " + KEY),
    "key-without-rights": _key(b"X-Api-Key: " + OTHER),
    "key-expired": _key(b"X-Api-Key: " + EXPIRED),
    "key-unknown": _key(b"X-Api-Key: " + UNKNOWN, unknown=UNKNOWN),
    "key-altered": _key(b"X-Api-Key: " + KEY[:-1] + b"\xff"),
    "key-too-long": _key(b"X-Api-Key: " + KEY * 120),
    "key-twice": _key(b"X-Api-Key: " + KEY, b"x-api-key: " + OTHER),
    "key-in-a-list": _key(b"X-Api-Key: " + KEY + b", " + OTHER),
    "key-and-token": _key(b"X-Api-Key: " + KEY, b"Authorization: Bearer TOKEN"),
    "key-as-token": _key(b"Authorization: Bearer " + KEY),
    "key-as-scheme": _key(b"Authorization: ApiKey " + KEY),
    "key-folded": _key(b"X_Api_Key: " + KEY, b"HTTP_X_API_KEY: " + KEY),
    "key-as-name": _key(KEY + b": x"),
    "key-with-control": _key(b"X-Api-Key: " + KEY + b"\x01"),
    "key-without-colon": _key(b"X-Api-Key " + KEY),
    "key-as-method": _key(b"X-Api-Key: " + KEY, method=KEY),
    "key-in-connection": _key(b"Connection: " + KEY, b"X-Api-Key: " + KEY),
    "key-in-query": _bytes(b"GET /keys?x-api-key=" + KEY + b"&access_token=" + OTHER + b" HTTP/1.1\r\nHost: h\r\n\r\n"),
    "key-socket": _bytes(SHAKE.replace(b"/socket", b"/keys") + SHAKE_KEY + b"X-Api-Key: " + KEY + b"\r\n\r\n"),
    "proof": _proved(),
    "proof-again": _proved(times=2),
    "proof-for-another-uri": _proved(htu=f"https://{MARKER}.test/{MARKER}"),
    "proof-for-another-method": _proved(htm=MARKER),
    "proof-of-another-key": _proved(key=OTHER_CLIENT),
    "proof-badly-signed": _proved(header={"jwk": OTHER_CLIENT.public_jwk()}, alg="ES256"),
    "proof-with-private-key": _proved(header={"jwk": CLIENT.private_jwk()}),
    "proof-of-another-algorithm": _proved(header={"alg": MARKER}),
    "proof-of-another-type": _proved(header={"typ": MARKER}),
    "proof-too-old": _proved(iat=1),
    "proof-without-id": _proved(jti=""),
    "dpop-scheme": _bytes(HEAD + b"Authorization: DPoP TOKEN\r\nDPoP: TOKEN\r\n\r\n"),
    "certificate": _bytes(HEAD + b"Authorization: Bearer TOKEN\r\nClient-Cert: :TOKEN:\r\n\r\n"),
    "upload": _uploads,
    "client-leaves": _leaves_early,
    "upstream-breaks": _get("/breaks", "/pass/breaks", "/closes", "/stalls"),
    "upstream-quotes": _get("/pass/garbage", "/pass/nonsense", "/pass/bad-chunk"),
}
