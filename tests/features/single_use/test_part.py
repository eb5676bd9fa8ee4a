"""Tokens for one request on the metrics page, and that what was used is remembered under a purpose of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.features.single_use.part import SingleUsePart
from tests.support.clock import FakeClock
from tests.support.gateways.running import running_gateway
from tests.support.parts import part_of, samples_of
from tests.support.pipeline import core_of
from tests.support.tokens.verifying import make_settings
from tests.support.upstreams.recording import raw_upstream

PASSED = ("gateway_single_use_passed_undecided_total",)


def test_tokens_that_passed_undecided_are_counted() -> None:
    part = SingleUsePart(core_of(make_settings(), FakeClock()))
    assert samples_of(part) == {PASSED: 0}
    part.single_use.used.passed += 2
    assert samples_of(part) == {PASSED: 2}
    assert part.guards == (part.single_use,)
    assert dict(part.status()) == {}


@pytest.mark.rule("R129")
async def test_a_full_memory_lets_pass_where_the_route_says_so(tmp_path: Path) -> None:
    """And no token takes a proof's place."""
    routes = ({"path": "/once", "single_use": True, "single_use_failure": "open"},)
    options: dict[str, Any] = {"routes": routes, "tokens": {"replay_size": 1}}
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **options) as gateway:
        for number in range(3):
            assert (await gateway.get("/once", token=gateway.token(jti=str(number)))).status == 200
        assert samples_of(part_of(gateway.app, SingleUsePart)) == {PASSED: 2}
        assert {purpose: used.entries for purpose, used in gateway.app.used_ids.items()} == {"proof": 0, "token": 1}
