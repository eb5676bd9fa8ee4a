"""What sender-constrained tokens say of settings to the core."""

from __future__ import annotations

import pytest

from gateway.features.sender_constrained.feature import SenderConstrainedFeature
from gateway.settings.tables.root import Kept
from tests.support.composed import Route, Settings

PROOFS = [Kept("used proofs", durable=True)]


@pytest.mark.parametrize(("wanted", "kept"), [("required", PROOFS), ("dpop", PROOFS), ("mtls", []), ("optional", [])])
def test_proofs_must_not_be_lost_where_some_are_demanded(wanted: str, kept: list[Kept]) -> None:
    route = Route.model_validate({"path": "/", "upstream": "orders", "sender_constrained": wanted})
    assert (
        list(SenderConstrainedFeature().kept_in_redis(Settings.model_construct(upstreams=[], routes=[route]))) == kept
    )
