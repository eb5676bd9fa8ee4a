"""Documents and the challenges that lead to them, as the gateway asks for them."""

from __future__ import annotations

import pytest

from gateway.features.resource_metadata.options import Resource
from gateway.features.resource_metadata.part import ResourceMetadataPart
from gateway.policy.routes import RouteTable
from tests.support.clock import FakeClock
from tests.support.composed import Route
from tests.support.pipeline import core_of
from tests.support.tokens.verifying import make_settings

WELL_KNOWN = "/.well-known/oauth-protected-resource"


@pytest.mark.rule("R115")
def test_challenges_of_a_resources_routes_name_its_document() -> None:
    """And no others; it stands at the end of each challenge for a token."""
    routes = [Route(path="/orders", upstream="orders"), Route(path="/", upstream="orders")]
    settings = make_settings(routes=routes, resources=[Resource(resource="https://a.test/orders")])
    table = RouteTable(settings.routes)
    part = ResourceMetadataPart(core_of(settings, FakeClock(), table))
    leading, other = table.routes
    url = f"https://a.test{WELL_KNOWN}/orders"
    assert part.challenge_parameters(leading) == {"": f'resource_metadata="{url}"'}
    assert part.challenge_parameters(other) == {}
    assert part.challenge_parameters(None) == {}
    found = part.resources.find("a.test", f"{WELL_KNOWN}/orders")
    assert found is not None
    assert found.answer("GET").status == 200
    assert part.endpoints is part.resources
    assert (dict(part.status()), list(part.metrics())) == ({}, [])
