"""The run behind ``scripts/exhaust``, for a moment; and whether its judge sees what it is there for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.exhaust.attackers import KINDS
from tests.exhaust.callers import Spread
from tests.exhaust.run import MB, Bounds, Round, Row, findings, main, summed_up

pytestmark = pytest.mark.untraced

ROW = Row("stall", "tls", 50)
BOUNDS = Bounds(wait=0.1, memory=100 * MB, left=50 * MB)
QUICK = Spread(0.001, 0.005, 0.09)
GOOD = Round(
    waits={"kept": QUICK, "new": QUICK, "healthz": QUICK},
    failures=[],
    before=int(80 * MB),
    peak=int(170 * MB),
    after=int(120 * MB),
    gateway=0.9,
    starved=0.1,
    attackers=0.5,
    said={},
)


def slow(seconds: float) -> Round:
    """Return a round in which one answer of /healthz took so long."""
    return replace(GOOD, waits={**GOOD.waits, "healthz": Spread(0.001, 0.002, seconds, "by the byte")})


@pytest.mark.rule("R429")
def test_good_callers_are_served_beside_an_attack(capsys: pytest.CaptureFixture[str]) -> None:
    """The long runs, for a moment each: the control and one kind, with bounds for a busy machine."""
    short = ["--seconds", "0.6", "--rounds", "1", "--settle", "0", "--wait", "5", "--left", "100"]
    code = main([*short, "--kind", "half-close", "--port", "plain", "--connections", "2"])
    out = capsys.readouterr().out
    assert code == 0, out
    control, attacked, end = out.splitlines()[-3:]
    assert control.startswith("(none)      plain   0")
    assert attacked.startswith("half-close  plain   2")
    assert " opened, " in attacked
    assert end == "0 findings"


@pytest.mark.parametrize(
    ("rounds", "found"),
    [
        ([GOOD], []),
        ([slow(0.2), GOOD, GOOD], []),
        ([slow(0.2), slow(0.3), GOOD], ["healthz waited 0.200 s, the longest during 'by the byte'"]),
        ([GOOD, replace(GOOD, peak=int(190 * MB)), GOOD], ["memory grew by 110 MB"]),
        ([GOOD, replace(GOOD, after=int(140 * MB))], ["memory is 60 MB above what it was before"]),
        ([replace(GOOD, failures=["kept: 503 (by the byte)"]), GOOD], ["kept: 503 (by the byte)"]),
    ],
)
def test_each_broken_bound_is_a_finding(rounds: list[Round], found: list[str]) -> None:
    """The judge itself: the median of the rounds' longest waits counts, and every round's memory and answers."""
    assert findings(ROW, rounds, BOUNDS) == [f"{ROW.name}: {one}" for one in found]


def test_of_several_rounds_the_medians_and_the_fullest_are_shown() -> None:
    """The judge itself."""
    full = replace(GOOD, peak=int(175 * MB))
    waits, fullest = summed_up([slow(0.3), full, slow(0.2)])
    assert (waits["healthz"].worst, waits["healthz"].during) == (0.2, "by the byte")
    assert fullest is full


def test_a_spread_is_of_all_waits() -> None:
    """The callers themselves: order does not matter, and the longest wait names what went on."""
    waits = [(number / 100, f"way {number}") for number in range(100, 0, -1)]
    assert Spread.of(waits) == Spread(0.51, 0.96, 1.0, "way 100")


def test_every_port_has_the_ways_that_make_sense_there() -> None:
    """What needs TLS is left to the port that speaks it."""
    assert [name for name, kind in KINDS.items() if not kind.at("plain")] == ["renegotiate"]
    assert all(kind.at("tls") for kind in KINDS.values())
