"""Who asks, and may they: no way past a proof that a token demands. The order of the steps is test_judge_steps.py's."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.identity import Confirmation, Identity
from gateway.jwt import authenticator as authenticate
from gateway.jwt.claims.issuer_policy import IssuerPolicy
from gateway.jwt.claims.rules import make_identity
from gateway.jwt.jose.compact import Unverified
from tests.support.gateways.running import request, running_gateway
from tests.support.parts import proofs
from tests.support.upstreams.recording import raw_upstream


@pytest.mark.parametrize("express", [False, True])
@pytest.mark.rule("R096", "R133", "R139")
async def test_bound_token_is_nobodys_bearer_token_the_first_time_and_the_next(
    express: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever hands out an identity with a confirmation, no request goes on with it."""

    def bound(token: Unverified, policy: IssuerPolicy) -> Identity:
        identity = make_identity(token, policy)
        return identity._replace(confirmation=Confirmation("thumb", None) if identity.token_id == "bound" else None)

    monkeypatch.setattr(authenticate, "make_identity", bound)
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, server={"express": express}) as gateway,
    ):
        client, plain = await gateway.client(), gateway.token()
        for _ in range(2):  # from now on there is a connection to the upstream, and the request line is known
            assert (await client.exchange(request(b"GET", "/", token=plain))).status == 200
        token = gateway.token(jti="bound")
        for _ in range(3):
            assert (await client.exchange(request(b"GET", "/", token=token))).status == 401
        assert len(upstream.requests) == 2
        await gateway.settled()
        assert gateway.app.telemetry.refusals == {"sender_constrained": 3}


@pytest.mark.parametrize("express", [False, True])
@pytest.mark.rule("R133")
async def test_scheme_dpop_is_for_tokens_that_are_bound_to_a_key(
    express: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a bearer token nor one that is bound to a certificate alone; no proof of either is asked for."""

    def bound(token: Unverified, policy: IssuerPolicy) -> Identity:
        identity = make_identity(token, policy)
        return identity._replace(confirmation=Confirmation(None, "thumb") if identity.token_id == "bound" else None)

    monkeypatch.setattr(authenticate, "make_identity", bound)
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, server={"express": express}) as gateway,
    ):
        client = await gateway.client()
        for token in (gateway.token(), gateway.token(jti="bound")):
            for _ in range(2):
                reply = await client.exchange(request(b"GET", "/", (b"Authorization", b"DPoP " + token)))
                assert reply.status == 401
        await gateway.settled()
        assert upstream.requests == []
        assert gateway.app.telemetry.refusals == {"unbound_token": 4}
        assert proofs(gateway.app).outcomes == {}
