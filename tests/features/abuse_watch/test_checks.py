"""Options of ``[watch]`` that have an effect, and those that would have none."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from gateway.features.abuse_watch.options import FINDERS
from tests.settings.configs import SMALL, faults_of
from tests.support.tokens.api_keys import entry

NOTHING = dict.fromkeys(FINDERS, 0)


def config(watch: dict[str, Any], **route: Any) -> dict[str, Any]:
    made = copy.deepcopy(SMALL)
    made["routes"][0].update(route)
    return {**made, "watch": watch}


KEYS_ONLY = {"credentials": ["api_key"]}


@pytest.mark.parametrize(
    ("made", "faults"),
    [
        (config({}), []),
        (config(NOTHING), []),
        (config({"refuse_seconds": 60, "exempt": ["10.0.0.0/8"], "token_addresses": 3}), []),
        (
            config({**NOTHING, "refuse_seconds": 60, "exempt": ["::1"], "window_seconds": 60}),
            [f"watch.{name}: has no effect: nothing is watched" for name in ("refuse_seconds", "exempt")],
        ),
        (config({"exempt": ["10.0.0.1/8"]}), ["watch.exempt[0]: bits are set behind the mask"]),
        (
            {**config({"token_addresses": 3, "subject_addresses": 3}, **KEYS_ONLY), "api_keys": [entry()]},
            ["watch.token_addresses: has no effect: no route looks at tokens"],
        ),
        (
            config({"token_addresses": 3, "subject_addresses": 3}, auth="public"),
            [
                "watch.token_addresses: has no effect: no route looks at tokens",
                "watch.subject_addresses: has no effect: no route looks at credentials",
            ],
        ),
        (config({"token_addresses": 3}, auth="sometimes"), ["routes[0].auth: must be "]),
        (config({"token_addresses": -1}, auth="public"), ["watch.token_addresses: must be at least 0"]),
        (config({"token_adresses": 3}), ["watch.token_adresses: unknown key; did you mean `token_addresses`?"]),
    ],
)
def test_options_without_effect_are_faults(made: dict[str, Any], faults: list[str], tmp_path: Path) -> None:
    found = faults_of(tmp_path, made)
    assert len(found) == len(faults), found
    assert sorted(line.startswith(fault) for line, fault in zip(sorted(found), sorted(faults), strict=True)).count(
        True
    ) == len(faults)
