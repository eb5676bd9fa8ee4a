"""What a header section says to the gateway itself."""

from __future__ import annotations

import pytest

from gateway.errors import GatewayError, Reasons
from gateway.server.request.facts import Facts, forwards_left, framing, scan, with_fewer_forwards


@pytest.mark.rule("R102", "R220")
def test_every_value_of_the_fields_that_matter_is_kept_in_order_whatever_their_case() -> None:
    """Two of a kind must be seen as two."""
    names = (
        *("authorization", "host", "content_length", "transfer_encoding", "expect", "upgrade", "protocols"),
        "max_forwards",
    )
    spelled = dict(zip(names, names, strict=True)) | {"protocols": "sec-websocket-protocol"}
    pairs = [(b"X-Other", b"z")]
    for name in names:
        field = spelled[name].replace("_", "-").encode()
        pairs += [(field.upper(), b"1"), (b"X-" + field, b"0"), (field.title(), b"2")]
    facts = scan(pairs)
    assert facts._asdict() == {"looped": False, "keys": ()} | {name: [b"1", b"2"] for name in names}


@pytest.mark.rule("R220")
def test_nothing_that_matters_is_nothing() -> None:
    assert scan([(b"Accept", b"*/*")]) == Facts([], [], [], [], [], False, [], [], [])


@pytest.mark.parametrize(
    ("value", "left"),
    [(b"0", 0), (b"5", 5), (b"007", 7), (b"999999999", 999999999), (b"9" * 5000, 999999999), (b"0" * 5000 + b"3", 3)],
)
@pytest.mark.rule("R414")
def test_max_forwards_is_one_number(value: bytes, left: int) -> None:
    """Of any size; the highest one that is counted stands for higher ones (RFC 9110 section 7.6.2)."""
    assert forwards_left(scan([(b"max-Forwards", value)])) == left


@pytest.mark.parametrize(
    "values", [[b"x"], [b""], [b"-1"], [b"+1"], [b"1.0"], [b"1, 1"], [b"1", b"1"], [b"\xb2"], [b"1_0"]]
)
@pytest.mark.rule("R414")
def test_max_forwards_that_is_not_one_number_is_refused(values: list[bytes]) -> None:
    with pytest.raises(GatewayError) as caught:
        forwards_left(scan([(b"Max-Forwards", value) for value in values]))
    assert caught.value.reason is Reasons.MAX_FORWARDS


def test_without_max_forwards_there_is_no_end() -> None:
    assert forwards_left(scan([])) is None
    pairs = [(b"Accept", b"a"), (b"MAX-forwards", b"5")]
    assert with_fewer_forwards(pairs, 5) == [(b"Accept", b"a"), (b"MAX-forwards", b"4")]


@pytest.mark.parametrize(
    ("pairs", "fields"),
    [
        pytest.param([], (), id="none"),
        pytest.param([(b"content-length", b"007")], ((b"Content-Length", b"7"),), id="length"),
        pytest.param([(b"transfer-encoding", b"Chunked")], ((b"Transfer-Encoding", b"chunked"),), id="chunked"),
        pytest.param([(b"Content-Length", b"0")], ((b"Content-Length", b"0"),), id="empty"),
    ],
)
@pytest.mark.rule("R203")
def test_framing_of_the_request_upstream_is_made_afresh(
    pairs: list[tuple[bytes, bytes]], fields: tuple[tuple[bytes, bytes], ...]
) -> None:
    """In one spelling, whatever the client's."""
    assert framing(scan(pairs)) == fields


@pytest.mark.rule("R102")
def test_fields_of_keys_are_kept_with_their_names() -> None:
    """Of all routes; which of them counts is for the request's route to say."""
    pairs = [(b"X-Api-Key", b"1"), (b"other", b"2"), (b"PARTNER-KEY", b"3"), (b"x-api-key", b"4"), (b"X_Api_Key", b"5")]
    names = frozenset({b"x-api-key", b"partner-key"})
    assert scan(pairs, names).keys == ((b"x-api-key", b"1"), (b"partner-key", b"3"), (b"x-api-key", b"4"))
    assert scan(pairs).keys == ()
