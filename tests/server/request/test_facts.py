"""What follows from what a head says to the gateway itself."""

from __future__ import annotations

import pytest

from gateway.errors import GatewayError, Reasons
from gateway.server.request.facts import UPGRADE_LINES, forwards_left, framing
from tests.support.wire.heads import head_of


@pytest.mark.parametrize(
    ("value", "left"),
    [(b"0", 0), (b"5", 5), (b"007", 7), (b"999999999", 999999999), (b"9" * 5000, 999999999), (b"0" * 5000 + b"3", 3)],
)
@pytest.mark.rule("R414")
def test_max_forwards_is_one_number(value: bytes, left: int) -> None:
    """Of any size; the highest one that is counted stands for higher ones (RFC 9110 section 7.6.2)."""
    assert forwards_left(head_of((b"max-Forwards", value))) == left


@pytest.mark.parametrize(
    "values", [[b"x"], [b""], [b"-1"], [b"+1"], [b"1.0"], [b"1, 1"], [b"1", b"1"], [b"\xb2"], [b"1_0"]]
)
@pytest.mark.rule("R414")
def test_max_forwards_that_is_not_one_number_is_refused(values: list[bytes]) -> None:
    with pytest.raises(GatewayError) as caught:
        forwards_left(head_of(*((b"Max-Forwards", value) for value in values)))
    assert caught.value.reason is Reasons.MAX_FORWARDS


def test_without_max_forwards_there_is_no_end() -> None:
    assert forwards_left(head_of((b"X-Max-Forwards", b"0"), (b"Max_Forwards", b"0"))) is None


@pytest.mark.parametrize(
    ("pairs", "lines"),
    [
        pytest.param([], b"", id="none"),
        pytest.param([(b"content-length", b"007")], b"Content-Length: 7\r\n", id="length"),
        pytest.param([(b"transfer-encoding", b"Chunked")], b"Transfer-Encoding: chunked\r\n", id="chunked"),
        pytest.param([(b"Content-Length", b"0")], b"Content-Length: 0\r\n", id="empty"),
    ],
)
@pytest.mark.rule("R203")
def test_framing_of_the_request_upstream_is_made_afresh(pairs: list[tuple[bytes, bytes]], lines: bytes) -> None:
    """In one spelling, whatever the client's."""
    assert framing(head_of(*pairs)) == lines


@pytest.mark.rule("R250", "R323")
def test_a_websocket_is_asked_for_in_the_gateways_own_words() -> None:
    """Whatever else the client's Connection and Upgrade list (RFC 6455 section 4.1)."""
    assert UPGRADE_LINES == b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
