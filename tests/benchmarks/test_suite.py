"""The suite as a whole: one tiny scenario runs for real, and the declarations are what the project promised."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import __main__ as command_line
from benchmarks import suite
from benchmarks.drive import LoadError
from benchmarks.load import Outcome
from benchmarks.measure import MEASURES, Lane, Options, rows_of
from benchmarks.mixed import PATHS
from benchmarks.model import METRICS, RATE, Contender, Goal, Row, Scenario, limited
from benchmarks.peers import PEERS
from benchmarks.peers.base import Setup
from benchmarks.process import ROOT, family
from benchmarks.results import read
from benchmarks.scenarios import BY_NAME, SCENARIOS, SELF_TEST
from benchmarks.stage import stage
from tests.support.pace import paced


def test_a_tiny_scenario_runs_from_start_to_result_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The gateway against others, all proved to do their work, in short rounds; its numbers do not count."""
    file = tmp_path / "results" / "suite.json"
    seconds = paced(0.4)
    suite.run([SELF_TEST], Options(rounds=2, seconds=seconds, scale=0.01), ["run"], file, tmp_path / "cache")
    found = read(file.parent)["self-test"]
    assert set(found.rows) == {"gateway", "naive", "plain", "direct"}
    assert found.rows["gateway"].described == SELF_TEST.rows["gateway"].described()
    for row in found.rows.values():
        assert len(row.rounds[RATE.key]) == 2
        assert min(row.rounds[RATE.key]) > 10
        assert (row.failures, row.skipped) == (0, "")
    assert {"date", "command", "commit", "machine", "versions", "peers", "load", "cores"} <= set(found.environment)
    assert {"cpu", "cores", "system", "kernel"} <= set(found.environment["machine"])
    assert found.method == {"rounds": 2, "seconds": seconds}
    printed = capsys.readouterr()
    assert re.search(r"gateway / naive: \d+\.\d\d \(\d+\.\d\d to \d+\.\d\d\); must 1: (met|MISSED)", printed.out)
    assert printed.err.count("self-test 1/2") == 4
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


def _distinction(scenario: Scenario, goal: Goal) -> tuple[str, ...]:
    """Return the metric of a goal where another one is about the same rows."""
    same = [each for each in scenario.goals if (each.of, each.to) == (goal.of, goal.to)]
    return (goal.metric.key,) if len(same) > 1 else ()


def test_every_goal_that_was_set_is_declared() -> None:
    """Changing a bound means changing it here too, on purpose."""
    declared = {
        (scenario.name, goal.of, goal.to, *_distinction(scenario, goal)): (goal.must, goal.aim)
        for scenario in SCENARIOS
        for goal in scenario.goals
    }
    assert declared == {
        ("mixed", "gateway", "envoy-cache"): (1.8, 2.1),
        ("mixed", "gateway", "haproxy"): (1.2, 1.4),
        ("mixed", "gateway", "sketch"): (0.7, 0.85),
        ("mixed", "gateway", "gateway-no-log"): (0.8, 0.88),
        ("mixed", "gateway-full-lane", "naive"): (None, 2.0),
        ("mixed-proxied", "gateway", "mixed"): (0.85, 0.95),
        ("mixed-chunked", "gateway", "envoy-cache"): (1.2, 1.8),
        ("mixed-latency", "gateway", "envoy-cache"): (1.0, 0.5),
        ("mixed-latency", "gateway", "haproxy"): (1.0, 0.5),
        ("hot", "gateway", "envoy-cache"): (2.0, 2.4),
        ("hot", "gateway", "haproxy"): (1.8, 2.1),
        ("hot", "gateway", "gateway-no-log"): (0.8, 0.88),
        ("hot", "gateway-no-log", "envoy-cache-no-log"): (2.3, 2.7),
        ("hot", "gateway-no-log", "nginx-no-log"): (0.45, 0.5),
        ("hot", "gateway", "naive"): (5, None),
        ("hot", "gateway-full-lane", "naive"): (1.5, None),
        ("rotating", "gateway", "hot"): (0.9, 1.0),
        ("new-rs256", "gateway", "envoy"): (1.5, 1.8),
        ("new-rs256", "gateway", "haproxy"): (0.7, 0.85),
        ("new-es256", "gateway", "envoy"): (1.3, 1.5),
        ("new-connections", "gateway", "envoy-cache"): (1.5, 2.0),
        ("new-connections", "gateway", "haproxy"): (0.9, 1.2),
        ("connections", "gateway-1000", "envoy-cache-1000"): (2.0, 4.0),
        ("connections", "gateway-1000", "haproxy-1000"): (1.0, 2.0),
        ("connections", "gateway-1000", "gateway-100"): (0.6, None),
        ("post-1k", "gateway", "envoy-cache"): (1.6, 2.0),
        ("response-1m", "gateway", "envoy-cache"): (0.8, 1.0),
        ("routes", "10000", "10"): (0.95, None),
        ("no-token", "gateway", "hot"): (1.5, None),
        ("no-token", "gateway", "envoy-cache"): (1.0, 1.4),
        ("bad-signature", "gateway", "new"): (1.0, None),
        ("bad-signature", "gateway", "envoy"): (1.2, 1.6),
        ("floods", "forged", "unread"): (0.8, 0.95),
        ("floods", "nominating", "unread"): (0.8, 0.95),
        ("floods", "no-token", "unread"): (0.8, 0.95),
        ("floods", "bad-paths", "unread"): (0.8, 0.95),
        ("floods", "connecting", "unread-slow"): (0.8, 0.95),
        ("floods", "malformed", "unread-slow"): (0.8, 0.95),
        ("attack", "gateway-attacked", "gateway"): (0.9, None),
        ("opaque-flood", "made-up", "unread"): (0.9, None),
        ("tls", "gateway", "envoy-cache"): (1.3, 1.6),
        ("tls", "gateway", "haproxy"): (1.0, None),
        ("latency", "gateway", "envoy-cache"): (1.0, 0.5),
        ("workers", "two", "one"): (1.4, 1.6),
        ("memory", "gateway", ""): (70, 55),
        ("footprint", "gateway", "", "kib_per_connection"): (8.0, 5.0),
        ("footprint", "gateway", "", "kib_per_token"): (0.81, 0.7),
        ("startup", "gateway", ""): (0.6, 0.4),
    }


