"""benchmarks/report.py, plot.py, results.py, model.py: rendered pages follow the files and judge them honestly."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.model import P99, RATE, Goal, Row, judged
from benchmarks.plot import Bar, chart, nice_step
from benchmarks.results import Result, ResultError, read, write
from benchmarks.scenarios import BY_NAME, SCENARIOS
from benchmarks.slower import slower
from benchmarks.spread import Spread

ENVIRONMENT = {
    "date": "2026-11-25T10:00:00+00:00",
    "command": "python -m benchmarks run",
    "commit": "0123456789ab",
    "machine": {"cpu": "Some CPU", "cores": 2, "system": "Linux", "kernel": "6.1"},
    "versions": {"python": "3.11.7", "aiohttp": "3.14.5"},
    "peers": {"Envoy with token cache": "1.40.0"},
    "load": "wrk 4.1.0",
    "cores": {"gateway": 0, "load and service": 1},
}


def result(rates: Mapping[str, Sequence[float] | str], name: str = "") -> Result:
    """Return a result of requests a second by row, or why a row was skipped.

    Args:
        name: a scenario, as whose rows they were measured; else they are from before that was kept.
    """
    declared = BY_NAME[name].rows if name else {}
    rows = {
        row: Row(f"the {row}", skipped=said)
        if isinstance(said, str)
        else Row(f"the {row}", {RATE.key: list(said)}, described=declared[row].described() if row in declared else {})
        for row, said in rates.items()
    }
    return Result(ENVIRONMENT, {"rounds": 3, "seconds": 3.0}, rows)


def verdicts(name: str, measured: Result | None) -> list[str]:
    scenario = BY_NAME[name]
    return [report.judge(scenario, goal, measured).verdict for goal in scenario.goals]


def test_the_page_and_the_plots_are_those_of_the_result_files() -> None:
    """Run `scripts/bench report` if this fails."""
    assert report.check() == 0


def test_goals_are_judged_by_the_median_of_the_ratios_of_the_rounds() -> None:
    rows = {"a": Row("a", {RATE.key: [100, 50, 90]}), "b": Row("b", {RATE.key: [50, 50, 30]})}
    found = judged(Goal("a", "b", 1.5), rows)
    assert found is not None
    assert (found.median, found.least, found.most) == (2, 1, 3)
    assert judged(Goal("a", "", 1.5), rows) == Spread((100, 50, 90))


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [(2400, "aim met"), (2396, "aim met"), (2390, "met"), (2000, "met"), (1994, "**MISSED**"), (100, "**MISSED**")],
)
def test_a_goal_is_met_or_missed_by_the_number_that_is_shown(ours: float, verdict: str) -> None:
    """Must 2.0, aim 2.4; what rounds to the bound for the reader has reached it."""
    measured = result({"gateway": [ours], "envoy-cache": [1000.0]}, "hot")
    assert verdicts("hot", measured)[0] == verdict


def test_a_side_that_was_skipped_is_not_measured() -> None:
    measured = result({"gateway": [100.0], "envoy-cache": "no wheel", "haproxy": [40.0]}, "hot")
    assert verdicts("hot", measured)[:3] == ["not measured", "aim met", "not measured"]
    assert set(verdicts("hot", None)) == {"not measured"}


def test_what_was_measured_in_another_form_decides_no_goal() -> None:
    """Without access logs, with other requests: it is shown with a line that says so."""
    measured = result({"gateway": [100.0], "envoy-cache": [1.0]})
    assert verdicts("hot", measured)[0] == "not measured in this form"
    text = report.page({"hot": measured}, {})
    assert "| the gateway | 100 (100 to 100) | 0 |" in text
    assert "Measured in an earlier form of this scenario, and without access logs:" in text
    current = result({"gateway": [100.0], "envoy-cache": [1.0]}, "hot")
    assert "earlier form" not in report.page({"hot": current}, {})
    current.rows["gateway"].described["routes"] = 7
    assert verdicts("hot", current)[0] == "not measured in this form"
    assert "Measured in an earlier form of this scenario: " in report.page({"hot": current}, {})


def test_an_aim_without_a_must_is_not_a_failure_of_the_must() -> None:
    measured = result({"gateway-full-lane": [60.0], "naive": [100.0]}, "mixed")
    assert verdicts("mixed", measured)[4] == "aim missed"


def test_what_should_be_small_is_judged_the_other_way() -> None:
    def latencies(ours: float) -> Result:
        declared = BY_NAME["latency"].rows
        rows = {
            name: Row(name, {P99.key: [value]}, described=declared[name].described())
            for name, value in (("gateway", ours), ("envoy-cache", 10.0))
        }
        return Result(ENVIRONMENT, {"rounds": 1, "seconds": 1.0}, rows)

    assert verdicts("latency", latencies(9.0)) == ["met"]
    assert verdicts("latency", latencies(11.0)) == ["**MISSED**"]
    assert report.judge(BY_NAME["latency"], BY_NAME["latency"].goals[0], latencies(9.0)).must == "≤ 1"
    assert [each.title for each in slower({"latency": latencies(11.0)})] == ["envoy-cache"]
    assert slower({"latency": latencies(9.0)}) == []


def test_the_page_opens_with_where_the_gateway_is_slower_the_worst_first() -> None:
    """Beside gateways that do the same work under the same conditions, and no others."""
    rates = {"gateway": [50.0, 50.0], "haproxy": [80.0, 60.0], "envoy-cache": [40.0, 40.0], "nginx": [900.0, 900.0]}
    hot = result({**rates, "gateway-no-log": [70.0, 70.0], "haproxy-no-log": [71.0, 75.0]}, "hot")
    refused = result({"hot": [10.0], "gateway": [20.0], "haproxy": [80.0]}, "no-token")
    found = slower({"hot": hot, "no-token": refused})
    assert [(each.scenario, each.own, each.title) for each in found] == [
        ("no-token", "gateway", "the haproxy"),
        ("hot", "gateway", "the haproxy"),
        ("hot", "gateway-no-log", "the haproxy-no-log"),
    ]
    assert [round(each, 3) for each in found[1].ratio.rounds] == [0.625, 0.833]
    text = report.page({"hot": hot, "no-token": refused}, {"hot": "Words on it.", "slower": "Words on all of it."})
    opening = text.partition("## Goals")[0]
    link = "[hot token GET](#hot-token-get)"
    cost = "20,000 µs a request, 14,286 there"
    assert f"| {link} | the haproxy | 50 requests/s | 70 | 0.73 (0.62 to 0.83) | {cost}; why: see there |" in opening
    assert opening.rstrip().endswith("Words on all of it.")
    assert "nginx" not in opening
    assert "an earlier form" not in opening
    assert "an earlier form" in report.page({"hot": result(rates)}, {}).partition("## Goals")[0]
    assert "Nowhere" in report.page({}, {}).partition("## Goals")[0]


def test_the_readme_shows_one_plot_and_three_numbers_once_they_are_measured() -> None:
    readme = f"# Title\n\n{report.BEGIN}\nold\n{report.END}\n\nmore\n"
    assert "not measured yet" in report.with_summary(readme, {})
    mixed = result({"gateway": [200.0], "envoy-cache": [100.0], "haproxy": [150.0]}, "mixed")
    rows = {
        name: Row(name, {P99.key: [value]}, described=BY_NAME["mixed-latency"].rows[name].described())
        for name, value in (("gateway", 2.0), ("envoy-cache", 8.0))
    }
    results = {"mixed": mixed, "mixed-latency": Result(ENVIRONMENT, {"rounds": 1, "seconds": 1.0}, rows)}
    text = report.with_summary(readme, results)
    assert "| the gateway / the envoy-cache | 2.00 (2.00 to 2.00) |" in text
    assert "| the gateway / the haproxy | 1.33 (1.33 to 1.33) |" in text
    assert "| gateway / envoy-cache (p99) | 0.25 (0.25 to 0.25) |" in text
    assert "(benchmarks/results/mixed.svg)" in text
    assert text.startswith("# Title\n\n")
    assert text.endswith("\n\nmore\n")
    assert "old" not in text
    assert report.with_summary(text, results) == text
    with pytest.raises(ValueError, match="README"):
        report.with_summary("# Title\n", results)


def test_a_row_near_what_the_load_reaches_is_named_on_the_page() -> None:
    measured = result({"gateway": [50.0], "nginx": [95.0], "direct": [100.0]}, "hot")
    assert "the nginx: 95% of what load and service reach alone." in report.page({"hot": measured}, {})


def test_the_page_shows_numbers_spreads_skipped_rows_and_where_they_come_from() -> None:
    measured = result({"gateway": [3000.0, 1000.0, 2000.0], "envoy-cache": "no wheel"})
    text = report.page({"hot": measured}, {"hot": "Words on it.", "costs": "The largest costs."})
    assert "| the gateway | 2,000 (1,000 to 3,000) | 0 |" in text
    assert "| the envoy-cache | no wheel |" in text
    assert "Words on it." in text
    assert "## Where the time goes\n\nThe largest costs." in text
    assert "2026-11-25, commit 0123456789ab; 3 rounds of 3 s; load: wrk 4.1.0; gateway on core 0" in text
    assert "Envoy with token cache 1.40.0" in text
    assert "![hot token GET](../benchmarks/results/hot.svg)" in text
    for scenario in SCENARIOS:
        assert f"`scripts/bench run --scenario {scenario.name}`" in text or scenario.name == "hot"


def test_the_verification_path_has_its_section_when_it_was_measured(tmp_path: Path) -> None:
    assert report.verification(tmp_path) == ""
    row = {"median": 2.5, "least": 2.0, "most": 3.0, "ratio": 0.1}
    content = {**ENVIRONMENT, "results": {"cache hit": row}}
    (tmp_path / "verify.json").write_text(json.dumps(content))
    assert "| cache hit | 2.50 (2.00 to 3.00) | 0.10 |" in report.verification(tmp_path)


def test_a_result_file_keeps_what_was_not_run_again(tmp_path: Path) -> None:
    file = tmp_path / "results" / "suite.json"
    first, second = result({"gateway": [1.0, 3.0], "naive": "missing"}), result({"gateway": [5.0]})
    write({"hot": first, "tls": first}, file)
    write({"tls": second}, file)
    assert read(file.parent) == {"hot": first, "tls": second}
    members = json.loads(file.read_text())["scenarios"]["hot"]["rows"]["gateway"][RATE.key]
    assert members == {"median": 2.0, "least": 1.0, "most": 3.0, "rounds": [1.0, 3.0]}


def test_of_two_files_the_newer_result_counts(tmp_path: Path) -> None:
    newer = result({"gateway": [2.0]})
    newer = Result({**ENVIRONMENT, "date": "2026-11-26T10:00:00+00:00"}, newer.method, newer.rows)
    write({"hot": newer}, tmp_path / "a.json")
    write({"hot": result({"gateway": [1.0]})}, tmp_path / "b.json")
    assert read(tmp_path) == {"hot": newer}


@pytest.mark.parametrize("text", ["", "[]", '{"scenarios": {"hot": {}}}', '{"scenarios": {"hot": {"rows": 1}}}'])
def test_a_file_that_is_no_result_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "odd.json").write_text(text)
    with pytest.raises(ResultError, match=r"odd\.json"):
        read(tmp_path)


def test_a_chart_is_a_drawing_with_a_bar_for_each_row() -> None:
    bars = [Bar("ours & <theirs>", Spread((900, 1000, 1100)), ours=True), Bar("theirs", Spread((500,)))]
    root = ET.fromstring(chart("hot: requests/s", bars, 0))
    space = "{http://www.w3.org/2000/svg}"
    texts = [text.text for text in root.iter(f"{space}text")]
    assert {"hot: requests/s", "ours & <theirs>", "theirs", "1,000", "500"} <= set(texts)
    widths = [float(rect.attrib["width"]) for rect in root.iter(f"{space}rect")][1:]
    assert widths[0] == pytest.approx(2 * widths[1], rel=0.01)
    assert all(0 <= float(text.attrib["x"]) <= 820 for text in root.iter(f"{space}text"))


@pytest.mark.parametrize(
    ("most", "step"), [(1.0, 0.2), (0.13, 0.02), (8.0, 1.0), (47_200, 10_000), (9.9, 2.0), (0, 0.2)]
)
def test_the_axis_has_round_steps(most: float, step: float) -> None:
    assert nice_step(most) == pytest.approx(step)


def test_links_of_the_page_lead_to_its_headings() -> None:
    assert report.anchor("hot tokens while 500 bad signatures a second arrive") == (
        "hot-tokens-while-500-bad-signatures-a-second-arrive"
    )
    assert report.anchor("10, 100, 1,000 routes") == "10-100-1000-routes"
