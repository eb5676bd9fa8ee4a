"""The options of proofs: their bounds."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.settings.tables.dpop import Dpop


@pytest.mark.rule("R137")
def test_defaults_are_those_of_the_field() -> None:
    """A proof is good for a minute, and nonces are off."""
    options = Dpop()
    assert (options.max_age_seconds, options.max_future_seconds, options.nonce_seconds) == (60, 5, 0)
    assert "ES256" in options.algorithms


def test_origins_are_written_as_clients_write_them() -> None:
    assert Dpop(origins=["HTTPS://API.example.com:443"]).origins == ["https://api.example.com"]


@pytest.mark.parametrize(
    "options",
    [
        {"algorithms": []},
        {"algorithms": ["HS256"]},
        {"algorithms": ["none"]},
        {"max_age_seconds": 0},
        {"max_age_seconds": 3601},
        {"max_future_seconds": -1},
        {"nonce_seconds": -1},
        {"nonce_seconds": 0.5},
        {"origins": ["*"]},
        {"origins": ["api.example.com"]},
        {"origins": ["https://api.example.com/path"]},
    ],
    ids=str,
)
@pytest.mark.rule("R134", "R137")
def test_values_beyond_their_bounds_are_refused(options: dict[str, Any]) -> None:
    """No symmetric algorithm, and no proof without an end."""
    with pytest.raises(ValidationError):
        Dpop.model_validate(options)
