"""Names in Redis: what is changed has another one, and what gateways of 0.1.0 share has theirs."""

from __future__ import annotations

import pytest

from gateway.store import names

DIGEST = bytes(range(16))


@pytest.mark.rule("R440")
def test_changed_values_have_names_with_their_format() -> None:
    for name in (names.used_ids("token"), names.introspection_prefix("0123456789abcdef")):
        assert name.startswith(f"gateway:{names.FORMAT}:")
    assert names.used_ids("token") != names.used_ids("proof")


@pytest.mark.rule("R440")
def test_unchanged_values_have_the_names_of_the_first_format() -> None:
    """Old and new gateways go on sharing them."""
    assert names.used_id("proof", DIGEST) == f"gateway:proof:{DIGEST.hex()}"
    assert names.bucket(DIGEST) == f"gateway:rate:{DIGEST.hex()}"
    assert names.FLEET == "gateway:fleet"
