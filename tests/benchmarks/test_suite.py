"""The suite as a whole: one tiny scenario runs for real, and the declarations are what the project promised."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks import __main__ as command_line
from benchmarks import suite
from benchmarks.drive import LoadError
from benchmarks.measure import MEASURES, Options, rows_of
from benchmarks.model import METRICS, RATE, Row, Scenario
from benchmarks.peers import PEERS
from benchmarks.peers.base import Setup
from benchmarks.results import read
from benchmarks.scenarios import BY_NAME, SCENARIOS, SELF_TEST
from benchmarks.stage import stage
from tests.support.pace import paced


def test_a_tiny_scenario_runs_from_start_to_result_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The gateway against the naive proxy, both proved to do the work, in short rounds; its numbers do not count."""
    file = tmp_path / "results" / "suite.json"
    seconds = paced(0.6)
    suite.run([SELF_TEST], Options(rounds=2, seconds=seconds, scale=0.01), ["run"], file, tmp_path / "cache")
    found = read(file.parent)["self-test"]
    assert set(found.rows) == {"gateway", "naive"}
    for row in found.rows.values():
        assert len(row.rounds[RATE.key]) == 2
        assert min(row.rounds[RATE.key]) > 10
        assert (row.failures, row.skipped) == (0, "")
    assert {"date", "command", "commit", "machine", "versions", "peers", "load", "cores"} <= set(found.environment)
    assert {"cpu", "cores", "system", "kernel"} <= set(found.environment["machine"])
    assert found.method == {"rounds": 2, "seconds": seconds}
    printed = capsys.readouterr()
    assert re.search(r"gateway / naive: \d+\.\d\d \(\d+\.\d\d to \d+\.\d\d\); must 1: (met|MISSED)", printed.out)
    assert printed.err.count("self-test 1/2") == 2
    assert str(tmp_path) not in json.dumps(found.environment)


def test_scenarios_name_peers_and_rows_that_exist() -> None:
    assert len(BY_NAME) == len(SCENARIOS)
    for scenario in SCENARIOS:
        assert scenario.kind in MEASURES
        assert {row.peer for row in scenario.rows.values()} <= set(PEERS)
        assert all(METRICS[metric.key] is metric for metric in scenario.metrics)
        for goal in scenario.goals:
            assert {goal.of, goal.to} - {""} <= set(scenario.rows), scenario.name
            assert goal.metric in scenario.metrics


def test_every_goal_that_was_set_is_declared() -> None:
    """Changing a bound means changing it here too, on purpose."""
    declared = {
        (scenario.name, goal.of, goal.to): (goal.must, goal.aim) for scenario in SCENARIOS for goal in scenario.goals
    }
    assert declared == {
        ("hot", "gateway", "envoy-cache"): (1.5, 2.0),
        ("hot", "gateway", "haproxy"): (1.4, 1.9),
        ("hot", "gateway", "naive"): (5, None),
        ("hot", "gateway", "nginx"): (None, 0.7),
        ("hot", "gateway-full-lane", "naive"): (1.5, None),
        ("rotating", "gateway", "hot"): (0.9, 1.0),
        ("new-rs256", "gateway", "envoy"): (1.2, 1.6),
        ("new-rs256", "gateway", "haproxy"): (0.55, 0.8),
        ("post-1k", "gateway", "envoy-cache"): (1.3, 1.8),
        ("response-1m", "gateway", "envoy-cache"): (0.8, 1.0),
        ("latency", "gateway", "envoy-cache"): (1.0, 0.5),
        ("no-token", "gateway", "hot"): (1.5, None),
        ("no-token", "gateway", "envoy-cache"): (1.0, 1.3),
        ("bad-signature", "gateway", "new"): (1.0, None),
        ("attack", "gateway-attacked", "gateway"): (0.9, None),
        ("opaque-flood", "made-up", "unread"): (0.9, None),
        ("routes", "1000", "10"): (0.95, None),
        ("memory", "gateway", ""): (80, 60),
        ("workers", "two", "one"): (1.2, 1.4),
    }


def test_a_scale_keeps_caches_and_pools_in_proportion() -> None:
    """Otherwise a first try of "every token new" would measure cache hits."""
    assert Options(scale=0.1).fitted(Setup()).cache_size == 1000
    assert Options().fitted(Setup()) == Setup()


def test_the_list_names_every_scenario_and_its_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["list"]) == 0
    printed = capsys.readouterr().out
    for scenario in SCENARIOS:
        assert re.search(rf"^{scenario.name} +\S", printed, flags=re.MULTILINE)
        assert ", ".join(scenario.rows) in printed


def test_an_unknown_scenario_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_line.main(["run", "--scenario", "nonsense"])
    assert "nonsense" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (["run", "--output", "/home/me/x.json", "--rounds", "3"], ["run", "--rounds", "3"]),
        (["run", "--output=/home/me/x.json", "--quick"], ["run", "--quick"]),
    ],
)
def test_the_file_is_not_part_of_the_command_that_is_kept(given: list[str], shown: list[str]) -> None:
    assert command_line.shown(given) == shown


def test_a_fault_of_a_scenario_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The scenarios after it run all the same, and their results are kept."""

    def measure(scenario: Scenario, *_: object) -> dict[str, Row]:
        if scenario.name == "hot":
            raise LoadError("no answers")
        return {"gateway": Row("this gateway", {RATE.key: [1.0]})}

    monkeypatch.setitem(MEASURES, "rate", measure)
    file = tmp_path / "x.json"
    names = ["--scenario", "hot", "--scenario", "tls"]
    assert command_line.main(["run", *names, "--output", str(file)]) == 1
    assert set(read(tmp_path)) == {"tls"}
    assert capsys.readouterr().err.splitlines()[-1] == "benchmarks: not measured: hot: no answers"


def test_rows_that_cannot_run_say_why(tmp_path: Path) -> None:
    """Without wrk, or in rounds that it cannot do, nothing is measured over TLS, and nothing else is lost."""
    with stage(tmp_path) as built:
        rows = rows_of(BY_NAME["tls"], built, Options(seconds=0.5))
        assert {row.skipped for row in rows.values()} == {"load over TLS needs wrk, and rounds of whole seconds"}
        built.driver.wrk = True
        assert rows_of(BY_NAME["tls"], built, Options(seconds=3))["gateway"].skipped == ""
