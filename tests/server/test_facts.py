"""What a header section says to the gateway itself."""

from __future__ import annotations

import pytest

from gateway.server.facts import Facts, framing, scan


def test_every_value_of_the_fields_that_matter_is_kept_in_order_whatever_their_case() -> None:
    """R102, R220: two of a kind must be seen as two."""
    names = ("authorization", "host", "content_length", "transfer_encoding", "expect", "upgrade", "protocols")
    spelled = dict(zip(names, names, strict=True)) | {"protocols": "sec-websocket-protocol"}
    pairs = [(b"X-Other", b"z")]
    for name in names:
        field = spelled[name].replace("_", "-").encode()
        pairs += [(field.upper(), b"1"), (b"X-" + field, b"0"), (field.title(), b"2")]
    facts = scan(pairs)
    assert facts._asdict() == {"looped": False, "keys": ()} | {name: [b"1", b"2"] for name in names}


def test_nothing_that_matters_is_nothing() -> None:
    """R220."""
    assert scan([(b"Accept", b"*/*")]) == Facts([], [], [], [], [], False, [], [])


@pytest.mark.parametrize(
    ("pairs", "fields"),
    [
        pytest.param([], (), id="none"),
        pytest.param([(b"content-length", b"007")], ((b"Content-Length", b"7"),), id="length"),
        pytest.param([(b"transfer-encoding", b"Chunked")], ((b"Transfer-Encoding", b"chunked"),), id="chunked"),
        pytest.param([(b"Content-Length", b"0")], ((b"Content-Length", b"0"),), id="empty"),
    ],
)
def test_framing_of_the_request_upstream_is_made_afresh(
    pairs: list[tuple[bytes, bytes]], fields: tuple[tuple[bytes, bytes], ...]
) -> None:
    """R203: in one spelling, whatever the client's."""
    assert framing(scan(pairs)) == fields


def test_fields_of_keys_are_kept_with_their_names() -> None:
    """R102: of all routes; which of them counts is for the request's route to say."""
    pairs = [(b"X-Api-Key", b"1"), (b"other", b"2"), (b"PARTNER-KEY", b"3"), (b"x-api-key", b"4"), (b"X_Api_Key", b"5")]
    names = frozenset({b"x-api-key", b"partner-key"})
    assert scan(pairs, names).keys == ((b"x-api-key", b"1"), (b"partner-key", b"3"), (b"x-api-key", b"4"))
    assert scan(pairs).keys == ()
