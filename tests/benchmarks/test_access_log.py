"""benchmarks/access_log.py: it runs, and its requests differ as those of clients do."""

from __future__ import annotations

import pytest

from benchmarks import access_log


def test_requests_differ_and_callers_come_again() -> None:
    made = list(access_log.records(2500))
    assert len({record.request_id for record in made}) == len({record.path for record in made}) == 2500
    assert len({record.identity.subject for record in made if record.identity}) == access_log.CALLERS


def test_each_form_is_measured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(access_log, "ROUNDS", 1)
    access_log.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["json", "text"]
