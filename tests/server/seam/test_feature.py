"""What the core promises to features, and what it does without any."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.core import CounterMetricFamily, Metric

from gateway.errors import GatewayError, Reason, Reasons
from gateway.features.listed import FEATURES
from gateway.features.sender_constrained.feature import SenderConstrainedFeature
from gateway.identity import Identity
from gateway.policy.routes import Route
from gateway.server.request.in_progress import Run
from gateway.server.request.request import Admitted
from gateway.server.seam.credential import Shown
from gateway.server.seam.feature import Core, Feature, Part, demand_distinct
from gateway.server.seam.guard import Guard
from gateway.settings.feature_faults import FeatureError
from tests.server.admin.test_collector import scrape, value
from tests.support.clients.proving import bound_token, challenges, proof_for
from tests.support.gateways.running import RunningGateway, request, running_gateway
from tests.support.tokens.proofs import with_proof
from tests.support.upstreams.recording import raw_upstream

BOTH_LANES = pytest.mark.parametrize("express", [False, True])
NOWHERE = "http://127.0.0.1:9"

#: What a feature adds to ``/status``.
MEMBERS = {"introspection", "api_keys", "rate_limits", "watch"}


@BOTH_LANES
async def test_without_features_tokens_are_verified_and_requests_forwarded(express: bool, tmp_path: Path) -> None:
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, features=(), server={"express": express}) as gateway,
    ):
        client = await gateway.client()
        for _ in range(2):
            assert (await client.exchange(request(b"GET", "/", token=gateway.token()))).status == 200
            assert (await client.exchange(request(b"GET", "/", token=b"junk"))).status == 401
        assert len(upstream.requests) == 2
        assert gateway.app.parts == {}
        status, samples = (await gateway.admin("/status")).json, await scrape(gateway)
    assert not MEMBERS & set(status)
    assert (status["replay"], status["revocation"]) == ({}, {"known": True, "passed_unknown": 0})
    of_features = ("gateway_api_key", "gateway_introspection", "gateway_rate", "gateway_abuse", "gateway_proofs")
    assert not [name for name in samples if name.startswith(of_features)]


@BOTH_LANES
@pytest.mark.parametrize("left_out", [True, False], ids=["none", "all-but-one"])
@pytest.mark.rule("R096")
async def test_a_bound_token_is_refused_where_no_guard_confirms_it(
    left_out: bool, express: bool, tmp_path: Path
) -> None:
    """Whatever it comes with; it never passes for a bearer token because nothing looks at what it is bound to."""
    others = tuple(one for one in FEATURES if not isinstance(one, SenderConstrainedFeature))
    features: tuple[Feature, ...] = () if left_out else others
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, features=features, server={"express": express}) as gateway,
    ):
        client = await gateway.client()
        assert (await client.exchange(request(b"GET", "/", token=gateway.token()))).status == 200
        token = bound_token(gateway)
        for _ in range(2):  # the second time from the cache
            assert (await client.exchange(request(b"GET", "/", token=token))).status == 401
            proved = request(b"GET", "/", *with_proof(token, proof_for(token)))
            assert (await client.exchange(proved)).status == 401
        assert len(upstream.requests) == 1
        await gateway.settled()
        assert gateway.app.telemetry.refusals == {"sender_constrained": 4}


class Noted(Part):
    """Writes down what becomes of it."""

    def __init__(self, name: str, said: list[str], fails: bool) -> None:
        self._name, self._said, self._fails = name, said, fails

    async def start(self) -> None:
        self._said.append(f"{self._name} started")
        if self._fails:
            raise OSError("no such file")

    async def stop(self) -> None:
        self._said.append(f"{self._name} stopped")


class Noting(Feature):
    """A feature that does nothing else."""

    def __init__(self, name: str, said: list[str], *, fails: bool = False, nothing: bool = False) -> None:
        self.name = name
        self._said, self._fails, self._nothing = said, fails, nothing

    def build(self, core: Core) -> Part | None:
        self._said.append(f"{self.name} built")
        return None if self._nothing else Noted(self.name, self._said, self._fails)


async def test_parts_are_built_then_started_in_the_order_of_the_list_and_stopped_the_other_way(tmp_path: Path) -> None:
    said: list[str] = []
    features = (Noting("one", said), Noting("two", said, nothing=True), Noting("three", said))
    async with running_gateway(NOWHERE, tmp_path, features=features) as gateway:
        assert said == ["one built", "two built", "three built", "one started", "three started"]
        assert list(gateway.app.parts) == ["one", "three"]
    assert said[5:] == ["three stopped", "one stopped"]


async def test_a_part_that_cannot_start_ends_the_start_and_all_are_stopped(tmp_path: Path) -> None:
    said: list[str] = []
    features = (Noting("one", said), Noting("two", said, fails=True), Noting("three", said))
    with pytest.raises(FeatureError, match=r'^feature "two": start failed: no such file$'):
        async with running_gateway(NOWHERE, tmp_path, features=features):
            pytest.fail("it must not run")
    assert said[3:] == ["one started", "two started", "two stopped", "one stopped"]


class Remembering(Feature):
    """Remembers ids of one purpose."""

    def __init__(self, name: str, purpose: str) -> None:
        self.name = name
        self._purpose = purpose

    def build(self, core: Core) -> Part:
        self.used = core.used_ids(self._purpose)
        self.routes = [route.name for route in core.routes]
        return Part()


async def test_ids_of_one_purpose_are_one_memory_and_are_shown_by_purpose(tmp_path: Path) -> None:
    one, same, other = Remembering("one", "ticket"), Remembering("same", "ticket"), Remembering("other", "letter")
    async with running_gateway(NOWHERE, tmp_path, features=(one, same, other), routes=({"path": "/a"},)) as gateway:
        assert one.used is same.used
        assert one.used is not other.used
        assert one.routes == ["/a"]
        status, samples = (await gateway.admin("/status")).json, await scrape(gateway)
    empty = {"store": "memory", "entries": 0, "replays": 0, "failures": 0}
    assert status["replay"] == {"tickets": empty, "letters": empty}
    assert [sample.labels for sample in samples["gateway_replay_entries"]] == [{"kind": "ticket"}, {"kind": "letter"}]


class Telling(Part):
    """Adds to challenges."""

    def __init__(self, told: Mapping[str, str], elsewhere: Mapping[str, str]) -> None:
        self._told, self._elsewhere = told, elsewhere

    def challenge_parameters(self, route: Route | None) -> Mapping[str, str]:
        return self._elsewhere if route is None or route.name != "/told" else self._told


class Teller(Feature):
    """A feature that does so."""

    def __init__(self, name: str, told: Mapping[str, str], elsewhere: Mapping[str, str]) -> None:
        self.name = name
        self._part = Telling(told, elsewhere)

    def build(self, core: Core) -> Part:
        return self._part


async def test_challenges_have_what_features_add_by_route_and_scheme(tmp_path: Path) -> None:
    """RFC 9110 section 11.6.1: behind the realm, or at the end of each challenge."""
    features = (Teller("one", {"Bearer": 'a="1"'}, {}), Teller("two", {"": 'z="2"'}, {"": 'z="3"'}))
    routes = ({"path": "/told"}, {"path": "/"})
    async with running_gateway(NOWHERE, tmp_path, features=features, routes=routes) as gateway:
        (told,) = challenges(await gateway.get("/told", token=b"junk"))
        (other,) = challenges(await gateway.get("/", token=b"junk"))
    assert told.startswith('Bearer realm="gateway", a="1", error="invalid_token", error_description="')
    assert told.endswith('", z="2"')
    assert other.startswith('Bearer realm="gateway", error="invalid_token"')
    assert other.endswith('", z="3"')


class Confirming(Guard):
    """Confirms whatever a token is bound to, for callers of one name."""

    def __init__(self, said: list[str], subject: str) -> None:
        self._said, self._subject = said, subject

    async def confirm(self, run: Run, admitted: Admitted, shown: Shown, identity: Identity) -> bool:
        self._said.append(f"{identity.subject} {shown.scheme}")
        if identity.subject != self._subject:
            raise GatewayError(Reasons.SENDER_CONSTRAINED)
        return True


class Passing(Guard):
    """Looks at bound tokens for something else, and cannot tell whether their senders have what they are bound to."""

    async def confirm(self, run: Run, admitted: Admitted, shown: Shown, identity: Identity) -> bool:
        return False


class Confirmer(Feature):
    """A feature of that guard."""

    name = "confirmer"

    def __init__(self, *guards: Guard) -> None:
        self._guards = guards

    def build(self, core: Core) -> Part:
        part = Part()
        part.guards = self._guards
        return part


async def seen(gateway: RunningGateway, **claims: Any) -> int:
    return (await gateway.get("/", token=bound_token(gateway, **claims))).status


@pytest.mark.rule("R096")
async def test_all_guards_that_confirm_must_and_on_any_route(tmp_path: Path) -> None:
    """On routes that they do not cover, too; a plain bearer token is not theirs."""
    said: list[str] = []
    features = (Confirmer(Confirming(said, "alice"), Guard(), Confirming(said, "alice")),)
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, features=features) as gateway:
        assert await seen(gateway, sub="alice") == 200
        assert await seen(gateway, sub="bob") == 401
        assert (await gateway.get("/", token=gateway.token())).status == 200
    assert said == ["alice Bearer", "alice Bearer", "bob Bearer"]


@pytest.mark.rule("R096")
async def test_a_guard_that_looks_and_cannot_tell_confirms_nothing(tmp_path: Path) -> None:
    """Else a bound token would pass for a plain bearer token as soon as some feature looks at bound ones."""
    async with raw_upstream() as upstream:
        async with running_gateway(upstream.url, tmp_path, features=(Confirmer(Passing()),)) as gateway:
            assert await seen(gateway, sub="alice") == 401
        assert upstream.requests == []
        both = (Confirmer(Passing(), Confirming([], "alice"), Passing()),)
        async with running_gateway(upstream.url, tmp_path, features=both) as gateway:
            assert await seen(gateway, sub="alice") == 200


class Refusing(Feature):
    """A feature with reasons of its own."""

    def __init__(self, name: str, *codes: str) -> None:
        self.name = name
        self.reasons = tuple(Reason(code, Reasons.INTERNAL.kind) for code in codes)


def test_features_have_names_and_reason_codes_of_their_own() -> None:
    """Parts are kept by the feature's name, and logs and metrics name the code."""
    demand_distinct((*FEATURES, Refusing("mine", "mine")))
    with pytest.raises(ValueError, match="several features have one name: rate_limits"):
        demand_distinct((*FEATURES, Refusing("rate_limits")))
    for code in ("no_route", "rate_limited"):
        with pytest.raises(ValueError, match=f"several reasons have one code: {code}"):
            demand_distinct((*FEATURES, Refusing("mine", "mine", code)))


