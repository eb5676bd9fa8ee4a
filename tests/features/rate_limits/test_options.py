"""``gateway/features/rate_limits/options.py``: how limits are written, and what of a single one is a fault."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.features.rate_limits.options import RateLimit, burst_of, claims_of_limits, counted_by
from gateway.jwt.claims.issuer_policy import kept_claims
from gateway.settings.rendering.effective import effective_toml
from tests.settings.configs import SMALL, faults_of, load_text, toml
from tests.support.composed import Route


def limited(limit: Any) -> dict[str, Any]:
    """Return a small configuration whose one route has this limit."""
    made = copy.deepcopy(SMALL)
    made["routes"][0]["rate_limit"] = limit
    return made


def test_one_table_is_a_list_of_one(tmp_path: Path) -> None:
    one = load_text(tmp_path, toml(limited({"requests": 5})))
    several = load_text(tmp_path, toml(limited([{"requests": 5}])))
    assert one.settings.routes[0].rate_limit == several.settings.routes[0].rate_limit == [RateLimit(requests=5)]
    assert Route(path="/", upstream="a", rate_limit=[RateLimit(requests=1)]).rate_limit == [RateLimit(requests=1)]
    assert 'rate_limit = [{ requests = 5, seconds = 1, by = "sub", burst = 0 }]' in effective_toml(one)


@pytest.mark.parametrize("text", ["sub", "api_key", "address", "claim:tenant", "claim:a b", "claim:https://x.test/y"])
def test_what_requests_can_be_counted_by(text: str) -> None:
    assert counted_by(text) == text


@pytest.mark.parametrize("text", ["", "subject", "claim:", "claim", "SUB", "token", "ip"])
def test_anything_else_to_count_by_is_a_fault(text: str) -> None:
    with pytest.raises(ValidationError, match='"claim:" and the name of a claim'):
        RateLimit(requests=1, by=text)


@pytest.mark.parametrize(
    ("requests", "burst", "wanted"), [(1, 0, 1), (10, 0, 1), (11, 0, 2), (100, 0, 10), (5, 50, 50)]
)
def test_the_burst_is_a_tenth_unless_it_is_said(requests: int, burst: int, wanted: int) -> None:
    assert burst_of(RateLimit(requests=requests, burst=burst)) == wanted


def test_claims_that_are_counted_by_are_kept_with_the_identity(tmp_path: Path) -> None:
    limits = [{"requests": 1, "by": "claim:tenant"}, {"requests": 1, "by": "sub"}, {"requests": 1, "by": "claim:a:b"}]
    settings = load_text(tmp_path, toml(limited(limits))).settings
    assert claims_of_limits(settings.routes[0].rate_limit) == {"tenant", "a:b"}
    assert kept_claims(settings) >= {"tenant", "a:b"}


@pytest.mark.parametrize(
    ("limit", "faults"),
    [
        (7, ["routes[0].rate_limit: must be a table or a list of tables"]),
        ({}, ["routes[0].rate_limit.requests: is required"]),
        ([{"requests": 1}, 4], ["routes[0].rate_limit[1]: must be a table"]),
        ({"requests": 0}, ["routes[0].rate_limit.requests: must be at least 1"]),
        ({"requests": 1.5}, ["routes[0].rate_limit.requests: must be a whole number"]),
        ([{"requests": 1, "seconds": 0}], ["routes[0].rate_limit[0].seconds: must be at least 0.001"]),
        ({"requests": 1, "brst": 2}, ["routes[0].rate_limit.brst: unknown key; did you mean `burst`?"]),
        ([{"requests": 1, "brst": 2}], ["routes[0].rate_limit[0].brst: unknown key; did you mean `burst`?"]),
        ({"requests": 1, "by": "ip"}, ["routes[0].rate_limit.by: must be "]),
    ],
)
def test_faults_name_the_key_as_it_was_written(limit: Any, faults: list[str], tmp_path: Path) -> None:
    found = faults_of(tmp_path, limited(limit))
    assert len(found) == len(faults)
    assert all(line.startswith(fault) for line, fault in zip(found, faults, strict=True))
