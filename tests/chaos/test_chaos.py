"""The chaos run, for a few seconds; and whether its judge sees what it is there for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.content import content
from tests.chaos.load import Judgement
from tests.chaos.run import chaos, posted_twice
from tests.support.gateways.running import LANE, RawResponse

pytestmark = pytest.mark.untraced

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"


@pytest.mark.parametrize("lane", ["express", "full"])
@pytest.mark.rule("R286", "R287", "R289", "R290", "R291", "R292", "R310", "R311", "R315", "R333")
async def test_every_answer_under_chaos_is_right_or_says_so(tmp_path: Path, lane: str) -> None:
    """And afterwards nothing is left over."""
    token = LANE.set(lane)
    judgement, suffered = await chaos(5, seed=7, clients=12, folder=tmp_path)
    LANE.reset(token)
    assert judgement.findings == []
    assert judgement.outcomes["200"] > 50
    assert suffered.total() > 2


@pytest.mark.parametrize(
    ("response", "finding"),
    [
        (RawResponse(OK, content(1, 9)), ""),
        (RawResponse(OK, content(1, 9)[:4]), "shortened"),
        (RawResponse(OK, content(2, 9)), "different"),
        (RawResponse(OK, content(1, 9)[:4], complete=False), ""),
        (RawResponse(OK, content(2, 9)[:4], complete=False), "of something else"),
        (RawResponse(OK.replace(b"200", b"500"), b"{}"), "500"),
        (RawResponse(OK.replace(b"200", b"502"), b'{"error": "bad_gateway"}'), ""),
        (RawResponse(OK.replace(b"200", b"502"), b'{"error": "unavailable"}'), "not the gateway's"),
    ],
)
def test_the_judge_tells_right_from_wrong(response: RawResponse, finding: str) -> None:
    """The judge itself: cut content that looks whole is a finding, an honest break is not."""
    judgement = Judgement()
    judgement.note("GET /", response, content(1, 9))
    assert [finding in found for found in judgement.findings] == ([True] if finding else [])


@pytest.mark.rule("R310", "R311")
def test_a_second_arrival_is_a_finding(tmp_path: Path) -> None:
    """The judge itself."""
    journal = tmp_path / "journal"
    journal.write_text("/1\n/2\n/3\n/2\n")
    assert posted_twice(journal) == ["POST /2 reached the upstreams 2 times"]
