"""Rate limits that fit their route, and those that could never apply."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from tests.settings.configs import SMALL, faults_of
from tests.support.tokens.api_keys import entry

BY_SUB, BY_KEY, BY_ADDRESS = ({"requests": 5, "by": by} for by in ("sub", "api_key", "address"))
NOBODY = 'can never apply: with auth = "public" every caller is anonymous; use by = "address"'


def config(limits: Any, **route: Any) -> dict[str, Any]:
    made = copy.deepcopy(SMALL)
    made["routes"][0].update({"rate_limit": limits, **route})
    return made


GOOD = [
    config([BY_SUB, BY_ADDRESS]),
    config([{"requests": 5}, {"requests": 50, "seconds": 60}]),
    config(BY_ADDRESS, auth="public"),
    config(BY_SUB, auth="optional"),
    {**config([BY_KEY, BY_SUB], credentials=["jwt", "api_key"]), "api_keys": [entry()]},
    {**config(BY_SUB), "limits": {"max_callers": 500}},
    config({"requests": 1000, "seconds": 0.001}),
]


@pytest.mark.parametrize("made", GOOD)
def test_limits_that_can_apply_are_sound(made: dict[str, Any], tmp_path: Path) -> None:
    assert faults_of(tmp_path, made) == []


BAD = [
    (config(BY_SUB, auth="public"), [f"routes[0].rate_limit[0].by: {NOBODY}"]),
    (config({"requests": 1, "by": "claim:x"}, auth="public"), [f"routes[0].rate_limit[0].by: {NOBODY}"]),
    (config(BY_KEY, auth="public"), [f"routes[0].rate_limit[0].by: {NOBODY}"]),
    (config(BY_KEY), ['routes[0].rate_limit[0].by: can never apply without "api_key" in `credentials`']),
    (
        config([BY_SUB, BY_ADDRESS, {"requests": 9}]),
        ["routes[0].rate_limit[2].by: repeats rate_limit[0], which counts by the same and for the same time"],
    ),
    (
        config({"requests": 1001, "seconds": 0.001}),
        ["routes[0].rate_limit[0].requests: is more than a million a second, which cannot be counted"],
    ),
    ({**SMALL, "limits": {"max_callers": 500}}, ["limits.max_callers: has no effect: no route has a `rate_limit`"]),
    ({**SMALL, "limits": {"max_callers": 5}}, ["limits.max_callers: must be at least 100"]),
    (
        {**config({"requests": 0}), "limits": {"max_callers": 500}},
        ["routes[0].rate_limit.requests: must be at least 1"],
    ),
    (config(BY_KEY, auth="sometimes"), ["routes[0].auth: must be "]),
]


@pytest.mark.parametrize(("made", "faults"), BAD)
def test_limits_that_cannot_apply_are_faults(made: dict[str, Any], faults: list[str], tmp_path: Path) -> None:
    found = faults_of(tmp_path, made)
    assert len(found) == len(faults), found
    assert all(line.startswith(fault) for line, fault in zip(found, faults, strict=True))
