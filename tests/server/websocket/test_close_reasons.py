"""The goodbyes of the gateway itself."""

from __future__ import annotations

import pytest

from gateway.errors import Reason, Reasons
from gateway.features.api_keys.reasons import EXPIRED_API_KEY, UNKNOWN_API_KEY
from gateway.server.websocket.close_reasons import BAD_FRAME, DRAINED, TOO_LARGE


@pytest.mark.parametrize(
    ("reason", "cause", "code"),
    [
        (Reasons.EXPIRED, "expired", 1008),
        (Reasons.UNKNOWN_KEY, "withdrawn", 1008),
        (Reasons.STALE_KEYS, "stale_keys", 1013),
        (EXPIRED_API_KEY, "expired", 1008),
        (UNKNOWN_API_KEY, "withdrawn", 1008),
        (Reasons.REVOKED, "revoked", 1008),
    ],
)
@pytest.mark.rule("C65", "R322")
def test_each_end_of_a_token_has_its_goodbye(reason: Reason, cause: str, code: int) -> None:
    """1013 where it is not known whether the token is good."""
    ending = reason.ending
    assert (ending.cause, ending.code) == (cause, code)
    assert len(ending.text) < 100
    assert ending.text.startswith(b"API key " if reason.code.endswith("api_key") else b"token ")


def test_no_two_ends_share_a_cause() -> None:
    """Logs and metrics tell them apart; a close frame holds at most 123 bytes of text (RFC 6455 section 5.5)."""
    endings = [
        DRAINED,
        TOO_LARGE,
        BAD_FRAME,
        *(reason.ending for reason in (Reasons.EXPIRED, Reasons.UNKNOWN_KEY, Reasons.STALE_KEYS)),
    ]
    assert len({ending.cause for ending in endings}) == len(endings)
    assert all(0 < len(ending.text) <= 123 and ending.text.isascii() for ending in endings)
