"""Single-use tokens in a configuration: what fits together."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from tests.settings.configs import SMALL, faults_of, warnings_of
from tests.support.tokens.api_keys import entry

REDIS = {"url": "redis://127.0.0.1/0"}
NONE = {"redis": False}
PUBLIC = 'can never apply: with auth = "public" tokens are not looked at'


def config(route: dict[str, Any], **tables: Any) -> dict[str, Any]:
    made = copy.deepcopy(SMALL)
    made["routes"][0].update(route)
    return {**made, **tables}


SOUND = [
    pytest.param(config({"single_use": True}), id="single use"),
    pytest.param(
        config({"single_use": True}, server={"workers": 4}, redis=REDIS, revocation=NONE),
        id="single use of many workers",
    ),
    pytest.param(config({"single_use": True, "single_use_failure": "open"}), id="open"),
    pytest.param(config({"auth": "public"}), id="not asked for"),
]

FAULTS = [
    pytest.param(config({"auth": "public", "single_use": True}), f"routes[0].single_use: {PUBLIC}", id="public"),
    pytest.param(
        config({"credentials": ["jwt", "api_key"], "single_use": True}, api_keys=[entry()]),
        'routes[0].single_use: cannot be combined with "api_key" in `credentials`: a key has no `jti`',
        id="keys once",
    ),
    pytest.param(
        config({"auth": "optional", "single_use": True}),
        'routes[0].single_use: only has an effect with auth = "required": other routes need no token',
        id="optional once",
    ),
    pytest.param(
        config({"single_use": True}, server={"workers": 2}),
        "routes[0].single_use: needs `redis.url` with several workers: each would let a token pass once",
        id="workers",
    ),
    pytest.param(
        config({"single_use": True}, server={"workers": "auto"}),
        "routes[0].single_use: needs `redis.url` with several workers: each would let a token pass once",
        id="auto",
    ),
    pytest.param(
        config({"single_use_failure": "open"}),
        "routes[0].single_use_failure: has no effect without `single_use`",
        id="open without single use",
    ),
]


@pytest.mark.parametrize("made", SOUND)
def test_what_fits_is_no_fault_and_not_doubtful(made: dict[str, Any], tmp_path: Path) -> None:
    assert faults_of(tmp_path, made) == []
    if made["routes"][0].get("auth") != "public":
        assert warnings_of(tmp_path, made) == []


@pytest.mark.parametrize(("made", "fault"), FAULTS)
@pytest.mark.rule("R244")
def test_what_cannot_apply_is_a_fault(made: dict[str, Any], fault: str, tmp_path: Path) -> None:
    """Each names its key."""
    assert faults_of(tmp_path, made) == [fault]
