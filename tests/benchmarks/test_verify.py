"""benchmarks/verify.py: it runs, measures what it says, and writes a result that can be judged.

Its numbers are not tested here: a loaded machine must not fail the suite.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.verify import SIGNERS, Measured, main, make_steps, ratios, refused
from gateway.errors import GatewayError, Reasons
from gateway.identity import Identity


def test_one_short_round_writes_a_result_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All rows, the yardsticks of the same run, and where it was measured."""
    output = tmp_path / "results" / "verify.json"
    assert main(["--rounds", "1", "--seconds", "0.2", "--output", str(output)]) == 0
    content = json.loads(output.read_text())
    rows = {"cache hit", "bad signature", "malformed", "expired"}
    rows |= {f"{kind} {algorithm}" for kind in ("miss", "bare", "PyJWT") for algorithm in SIGNERS}
    assert set(content["results"]) == rows
    assert all(row["median"] > 0 and row["ratio"] > 0 for row in content["results"].values())
    assert content["results"]["bare RS256"]["ratio"] == 1
    assert {"date", "command", "machine", "versions", "method", "aims"} <= set(content)
    printed = capsys.readouterr().out
    assert all(row in printed for row in rows)


def test_the_steps_do_what_their_names_say() -> None:
    """A hit is the identity that the miss made; every miss verifies to the end."""
    steps = make_steps()
    hit = steps["cache hit"]()
    for algorithm in SIGNERS:
        identity = steps[f"miss {algorithm}"]()
        assert isinstance(identity, Identity)
        assert isinstance(hit, Identity)
        assert (identity.subject, identity.scopes, identity.headers) == (hit.subject, hit.scopes, hit.headers)
        assert steps[f"bare {algorithm}"]() is None
        assert steps[f"PyJWT {algorithm}"]()


def test_a_refusal_is_measured_only_for_its_own_reason() -> None:
    """A row named "expired" that fails for another reason, or not at all, is an error."""

    def raises() -> None:
        raise GatewayError(Reasons.EXPIRED)

    refused(raises, Reasons.EXPIRED)()
    with pytest.raises(GatewayError):
        refused(raises, Reasons.BAD_SIGNATURE)
    with pytest.raises(AssertionError):
        refused(lambda: None, Reasons.EXPIRED)


def test_ratios_compare_within_a_round() -> None:
    """A slow round slows both down and changes nothing."""
    results = {
        "bare RS256": Measured([10, 20, 10]),
        "bare ES256": Measured([100, 100, 100]),
        "miss ES256": Measured([150, 150, 150]),
        "expired": Measured([5, 10, 5]),
    }
    assert ratios(results) == {"bare RS256": 1, "bare ES256": 1, "miss ES256": 1.5, "expired": 0.5}
