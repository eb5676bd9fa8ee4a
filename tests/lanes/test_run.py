"""The differential run: short here, 100,000 requests in ``scripts/lanes``; and it can fail."""

from __future__ import annotations

import pytest

from gateway.server.pipeline import runner as serving
from gateway.server.request import error_answers as responses
from tests.lanes.run import main

pytestmark = pytest.mark.untraced


def test_answers_do_not_show_lane_or_log(capsys: pytest.CaptureFixture[str]) -> None:
    """R400, C112: kept connections and new ones, both lanes, log on and off, ids of 1 to 128 characters."""
    assert main(["--count", "4000"]) == 0, capsys.readouterr().out


def test_the_run_reports_an_answer_that_was_made_of_another_ones_bytes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run itself: a gateway that gives its first answer of a kind to every client is found out."""
    given: dict[object, bytes] = {}

    def careless(reply: responses.Answer, *, http_11: bool, keep_alive: bool, head_only: bool, date: bytes) -> bytes:
        rendered = responses.render(reply, http_11=http_11, keep_alive=keep_alive, head_only=head_only, date=date)
        return given.setdefault((reply.status, http_11, keep_alive, head_only), rendered)

    monkeypatch.setattr(serving, "render", careless)
    assert main(["--count", "200", "--seed", "rot"]) == 1
    assert "differ\n  sent b'" in capsys.readouterr().out
