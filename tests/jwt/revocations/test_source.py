"""Until when what a source has found is believed."""

from __future__ import annotations

import pytest

from gateway.jwt.revocations.source import RevocationSource
from tests.support.clock import FakeClock


class Source(RevocationSource):
    name = "test"

    async def start(self) -> None:
        """Nothing is read by itself."""

    async def stop(self) -> None:
        """Nothing runs."""

    async def catch_up(self, since: float) -> bool:
        return True


@pytest.mark.rule("R406", "R441")
def test_it_is_known_by_the_age_of_the_last_good_look_and_by_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    """The age counts from the beginning of a look, at the moment of asking."""
    caplog.set_level("INFO", "gateway.revocation")
    clock, moved = FakeClock(), list[float]()
    source = Source(clock, 10.0)
    source.moved = lambda: moved.append(source.known_until - began)
    began = clock.monotonic()
    assert (source.known, source.filled, source.age, source.status()["age_seconds"]) == (
        False,
        False,
        float("inf"),
        None,
    )
    clock.jump(3)
    source.found_good(began)
    assert (source.known, source.filled, source.age, moved) == (True, True, 3, [10])
    clock.jump(6.9)
    assert source.known
    clock.jump(0.1)
    assert (source.known, source.status()["known"]) == (False, False)
    source.tell()
    source.tell()
    source.found_good(clock.monotonic())
    assert source.known
    assert [line.getMessage().split(":")[0] for line in caplog.records] == [
        "revocation list loaded from test",
        "revocation list unavailable",
        "revocation list loaded from test",
    ]
