"""Lines that strangers can cause come at a bounded pace (R432, R433)."""

from __future__ import annotations

import logging

import pytest

from gateway.paced_log import PACE, PacedLog


@pytest.mark.rule("R433")
def test_one_line_of_a_kind_a_second_and_the_next_says_how_many_were_held_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Kinds do not hold each other back."""
    now = 100.0
    paced = PacedLog(logging.getLogger("gateway.test"), lambda: now)
    with caplog.at_level(logging.INFO, "gateway.test"):
        for _ in range(5):
            paced.write(logging.INFO, "a", "it was %s", "a")
        paced.write(logging.WARNING, "b", "it was b")
        now += PACE
        paced.write(logging.INFO, "a", "it was %s", "a")
        now += PACE
        paced.write(logging.INFO, "a", "it was %s", "a")
    held = "it was a (4 similar messages suppressed)"
    assert [record.getMessage() for record in caplog.records] == ["it was a", "it was b", held, "it was a"]
