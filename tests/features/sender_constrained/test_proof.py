"""What a request shows for a bound token, and the order in which it is looked at. Time is the test's."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import GatewayError, Reason, Reasons
from gateway.features.sender_constrained.proof import Proofs, make_proofs
from gateway.features.sender_constrained.reasons import (
    FOREIGN_PROOF,
    MISSING_PROOF,
    PROOF_NONCE,
    REPLAYED_PROOF,
    STALE_PROOF,
    WRONG_CERTIFICATE,
)
from gateway.http1.target import parse_target
from gateway.http1.trusted_proxies import Peer
from gateway.identity import Confirmation, Identity
from gateway.policy.routes import RouteTable
from gateway.server.request.in_progress import Run
from gateway.server.request.request import Admitted
from gateway.server.seam.credential import Shown
from gateway.settings.tables.dpop import Dpop
from gateway.settings.tables.server import Server
from gateway.store.one_time_ids import ReplayMemory
from gateway.telemetry.record import Record
from gateway.upstream.headers.header_policy import compile_header_policy
from tests.server.pipeline.test_runner import RecordingClient
from tests.support.clock import FakeClock
from tests.support.composed import Route
from tests.support.tokens.minting import SigningKey, b64
from tests.support.tokens.proofs import make_proof
from tests.support.tokens.verifying import make_settings
from tests.support.wire.heads import head_of

KEY = SigningKey.ec("proof")
PEER = Peer(b"192.0.2.1", False, 80)
TOKEN, BEARER = Shown(b"a.b.c", "DPoP"), Shown(b"a.b.c")
CERTIFICATE = b"any bytes"
THUMBPRINT = b64(hashlib.sha256(CERTIFICATE).digest()).decode()
BY_KEY, BY_CERTIFICATE = Confirmation(KEY.jwk_thumbprint, None), Confirmation(None, THUMBPRINT)
ROUTE = RouteTable([Route(path="/", upstream="orders")]).routes[0]


class Desk:
    """Proofs under one configuration, and requests put to them."""

    def __init__(self, secret: bytes = b"s" * 32, server: dict[str, Any] | None = None, **dpop: Any) -> None:
        self.clock = FakeClock()
        settings = make_settings(dpop=Dpop(**dpop), server=Server(**(server or {})))
        self.proofs: Proofs = make_proofs(
            settings, self.clock, ReplayMemory(settings.tokens.replay_size, self.clock), secret
        )
        self.policy = compile_header_policy(settings, b"gw", self.proofs.reads)
        self.answer_fields: Sequence[tuple[bytes, bytes]] = ()

    def proof(self, **options: Any) -> tuple[bytes, bytes]:
        return b"DPoP", make_proof(KEY, TOKEN.value, self.clock.wall(), **{"uri": "http://gateway.test/", **options})

    async def judge(
        self,
        *fields: tuple[bytes, bytes],
        bound: Confirmation | None = BY_KEY,
        shown: Shown = TOKEN,
        certificate: bytes | None = None,
        **more: Any,
    ) -> Reason | None:
        """Return why a request is refused; None when its sender has proved all."""
        target = more.pop("target", b"/")
        headers = ((b"Host", b"gateway.test"), *fields)
        head = head_of(*headers, target=target, policy=self.policy)
        client = RecordingClient()
        client.certificate = certificate
        run = Run(client, head, PEER, Record(0.0), b"id")
        admitted = Admitted(ROUTE, parse_target("GET", target), "gateway.test", head, **more)
        who = Identity("main", "https://idp.test/", "alice", (), {}, b"", math.inf, -math.inf, None, confirmation=bound)
        try:
            await self.proofs.confirm(run, admitted, shown, who)
        except GatewayError as error:
            return error.reason
        finally:
            self.answer_fields = run.answer_fields
        return None


async def test_a_bearer_token_is_asked_for_nothing() -> None:
    desk = Desk()
    assert await desk.judge(bound=None, shown=BEARER) is None
    assert desk.proofs.outcomes == {}


@pytest.mark.rule("R137")
async def test_a_proof_is_remembered_as_long_as_it_could_be_used() -> None:
    """Also one whose clock is ahead."""
    desk = Desk()
    ahead = desk.proof(iat=desk.clock.wall() + 5)
    assert await desk.judge(ahead) is None
    desk.clock.jump(64.9)
    assert await desk.judge(ahead) is REPLAYED_PROOF
    desk.clock.jump(0.2)
    assert await desk.judge(ahead) is STALE_PROOF
    assert await desk.judge(desk.proof()) is None
    assert desk.proofs.used.entries == 1


@pytest.mark.rule("R137")
async def test_the_window_is_the_configurations() -> None:
    desk = Desk(max_age_seconds=10, max_future_seconds=0)
    assert await desk.judge(desk.proof(iat=desk.clock.wall() - 10)) is None
    assert await desk.judge(desk.proof(iat=desk.clock.wall() - 11)) is STALE_PROOF
    assert await desk.judge(desk.proof(iat=desk.clock.wall() + 1)) is STALE_PROOF


@pytest.mark.rule("R137")
async def test_a_proof_that_is_refused_is_not_used_up() -> None:
    """Neither a bad one, nor one that has no nonce yet."""
    desk = Desk(nonce_seconds=60)
    for options in ({}, {"nonce": "x"}, {"htm": "POST"}, {"header": {"alg": "RS256"}}):
        assert await desk.judge(desk.proof(**options)) is not None
    assert desk.proofs.used.entries == 0


@pytest.mark.rule("R138")
async def test_a_new_nonce_comes_before_the_old_one_ends() -> None:
    """RFC 9449 section 8.2: clients that follow are never asked again."""
    desk = Desk(nonce_seconds=60)
    assert await desk.judge(desk.proof()) is PROOF_NONCE
    ((name, first),) = desk.answer_fields
    assert name == b"DPoP-Nonce"
    nonce = first.decode()
    assert await desk.judge(desk.proof(nonce=nonce)) is None
    assert not desk.answer_fields
    for _ in range(5):
        desk.clock.jump(60)
        assert await desk.judge(desk.proof(nonce=nonce)) is None
        ((_, newer),) = desk.answer_fields
        assert newer != nonce.encode()
        nonce = newer.decode()
    desk.clock.jump(120)
    assert await desk.judge(desk.proof(nonce=nonce)) is PROOF_NONCE


@pytest.mark.rule("R138")
async def test_those_who_share_a_secret_take_each_others_nonces(tmp_path: Path) -> None:
    """Workers by the supervisor's, gateways by a file; a file goes before the supervisor's."""
    file = tmp_path / "secret"
    file.write_bytes(b"f" * 32)
    one, same, other = Desk(nonce_seconds=60), Desk(nonce_seconds=60), Desk(b"o" * 32, nonce_seconds=60)
    of_file = [Desk(secret, nonce_seconds=60, nonce_secret_file=str(file)) for secret in (b"s" * 32, b"")]
    alone = [Desk(b"", nonce_seconds=60) for _ in range(2)]
    nonces = []
    for desk in (one, same, other, *of_file, *alone):
        assert await desk.judge(desk.proof()) is PROOF_NONCE
        nonces.append(desk.answer_fields[0][1])
    assert nonces[0] == nonces[1]
    assert nonces[3] == nonces[4]
    assert len(set(nonces)) == 5


@pytest.mark.rule("R135")
async def test_a_websocket_may_be_named_by_either_scheme() -> None:
    """Clients know it as ws, and its handshake is a GET of http (RFC 6455 section 4.1)."""
    desk = Desk()
    for uri, websocket, wanted in (
        ("ws://gateway.test/", True, None),
        ("http://gateway.test/", True, None),
        ("wss://gateway.test/", True, FOREIGN_PROOF),
        ("ws://gateway.test/", False, FOREIGN_PROOF),
    ):
        assert await desk.judge(desk.proof(uri=uri), websocket=websocket) is wanted
    secure = Desk(origins=["https://gateway.test"])
    assert await secure.judge(secure.proof(uri="wss://gateway.test/"), websocket=True) is None


@pytest.mark.rule("R135")
async def test_a_request_without_a_host_has_no_uri_that_could_be_named() -> None:
    """HTTP/1.0."""
    desk = Desk()
    head = head_of(desk.proof(uri="http://gateway.test/"), http_version=b"1.0", policy=desk.policy)
    admitted = Admitted(ROUTE, parse_target("GET", b"/"), "", head)
    who = Identity("main", "", "alice", (), {}, b"", math.inf, -math.inf, None, confirmation=BY_KEY)
    with pytest.raises(GatewayError) as caught:
        await desk.proofs.confirm(Run(RecordingClient(), head, PEER, Record(0.0), b"id"), admitted, TOKEN, who)
    assert caught.value.reason is FOREIGN_PROOF


@pytest.mark.rule("R096")
async def test_both_bindings_are_asked_for() -> None:
    """A certificate does not stand for a proof, nor a proof for a certificate."""
    desk = Desk()
    both = Confirmation(KEY.jwk_thumbprint, THUMBPRINT)
    assert await desk.judge(desk.proof(), bound=both, certificate=CERTIFICATE) is None
    assert await desk.judge(desk.proof(), bound=both, certificate=b"other") is WRONG_CERTIFICATE
    assert await desk.judge(desk.proof(), bound=both) is WRONG_CERTIFICATE
    assert await desk.judge(bound=both, certificate=CERTIFICATE) is MISSING_PROOF
    assert await desk.judge(bound=both, certificate=CERTIFICATE, shown=BEARER) is Reasons.SENDER_CONSTRAINED


@pytest.mark.rule("R139")
async def test_a_certificate_is_the_connections_unless_a_trusted_proxy_speaks() -> None:
    desk = Desk()
    assert await desk.judge(bound=BY_CERTIFICATE, shown=BEARER, certificate=CERTIFICATE) is None
    assert await desk.judge(bound=BY_CERTIFICATE, shown=BEARER) is WRONG_CERTIFICATE
    field = (b"Client-Cert", b":YW55IGJ5dGVz:")
    assert await desk.judge(field, bound=BY_CERTIFICATE, shown=BEARER) is WRONG_CERTIFICATE
    believing, doubting = (
        Desk(server={"client_certificate_header": "client-cert", "trusted_proxies": [proxy]})
        for proxy in ("192.0.2.1", "192.0.2.2")
    )
    assert await believing.judge(field, bound=BY_CERTIFICATE, shown=BEARER) is None
    assert await believing.judge(bound=BY_CERTIFICATE, shown=BEARER, certificate=CERTIFICATE) is not None
    assert await doubting.judge(field, bound=BY_CERTIFICATE, shown=BEARER) is WRONG_CERTIFICATE
    assert await doubting.judge(field, bound=BY_CERTIFICATE, shown=BEARER, certificate=CERTIFICATE) is None
