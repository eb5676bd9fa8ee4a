"""The differential run: short here, 100,000 requests in ``scripts/lanes``; and it can fail."""

from __future__ import annotations

import pytest

from gateway.errors import GatewayError
from gateway.server.express_lane.connection import ExpressConnection
from gateway.server.request.in_progress import Run
from gateway.server.request.outcome import Outcomes, Rendered
from tests.lanes.run import main

pytestmark = pytest.mark.untraced


@pytest.mark.rule("R400", "C112")
def test_answers_do_not_show_lane_or_log(capsys: pytest.CaptureFixture[str]) -> None:
    """Kept connections and new ones, both lanes, log on and off, ids of 1 to 128 characters."""
    assert main(["--count", "4000"]) == 0, capsys.readouterr().out


def test_the_run_reports_an_answer_that_was_made_of_another_ones_bytes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run itself: a gateway whose one lane gives its first answer of a kind to every client is found out."""
    given: dict[object, Rendered] = {}
    refusal = Outcomes.refusal

    def careless(outcomes: Outcomes, run: Run, error: GatewayError) -> Rendered:
        reply = refusal(outcomes, run, error)
        if not isinstance(run.client, ExpressConnection):
            return reply
        return given.setdefault((run.record.status, reply.keep_alive, run.head.method), reply)

    monkeypatch.setattr(Outcomes, "refusal", careless)
    assert main(["--count", "200", "--seed", "rot"]) == 1
    assert "differ\n  sent b'" in capsys.readouterr().out
