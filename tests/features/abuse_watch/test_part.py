"""What looks like abuse, on the metrics and status pages."""

from __future__ import annotations

import pytest

from gateway.errors import Reasons
from gateway.features.abuse_watch.options import FINDERS, Watch
from gateway.features.abuse_watch.part import AbuseWatchPart
from gateway.telemetry.record import Record
from tests.support.clock import FakeClock
from tests.support.parts import samples_of
from tests.support.pipeline import core_of
from tests.support.tokens.verifying import make_settings


@pytest.mark.rule("R198")
def test_finds_and_refusals_are_counted_by_what_they_are() -> None:
    """Labels are fixed words."""
    watch = Watch.model_validate({**dict.fromkeys(FINDERS, 0), "bad_signatures": 1, "refuse_seconds": 60})
    part = AbuseWatchPart(core_of(make_settings(watch=watch), FakeClock()))
    nothing = {("gateway_abuse_flags_total", finder): 0 for finder in FINDERS} | {
        ("gateway_abuse_refused", what): 0 for what in ("addresses", "tokens", "subjects")
    }
    assert samples_of(part) == nothing
    for _ in range(2):
        part.watch.finished(Record(started=0, client="192.0.2.1", reason=Reasons.BAD_SIGNATURE.code))
    assert samples_of(part) == {
        **nothing,
        ("gateway_abuse_flags_total", "bad_signatures"): 1,
        ("gateway_abuse_refused", "addresses"): 1,
    }
    assert part.status() == {
        "watch": {
            "flags": {**dict.fromkeys(FINDERS, 0), "bad_signatures": 1},
            "refused": {"addresses": 1, "tokens": 0, "subjects": 0},
        }
    }


def test_it_is_the_observer_and_a_guard() -> None:
    part = AbuseWatchPart(core_of(make_settings(), FakeClock()))
    assert part.observer is part.watch
    assert part.guards == (part.watch,)