async def test_a_gateway_does_not_start_with_features_that_cannot_be_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="several features have one name: one"):
        async with running_gateway(NOWHERE, tmp_path, features=(Noting("one", []), Noting("one", []))):
            pytest.fail("it must not run")


class Failing(Part):
    """Fails to show anything, or shows it under names that others have."""

    def __init__(self, fails: bool) -> None:
        self._fails = fails

    def status(self) -> Mapping[str, Any]:
        if self._fails:
            raise LookupError("secret")
        return {"issuers": "mine", "rate_limits": "mine"}

    def metrics(self) -> Iterator[Metric]:
        yield CounterMetricFamily("gateway_mine", "Mine.", 1)
        if self._fails:
            raise LookupError("secret")
        yield CounterMetricFamily("gateway_requests", "Not mine.", 7)
        yield CounterMetricFamily("gateway_rate_limit_fallbacks", "Not mine.", 7)


class Failed(Feature):
    """A feature of such a part."""

    name = "failed"

    def __init__(self, fails: bool) -> None:
        self._fails = fails

    def build(self, core: Core) -> Part:
        return Failing(self._fails)


@pytest.mark.parametrize("fails", [True, False], ids=["fails", "takes-names"])
async def test_what_one_feature_fails_to_show_hides_nothing_else(
    fails: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A scrape that fails as a whole would take the alerts of all others with it. Of two names the first counts."""
    features = (Failed(fails), *FEATURES) if fails else (*FEATURES, Failed(fails))
    async with running_gateway(NOWHERE, tmp_path, features=features) as gateway:
        status, samples = (await gateway.admin("/status")).json, await scrape(gateway)
    assert set(status) >= {*MEMBERS, "upstreams"}
    assert "mine" not in (status["issuers"], status["rate_limits"])
    assert value(samples, "gateway_mine_total") == 1
    assert value(samples, "gateway_rate_limit_fallbacks_total") == value(samples, "gateway_requests_total") == 0
    assert samples["gateway_upstream_healthy"]
    told = [record.getMessage() for record in caplog.records if record.name == "gateway.admin"]
    if fails:
        assert [text.partition(" at ")[0] for text in told] == [
            "status of Failing is left out: LookupError",
            "metrics of Failing are left out: LookupError",
        ]
    else:
        assert told == [
            "status of Failing is left out: taken already: issuers, rate_limits",
            "metric gateway_requests of Failing is left out: another one has its name",
            "metric gateway_rate_limit_fallbacks of Failing is left out: another one has its name",
        ]
    assert "secret" not in caplog.text