def test_every_side_writes_an_access_log_unless_its_row_says_so() -> None:
    for scenario in SCENARIOS:
        for name, contender in scenario.rows.items():
            assert contender.setup.log != name.endswith("-no-log"), (scenario.name, name)
            assert ("access log off" in contender.title) == name.endswith("-no-log")


def test_what_was_measured_is_described_by_all_that_is_not_as_usual() -> None:
    """A row whose description changes is another measurement: its goals wait for a new one."""
    assert Contender("gateway").described() == {
        "access_log": True,
        "peer": "gateway",
        "connections": 32,
        "beside_rate": 0.0,
        "beside_connections": 8,
        "beside_unread": False,
    }
    rows = BY_NAME["floods"].rows
    described = rows["nominating"].described()
    assert (described["mixed"], described["beside_credential"], described["beside_nominates"]) == (True, "forged", True)
    assert described["paths"] == list(PATHS)
    assert json.loads(json.dumps(described)) == described
    assert len({json.dumps(row.described(), sort_keys=True) for row in rows.values()}) == len(rows)
    assert BY_NAME["hot"].rows["gateway-no-log"].described()["access_log"] is False


def test_rows_near_what_the_load_reaches_are_named() -> None:
    rates = {"a": [50.0, 70.0], "b": [90.0, 81.0], "direct": [100.0, 100.0]}
    rows = {name: Row(name, {RATE.key: rate}) for name, rate in rates.items()}
    assert [(title, round(share, 3)) for title, share in limited(rows)] == [("b", 0.855)]
    assert any("b: 86%" in line for line in suite.table(SELF_TEST, rows))
    del rows["direct"]
    assert limited(rows) == []


def test_a_run_that_is_asked_to_end_leaves_nothing_behind(tmp_path: Path) -> None:
    """SIGTERM ends the gateways that were started, too."""
    command = [sys.executable, "-m", "benchmarks", "run", "--scenario", "workers", "--seconds", "60"]
    child = subprocess.Popen([*command, "--output", tmp_path / "x.json"], cwd=ROOT, stderr=subprocess.DEVNULL)
    found = set[int]()
    while len(found) < 3:  # itself, the service, a gateway
        found = family(child.pid)
        time.sleep(0.02)
    child.send_signal(signal.SIGTERM)
    assert child.wait(60) == 128 + signal.SIGTERM
    assert not [pid for pid in found - {child.pid} if Path(f"/proc/{pid}").exists()]


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


def test_a_row_with_wrong_answers_has_no_numbers_and_costs_the_others_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What it had measured before is dropped; the run says so at its end."""
    usual, calls = Lane.closed, iter(range(100))

    def closed(self: Lane, seconds: float) -> Outcome:
        if self.contender.peer == "plain" and next(calls) == 2:  # warm-up, first round, second round
            raise LoadError("5 of 7 answers were refusals")
        return usual(self, seconds)

    monkeypatch.setattr(Lane, "closed", closed)
    scenario = replace(SELF_TEST, rows={name: SELF_TEST.rows[name] for name in ("plain", "direct")}, goals=())
    file = tmp_path / "x.json"
    with pytest.raises(suite.SuiteError, match=r"self-test: plainest .*: wrong answers: 5 of 7"):
        suite.run([scenario], Options(rounds=3, seconds=0.2, scale=0.01), ["run"], file, tmp_path / "cache")
    rows = read(tmp_path)["self-test"].rows
    assert (rows["plain"].rounds, rows["plain"].is_wrong) == ({}, True)
    assert len(rows["direct"].rounds[RATE.key]) == 3


def test_rows_that_cannot_run_say_why(tmp_path: Path) -> None:
    """Without wrk, or in rounds that it cannot do, nothing is measured over TLS, and nothing else is lost."""
    with stage(tmp_path) as built:
        rows = rows_of(BY_NAME["tls"], built, Options(seconds=0.5))
        assert {row.skipped for row in rows.values()} == {"load over TLS needs wrk, and rounds of whole seconds"}
        built.driver.wrk = True
        assert rows_of(BY_NAME["tls"], built, Options(seconds=3))["gateway"].skipped == ""
