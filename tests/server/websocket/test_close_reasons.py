"""The goodbyes of the gateway itself."""

from __future__ import annotations

import pytest

from gateway.errors import Reason
from gateway.server.websocket.close_reasons import BAD_FRAME, DRAINED, TOO_LARGE, token_ending


@pytest.mark.parametrize(
    ("reason", "cause", "code"),
    [
        (Reason.EXPIRED, "expired", 1008),
        (Reason.UNKNOWN_KEY, "withdrawn", 1008),
        (Reason.STALE_KEYS, "stale_keys", 1013),
        (Reason.EXPIRED_API_KEY, "expired", 1008),
        (Reason.UNKNOWN_API_KEY, "withdrawn", 1008),
        (Reason.REVOKED, "revoked", 1008),
    ],
)
def test_each_end_of_a_token_has_its_goodbye(reason: Reason, cause: str, code: int) -> None:
    """C65, R322: 1013 where nobody can say whether the token is good."""
    ending = token_ending(reason)
    assert (ending.cause, ending.code) == (cause, code)
    assert len(ending.text) < 100
    assert ending.text.startswith(b"API key " if reason.code.endswith("api_key") else b"token ")


def test_no_two_ends_share_a_cause() -> None:
    """Logs and metrics tell them apart; a close frame holds at most 123 bytes of text (RFC 6455 section 5.5)."""
    endings = [
        DRAINED,
        TOO_LARGE,
        BAD_FRAME,
        *map(token_ending, (Reason.EXPIRED, Reason.UNKNOWN_KEY, Reason.STALE_KEYS)),
    ]
    assert len({ending.cause for ending in endings}) == len(endings)
    assert all(0 < len(ending.text) <= 123 and ending.text.isascii() for ending in endings)
