"""The one observer of a gateway, or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import GatewayError, Reasons
from gateway.features.listed import FEATURES
from gateway.server.seam.feature import Core, Feature, Part
from gateway.server.seam.observer import NoObserver, only
from gateway.telemetry.counters import Record
from tests.support.gateways.running import request, running_gateway
from tests.support.upstreams.recording import raw_upstream


class Watching:
    """Writes down what it sees, and bars all clients once the test says so."""

    def __init__(self) -> None:
        self.barring = False
        self.codes = frozenset(reason.code for reason in Reasons.all())
        self.seen: list[str] = []

    def finished(self, record: Record) -> None:
        self.seen.append(record.reason or f"observed {record.observed}")

    def refused_credential(self, client: str, code: str, detail: str) -> None:
        self.seen.append(code)

    def bars(self, client: str) -> bool:
        return self.barring

    def demand_unbarred(self, client: str) -> None:
        if self.barring:
            raise GatewayError(Reasons.OVERLOADED)


class Watcher(Feature):
    """A feature that observes."""

    name = "watcher"

    def __init__(self) -> None:
        self.observer = Watching()

    def build(self, core: Core) -> Part:
        part = Part()
        part.observer = self.observer
        return part


def test_there_is_one_at_most() -> None:
    one = Watching()
    assert only([one]) is one
    assert isinstance(only([]), NoObserver)
    with pytest.raises(ValueError, match="more than one feature"):
        only([one, Watching()])


async def test_a_gateway_with_two_does_not_start(tmp_path: Path) -> None:
    """Abuse detection is one: nothing says in which order they would refuse."""
    with pytest.raises(ValueError, match="more than one feature"):
        async with running_gateway("http://127.0.0.1:9", tmp_path, features=(*FEATURES, Watcher())):
            pytest.fail("it must not run")


def test_without_one_nobody_is_barred() -> None:
    none = NoObserver()
    none.finished(Record(0.0))
    none.refused_credential("192.0.2.1", "expired", "")
    none.demand_unbarred("192.0.2.1")
    assert (none.barring, none.bars("192.0.2.1")) == (False, False)


@pytest.mark.parametrize("express", [False, True])
async def test_it_sees_each_refusal_once_and_may_refuse_addresses(express: bool, tmp_path: Path) -> None:
    """Everywhere but on public routes, where no credential is looked at."""
    routes = ({"path": "/"}, {"path": "/observed", "observe": True}, {"path": "/public", "auth": "public"})
    watcher = Watcher()
    async with (
        raw_upstream() as upstream,
        running_gateway(
            upstream.url, tmp_path, routes=routes, features=(watcher,), server={"express": express}
        ) as gateway,
    ):
        token, seen = gateway.token(), watcher.observer.seen
        for path, shown in (("/", token), ("/", b"junk"), ("/", b"junk"), ("/observed", b"junk"), ("/public", b"junk")):
            await gateway.get(path, token=shown)
        await gateway.settled()
        assert seen == ["not_a_jws", "not_a_jws", "observed not_a_jws"]
        watcher.observer.barring = True
        assert (await gateway.get("/", token=token)).status == 503
        assert (await gateway.get("/observed", token=token)).status == 200
        assert (await gateway.get("/public")).status == 200
        await gateway.settled()
        assert seen[3:] == ["overloaded", "observed overloaded"]
        watcher.observer.barring = False
        assert (await gateway.get("/", token=token)).status == 200


class Stumbling(Watching):
    """Fails whenever it is to look."""

    def finished(self, record: Record) -> None:
        raise LookupError("secret")

    def refused_credential(self, client: str, code: str, detail: str) -> None:
        raise LookupError("secret")


@pytest.mark.parametrize("access_log", ["json", "off"])
@pytest.mark.parametrize("express", [False, True])
async def test_a_refusal_is_answered_though_the_observer_fails(
    express: bool, access_log: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without end, the connection's next request would wait indefinitely."""
    watcher = Watcher()
    watcher.observer = Stumbling()
    server = {"express": express, "access_log": access_log}
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, features=(watcher,), server=server) as gateway,
    ):
        client = await gateway.client()
        for _ in range(3):
            assert (await client.exchange(request(b"GET", "/", token=gateway.token()))).status == 200
            assert (await client.exchange(request(b"GET", "/", token=b"junk"))).status == 401
            assert (await client.exchange(request(b"GET", "/"))).status == 401
        await gateway.settled()
        assert gateway.app.telemetry.running == 0
    assert "a refusal could not be looked at: LookupError at " in caplog.text
    assert "secret" not in caplog.text
