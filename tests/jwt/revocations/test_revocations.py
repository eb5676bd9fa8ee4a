"""What every verdict asks: what is revoked, and whether that is known."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from gateway.errors import GatewayError, Reasons
from gateway.features.revocation.file_source import FileRevocations
from gateway.jwt.revocations.revocations import CATCH_UP_SECONDS, STILL_SECONDS, Revocations
from gateway.jwt.revocations.table import EntryKind, RevocationTable
from tests.support.clock import FakeClock, eventually
from tests.support.gateways.revoking import caller, revoked
from tests.support.pace import paced


def file_with(tmp_path: Path, name: str, text: str) -> FileRevocations:
    file = tmp_path / name
    file.write_text(text)
    return FileRevocations(str(file), FakeClock(), 60)


async def test_nothing_configured_asks_nothing() -> None:
    made = Revocations((), FakeClock())
    await made.start()
    assert (made.sources, made.unknown, made.complete) == ((), False, True)
    made.demand(caller(token="a"))
    assert made.status() == {"known": True, "passed_unknown": 0}
    await made.stop()


async def test_every_source_is_asked(tmp_path: Path) -> None:
    sources = [file_with(tmp_path, "one", '{"jti": "a"}\n'), file_with(tmp_path, "two", '{"sub": "b"}\n')]
    made = Revocations(sources, FakeClock())
    assert made.unknown
    assert not made.complete
    generation = made.generation
    await made.start()
    assert (made.unknown, made.complete) == (False, True)
    assert made.generation is not generation
    for identity in (caller(token="a"), caller(subject="b")):
        assert made.covers(identity)
        with pytest.raises(GatewayError) as caught:
            made.demand(identity)
        assert caught.value.reason is Reasons.REVOKED
    made.demand(caller(token="b", subject="a"))
    assert made.status()["file"]["entries"] == 1
    await made.stop()


@pytest.mark.rule("R130")
async def test_one_unknown_source_makes_all_unknown_and_the_route_says_what_then(tmp_path: Path) -> None:
    sources = [file_with(tmp_path, "one", ""), FileRevocations(str(tmp_path / "nowhere"), FakeClock(), 60)]
    made = Revocations(sources, FakeClock())
    await made.start()
    assert (made.unknown, made.complete) == (True, False)
    with pytest.raises(GatewayError) as caught:
        made.demand_known(closed=True)
    assert (caught.value.reason, caught.value.retry_after) == (Reasons.REVOCATION_UNKNOWN, 1)
    made.demand_known(closed=False)
    assert (made.passed_unknown, made.status()["known"]) == (1, False)
    await made.stop()


async def test_a_source_that_is_added_counts_from_then_on(tmp_path: Path) -> None:
    """Features add theirs one after the other, before anything starts."""
    made = Revocations((), FakeClock())
    assert (made.unknown, made.complete) == (False, True)
    for name, text in (("one", '{"jti": "a"}\n'), ("two", '{"sub": "b"}\n')):
        made.add_source(file_with(tmp_path, name, text))
    assert (len(made.sources), made.unknown, made.complete) == (2, True, False)
    generation = made.generation
    await made.start()
    assert (made.unknown, made.complete) == (False, True)
    assert made.generation is not generation
    for identity in (caller(token="a"), caller(subject="b")):
        assert made.covers(identity)
    await made.stop()


async def test_a_second_look_at_the_same_caller_hashes_nothing_until_there_is_something_new_to_ask(
    tmp_path: Path,
) -> None:
    source = file_with(tmp_path, "one", '{"jti": "a"}\n')
    made = Revocations([source], FakeClock())
    await made.start()
    found, marks = made.look(caller(token="b", subject="s"), ())
    assert (found, made.look(caller(token="b", subject="s"), marks)) == (False, (False, marks))
    assert made.look(caller(token="b", subject="s"), marks)[1] is marks
    source.table.apply(revoked(EntryKind.TOKEN, "b", expires=4e9), 0.0)
    assert made.look(caller(token="b", subject="s"), marks) == (True, marks)
    source.table.apply(revoked(EntryKind.SUBJECT, "s", expires=4e9), 0.0)
    found, others = made.look(caller(token="c", subject="s"), made.look(caller(token="c", subject="s"), marks)[1])
    assert found
    assert others is not marks, "there is one more kind to ask for"
    source.table = RevocationTable()
    assert made.look(caller(token="b", subject="s"), marks)[0] is False
    await made.stop()


@pytest.mark.rule("R441")
async def test_after_a_standstill_everything_is_looked_at_again_before_it_is_used(tmp_path: Path) -> None:
    """No look has failed meanwhile; the age at which entries count as unknown has nothing to do with it."""
    file, clock = tmp_path / "revoked", FakeClock()
    file.write_text("")
    made = Revocations([FileRevocations(str(file), clock, 60)], clock)
    assert not made.outdated
    await made.start()
    assert (made.outdated, made.settled_until > clock.monotonic()) == (False, True)
    file.write_text('{"jti": "a"}\n')
    clock.jump(STILL_SECONDS)
    assert (made.unknown, made.outdated, made.settled_until > clock.monotonic()) == (False, True, False)
    waiting = [asyncio.ensure_future(made.catch_up()) for _ in range(3)]
    await asyncio.sleep(0)
    assert made.outdated, "a request that comes meanwhile waits, too"
    await asyncio.gather(*waiting)
    assert made.covers(caller(token="a"))
    assert (made.outdated, made.settled_until > clock.monotonic()) == (False, True)
    await made.stop()


@pytest.mark.rule("R441")
async def test_a_standstill_is_noticed_without_a_request(tmp_path: Path) -> None:
    """Requests that come a moment later find it looked at."""
    file, clock = tmp_path / "revoked", FakeClock()
    file.write_text("")
    made = Revocations([FileRevocations(str(file), clock, 60)], clock)
    await made.start()
    file.write_text('{"jti": "a"}\n')
    clock.jump(STILL_SECONDS)
    await eventually(lambda: made.covers(caller(token="a")))
    await eventually(lambda: not made.outdated)
    await made.stop()


@pytest.mark.rule("R441", "R445")
async def test_a_source_that_says_nothing_is_not_waited_for_again_and_again(tmp_path: Path) -> None:
    """Half a second after a standstill, and not at all without one."""
    file, clock = tmp_path / "nowhere", FakeClock()
    made = Revocations([FileRevocations(str(file), clock, 60)], clock)
    await made.start()
    assert not made.outdated
    clock.jump(STILL_SECONDS)
    began = time.monotonic()
    await made.catch_up()
    assert CATCH_UP_SECONDS - 0.01 <= time.monotonic() - began < paced(CATCH_UP_SECONDS + 0.2)
    assert (made.outdated, made.unknown) == (False, True)
    await made.stop()
