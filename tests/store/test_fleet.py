"""Gateways that share a Redis, and what they tell each other."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import SystemClock
from gateway.settings.tables.redis import Redis
from gateway.store.fleet import (
    MAX_DIFFERENCES,
    MAX_FLEET_RECORD_BYTES,
    MAX_GATEWAY_RECORDS,
    RECORD_SECONDS,
    Fleet,
    read_record,
)
from gateway.store.names import FLEET
from gateway.store.redis_link import RedisLink
from tests.support.clock import FakeClock, OffsetClock, eventually
from tests.support.composed import Settings
from tests.support.gateways.revoking import linked
from tests.support.stores.redis import RedisServer
from tests.support.tokens.verifying import make_settings


def settings(listen: str = "127.0.0.1:8080", **issuer: Any) -> Settings:
    made = make_settings(issuer)
    return made.model_copy(update={"server": made.server.model_copy(update={"listen": listen})})


@contextlib.asynccontextmanager
async def member(server: RedisServer, configured: Settings, ahead: float = 0.0) -> AsyncIterator[Fleet]:
    clock = OffsetClock(ahead)
    link = RedisLink(Redis.model_validate({"url": server.url, "timeout_seconds": 2}), clock)
    await link.start()
    fleet = Fleet(link, configured, clock)
    await fleet.start()
    try:
        yield fleet
    finally:
        await fleet.stop()
        await link.stop()


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged of differences."""
    return [record.getMessage() for record in caplog.records if record.name == "gateway.fleet"]


