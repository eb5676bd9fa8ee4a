"""API keys as a kind of credential: in the header that the route names, and shown to no other server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.errors import GatewayError
from gateway.features.api_keys.credential import ApiKeyKind
from gateway.features.api_keys.keys import ApiKeys
from gateway.features.api_keys.options import ApiKey
from gateway.features.api_keys.reasons import EXPIRED_API_KEY, MALFORMED_API_KEY, UNKNOWN_API_KEY
from gateway.policy.routes import Route, RouteTable
from gateway.server.seam.credential import Shown
from gateway.telemetry.counters import Record
from tests.support.clock import FakeClock
from tests.support.composed import Route as RouteSettings
from tests.support.composed import Tokens
from tests.support.tokens.api_keys import KEY, OTHER, entry
from tests.support.tokens.verifying import make_settings

FIELD = b"x-api-key"


def kind_of(*entries: dict[str, Any], **tokens: Any) -> tuple[ApiKeyKind, FakeClock]:
    clock = FakeClock()
    keys = [ApiKey.model_validate(each) for each in entries]
    return ApiKeyKind(ApiKeys(make_settings(api_keys=keys, tokens=Tokens(**tokens)), clock)), clock


def route(**options: Any) -> Route:
    return RouteTable([RouteSettings.model_validate({"path": "/", "upstream": "u", **options})]).routes[0]


def test_the_route_names_the_field() -> None:
    kind, _ = kind_of(entry())
    both = {"credentials": ["jwt", "api_key"]}
    assert kind.field(route(**both)) == FIELD
    assert kind.field(route(**both, api_key_header="Partner-Key")) == b"partner-key"
    assert kind.verifier(Shown(KEY, "", FIELD), route(**both)) is kind
    assert (kind.challenge, kind.malformed, kind.is_remote) == ("ApiKey", MALFORMED_API_KEY, False)


async def test_a_key_is_looked_up_at_once_and_a_wrong_one_is_refused_at_once() -> None:
    kind, _ = kind_of(entry())
    record = Record(0.0)
    found = kind.lookup(Shown(KEY, "", FIELD), record)
    assert found is not None
    assert (found.subject, found.credential) == ("partner", "api_key")
    assert (record.cache_hit, record.verify_seconds) == (None, None)
    assert await kind.resolve(Shown(KEY, "", FIELD)) == found
    for wrong in (OTHER, KEY + b" ", KEY.upper()):
        with pytest.raises(GatewayError) as caught:
            kind.lookup(Shown(wrong, "", FIELD), record)
        assert caught.value.reason is UNKNOWN_API_KEY
    assert kind.lookups == 5


@pytest.mark.rule("R437")
def test_keys_in_force_and_expired_ones_are_owned(tmp_path: Path) -> None:
    """Wherever one stands; while the file was never read, also what looks like one."""
    kind, _ = kind_of(entry(), entry(OTHER, "old", expires="2020-01-01T00:00:00Z"))
    assert kind.owns(KEY)
    assert kind.owns(OTHER)
    assert not kind.owns(b"gwk_other_1")
    unread, _ = kind_of(api_keys_file=str(tmp_path / "nowhere"))
    assert unread.owns(KEY)
    assert not unread.owns(b"opaque")


@pytest.mark.rule("C65")
def test_a_key_in_use_ends_with_it() -> None:
    kind, clock = kind_of(entry(expires="2027-01-15T08:00:10Z"))
    in_use = kind.in_use(Shown(KEY, "", FIELD))
    assert (in_use.identity.subject, in_use.ended()) == ("partner", None)
    clock.step_wall(10)
    assert in_use.ended() is EXPIRED_API_KEY
    for gone in (KEY, OTHER):
        with pytest.raises(GatewayError):
            kind.in_use(Shown(gone, "", FIELD))


def test_a_key_is_no_bearer_token() -> None:
    kind, _ = kind_of(entry())
    assert not kind.overrides(route())
    assert kind.sheds(route()) is None
    assert not kind.knows_revocations