@pytest.mark.rule("R440")
async def test_a_difference_is_told_once_with_option_and_gateway(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By one of the workers of a gateway, and shown as long as it lasts."""
    async with (
        RedisServer(tmp_path) as server,
        member(server, settings("10.0.0.1:80", leeway_seconds=2)) as one,
        member(server, settings("10.0.0.1:80", leeway_seconds=2)) as sibling,
    ):
        assert (one.status()["differences"], sibling.others, lines(caplog)) == ([], 1, [])
        async with member(server, settings("10.0.0.2:80", leeway_seconds=60)) as other:
            for fleet in (one, sibling, other, one, sibling, other):
                await fleet.look()
            (shown,) = one.status()["differences"]
            assert (shown["option"], shown["there"], shown["here"]) == ("issuers.main.leeway_seconds", "60", "2")
            assert shown["gateway"].endswith(" 10.0.0.2:80")
            assert one.status()["others"] == 2
            logged = lines(caplog)
            assert len(logged) == 2
            assert all("issuers.main.leeway_seconds" in line for line in logged)
            assert sum("10.0.0.2:80, which" in line for line in logged) == 1
            assert sum("10.0.0.1:80, which" in line for line in logged) == 1
        await one.look()  # it has taken its record back
        assert (one.status()["differences"], one.others) == ([], 1)


@pytest.mark.rule("R440")
async def test_clocks_that_differ_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """From each other, and from that of Redis, which is a setting of neither, but must be known."""
    async with (
        RedisServer(tmp_path) as server,
        member(server, settings("10.0.0.1:80"), 20) as one,
        member(server, settings("10.0.0.2:80"), -20) as two,
    ):
        await one.look()
        assert {(each["gateway"].split()[-1], each["option"]) for each in one.status()["differences"]} == {
            ("10.0.0.2:80", "clock"),
            ("Redis", "clock"),
        }
        assert [round(fleet.status()["clock_offset_seconds"]) for fleet in (one, two)] == [20, -20]
        logged = lines(caplog)
        assert "the clock of this host is 20 s ahead of the clock of Redis: synchronise both (NTP)" in logged
        assert "the clock of this host is 20 s behind the clock of Redis: synchronise both (NTP)" in logged
        differs = "10.0.0.2:80, which shares this Redis, has clock = -20; this gateway has 20"
        assert sum(differs in line for line in logged) == 1


@pytest.mark.rule("R440")
async def test_another_version_is_told(tmp_path: Path) -> None:
    """Old and new side by side are seen."""
    async with RedisServer(tmp_path) as server, member(server, settings()) as one:
        now = server.run("TIME")[0]
        record = {"gateway": "old", "values": {"version": "0.1.9", "format": 1, "of.another": 5}}
        server.run("HSET", FLEET, "a", f"{now} {json.dumps(record)}")
        await one.look()
        assert [(each.option, each.there) for each in one.found] == [("version", "0.1.9"), ("format", "1")]


@pytest.mark.rule("R440")
async def test_records_end_and_what_is_none_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """CWE-117: they are foreign text, and bounded."""
    async with RedisServer(tmp_path) as server, member(server, settings()) as one:
        now = server.run("TIME")[0]
        hostile = {"gateway": "x\r\ny" * 100, "values": {"version": "a\n" * 100, "dpop.max_age_seconds": 1e999}}
        rows = {
            "ended": f"{now - RECORD_SECONDS - 2} {json.dumps({'gateway': 'late', 'values': {'format': 9}})}",
            "future": f"{now + 3600} {json.dumps({'gateway': 'late', 'values': {'format': 9}})}",
            "text": "nonsense",
            "list": f"{now} []",
            "empty": f"{now} {{}}",
            "deep": f"{now} " + "[" * 100_000,
            "typed": f"{now} " + json.dumps({"gateway": 1, "values": {"format": []}}),
            "long": f"{now} " + json.dumps({"gateway": "x" * MAX_FLEET_RECORD_BYTES, "values": {}}),
            "hostile": f"{now} " + json.dumps(hostile),
        }
        for name, value in rows.items():
            server.run("HSET", FLEET, name, value)
        await one.look()
        assert one.others == 1
        assert {each.option for each in one.found} == {"version", "dpop.max_age_seconds"}
        assert all(len(line) < 400 and line.isprintable() for line in lines(caplog))
        assert not {b"ended", b"future", b"text"} & set(server.run("HKEYS", FLEET))
        assert 0 < server.run("TTL", FLEET) <= RECORD_SECONDS


async def test_a_crowd_is_bounded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with RedisServer(tmp_path) as server, member(server, settings()) as one:
        now = server.run("TIME")[0]
        for number in range(MAX_GATEWAY_RECORDS + 100):
            record = {"gateway": f"g{number}", "values": {"format": 7}}
            server.run("HSET", FLEET, f"w{number}", f"{now} {json.dumps(record)}")
        await one.look()
        assert one.others <= MAX_GATEWAY_RECORDS
        assert len(one.found) == MAX_DIFFERENCES
        assert len(lines(caplog)) <= MAX_DIFFERENCES


@pytest.mark.rule("R435")
async def test_a_store_that_is_away_or_answers_oddly_is_left_alone(tmp_path: Path) -> None:
    """Nothing waits for it, and nothing depends on it."""
    async with RedisServer(tmp_path) as server, linked(server.url, timeout_seconds=2) as link:
        one = Fleet(link, settings(), SystemClock())
        server.run("SET", FLEET, "x")
        await one.look()
        await server.kill()
        await eventually(lambda: not link.available)
        await one.look()
        assert link.refusals == 0


async def test_it_looks_again_and_again(tmp_path: Path) -> None:
    clock = FakeClock()
    async with RedisServer(tmp_path) as server:
        link = RedisLink(Redis.model_validate({"url": server.url, "timeout_seconds": 5}), clock)
        await link.start()
        fleet = Fleet(link, settings(), clock)
        await fleet.start()
        begun = link.commands
        await clock.advance(10)
        await eventually(lambda: link.commands == begun + 1)
        await fleet.stop()
        assert server.run("HLEN", FLEET) == 0
        await link.stop()


def test_a_record_is_read() -> None:
    found = read_record(b"w", b'1700000000 {"gateway": "a", "values": {"x": 1, "y": "z"}}')
    assert found is not None
    assert (found.worker, found.gateway, dict(found.values)) == ("w", "a", {"x": 1.0, "y": "z"})
    assert read_record(b"\xff", b'1 {"gateway": "a", "values": {}}') is None


def test_the_clocks_of_tests_differ_by_what_is_said() -> None:
    assert round(OffsetClock(90).wall() - SystemClock().wall()) == 90
