"""Handshakes, the token among the subprotocols, and frames followed by their headers."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode
from websockets.utils import accept_key

from gateway.errors import POLICY_VIOLATION, GatewayError, Reason, Reasons
from gateway.http1.websocket import (
    MESSAGE_TOO_BIG,
    PROTOCOL_ERROR,
    FrameTracker,
    accept_value,
    asks_for_websocket,
    check_request,
    check_response,
    close_frame,
    offered_token,
    protocols_without_token,
)
from gateway.upstream.headers.rewrite import client_lines
from tests.support.wire.heads import head_of

KEY = base64.b64encode(b"0123456789abcdef")
GOOD = (
    (b"Upgrade", b"websocket"),
    (b"connection", b"keep-alive, Upgrade"),
    (b"Sec-WebSocket-Key", KEY),
    (b"Sec-WebSocket-Version", b"13"),
)


def replaced(name: bytes, *values: bytes) -> list[tuple[bytes, bytes]]:
    """The good handshake with other values of one field; with none, without it."""
    return [pair for pair in GOOD if pair[0].lower() != name.lower()] + [(name, value) for value in values]


def frame(opcode: int, payload: bytes, *, final: bool = True, masked: bool = False) -> bytes:
    """One frame, made by another project's code."""
    return Frame(Opcode(opcode), payload, fin=final).serialize(mask=masked)


@pytest.mark.parametrize(
    ("values", "asks"),
    [
        ([b"websocket"], True),
        ([b"WebSocket"], True),
        ([b"h2c", b"foo , websocket"], True),
        ([b"websocket2"], False),
        ([b"websocket/13"], False),
        ([b"h2c"], False),
        ([b""], False),
        ([], False),
    ],
)
@pytest.mark.rule("R321")
def test_request_asks_for_a_websocket_by_its_upgrade_fields(values: Sequence[bytes], asks: bool) -> None:
    """RFC 9110 section 7.8, a list, in any case."""
    assert asks_for_websocket(values) is asks


@pytest.mark.rule("R323")
def test_sound_handshake_gives_its_key() -> None:
    """RFC 6455 section 4.2.1."""
    assert check_request(head_of(*GOOD)) == KEY


@pytest.mark.parametrize(
    ("method", "http_11", "headers", "reason"),
    [
        pytest.param("POST", True, GOOD, Reasons.WEBSOCKET_HANDSHAKE, id="POST"),
        pytest.param("GET", False, GOOD, Reasons.WEBSOCKET_HANDSHAKE, id="HTTP/1.0"),
        pytest.param("GET", True, replaced(b"Connection"), Reasons.WEBSOCKET_HANDSHAKE, id="no-connection"),
        pytest.param("GET", True, replaced(b"Connection", b"close"), Reasons.WEBSOCKET_HANDSHAKE, id="close"),
        pytest.param("GET", True, replaced(b"Sec-WebSocket-Version", b"7"), Reasons.WEBSOCKET_VERSION, id="version-7"),
        pytest.param("GET", True, replaced(b"Sec-WebSocket-Version"), Reasons.WEBSOCKET_VERSION, id="no-version"),
        pytest.param(
            "GET", True, replaced(b"Sec-WebSocket-Version", b"13", b"8"), Reasons.WEBSOCKET_VERSION, id="versions"
        ),
        pytest.param("GET", True, replaced(b"Sec-WebSocket-Key"), Reasons.WEBSOCKET_HANDSHAKE, id="no-key"),
        pytest.param("GET", True, replaced(b"Sec-WebSocket-Key", KEY, KEY), Reasons.WEBSOCKET_HANDSHAKE, id="two-keys"),
        pytest.param(
            "GET",
            True,
            replaced(b"Sec-WebSocket-Key", base64.b64encode(b"15 bytes of key")),
            Reasons.WEBSOCKET_HANDSHAKE,
            id="short-key",
        ),
        pytest.param(
            "GET", True, replaced(b"Sec-WebSocket-Key", b"?" * 24), Reasons.WEBSOCKET_HANDSHAKE, id="no-base64"
        ),
    ],
)
@pytest.mark.rule("R323")
def test_unsound_handshake_is_refused(
    method: str, http_11: bool, headers: Sequence[tuple[bytes, bytes]], reason: Reason
) -> None:
    """400, or 426 for another version."""
    with pytest.raises(GatewayError) as refusal:
        check_request(head_of(*headers, method=method.encode(), http_version=b"1.1" if http_11 else b"1.0"))
    assert refusal.value.reason is reason
    assert reason.kind.status == (426 if reason is Reasons.WEBSOCKET_VERSION else 400)


@given(st.binary(min_size=16, max_size=16))
@pytest.mark.rule("R324")
def test_accept_value_is_the_one_that_others_compute(random: bytes) -> None:
    """RFC 6455 section 4.2.2."""
    key = base64.b64encode(random)
    assert accept_value(key).decode() == accept_key(key.decode())


@pytest.mark.rule("R324")
def test_accept_value_of_the_standards_example() -> None:
    """RFC 6455 section 1.3."""
    assert accept_value(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


AGREED = ((b"upgrade", b"WebSocket"), (b"Connection", b"upgrade"), (b"Sec-WebSocket-Accept", accept_value(KEY)))


@pytest.mark.parametrize("missing", range(3))
@pytest.mark.rule("R324")
def test_upstreams_101_must_answer_this_very_handshake(missing: int) -> None:
    """No fake 101."""
    check_response(AGREED, KEY)
    with pytest.raises(GatewayError) as failure:
        check_response([pair for place, pair in enumerate(AGREED) if place != missing], KEY)
    assert failure.value.reason is Reasons.UPSTREAM_PROTOCOL
    with pytest.raises(GatewayError):
        check_response(AGREED, base64.b64encode(b"another key 16 b"))


@pytest.mark.parametrize(
    ("offered", "token", "passed"),
    [
        pytest.param([b"bearer, a.b.c"], b"a.b.c", [], id="alone"),
        pytest.param([b"bearer,a.b.c,v2,v1"], b"a.b.c", [b"v2, v1"], id="first"),
        pytest.param([b"v2", b"Bearer", b"a.b.c", b"v1"], b"a.b.c", [b"v2, v1"], id="lines"),
        pytest.param([b"v2, v1"], None, [b"v2, v1"], id="none"),
        pytest.param([], None, [], id="nothing-offered"),
        pytest.param([b"xbearer, t"], None, [b"xbearer, t"], id="another-name"),
    ],
)
@pytest.mark.rule("R327")
def test_token_is_taken_out_of_the_subprotocols(
    offered: Sequence[bytes], token: bytes | None, passed: Sequence[bytes]
) -> None:
    """Neither the literal nor the token is left for the upstream."""
    head = head_of((b"X-A", b"1"), *((b"Sec-WebSocket-Protocol", value) for value in offered), (b"X-B", b"2"))
    assert offered_token(offered) == token
    others = protocols_without_token(offered)
    assert (others is None) is (token is None)
    assert b", ".join(others or []) == b"".join(passed if token else [])
    lines = client_lines(head, websocket_token=True)
    protocols = [line for line in lines if line.startswith(b"\nSec-WebSocket-Protocol")]
    assert protocols == [b"\nSec-WebSocket-Protocol: " + value for value in passed]
    assert [line for line in lines if line not in protocols] == [b"\nX-A: 1", b"\nX-B: 2"]
    assert client_lines(head) == head.kept  # where the route takes no token from there


@pytest.mark.parametrize(
    ("offered", "reason"),
    [
        pytest.param([b"bearer"], Reasons.MALFORMED_AUTHORIZATION, id="no-token"),
        pytest.param([b"v1, bearer"], Reasons.MALFORMED_AUTHORIZATION, id="last"),
        pytest.param([b"bearer, t, bearer, u"], Reasons.SEVERAL_CREDENTIALS, id="two"),
        pytest.param([b"bearer, t", b"bearer, u"], Reasons.SEVERAL_CREDENTIALS, id="two-lines"),
    ],
)
@pytest.mark.rule("R327", "R102")
def test_token_that_is_not_one_is_refused(offered: Sequence[bytes], reason: Reason) -> None:
    """One credential, or 400."""
    with pytest.raises(GatewayError) as refusal:
        offered_token(offered)
    assert refusal.value.reason is reason


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.rule("R326")
def test_close_frame_says_its_code_to_others(masked: bool) -> None:
    """RFC 6455 sections 5.3 and 5.5.1."""
    data = close_frame(POLICY_VIOLATION, b"token expired", masked=masked)
    assert bool(data[1] & 0x80) is masked
    payload = data[6:] if masked else data[2:]
    if masked:
        payload = bytes(byte ^ data[2 + (place & 3)] for place, byte in enumerate(payload))
    close = Close.parse(payload)
    assert (data[0], close.code, close.reason) == (0x88, 1008, "token expired")


FRAMES = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 2, 9, 10]),
        st.one_of(st.integers(0, 3), st.sampled_from([124, 125, 126, 127, 300, 65535, 65536, 65540])),
        st.booleans(),
        st.booleans(),
    ),
    max_size=6,
)


@given(FRAMES, st.lists(st.integers(1, 70_000), max_size=8))
@pytest.mark.rule("R326")
def test_everything_passes_whatever_the_pieces_and_ends_are_known(
    frames: Sequence[tuple[int, int, bool, bool]], cuts: Sequence[int]
) -> None:
    """No byte changes, and between two frames nothing is left."""
    whole, borders = b"", {0}
    for opcode, length, final, masked in frames:
        length = min(length, 125) if opcode >= 8 else length
        whole += frame(opcode, bytes(length), final=final or opcode >= 8, masked=masked)
        borders.add(len(whole))
    tracker, passed, position = FrameTracker(0), b"", 0
    for size in [*cuts, len(whole) + 1]:
        passed += tracker.feed(whole[position : position + size])
        position += size
        assert whole.startswith(passed)
        assert min(position, len(whole)) - len(passed) < 10  # a header that is not whole, at most
        assert (tracker.left == 0) == (len(passed) in borders)
    assert (passed, tracker.fault, tracker.closed) == (whole, 0, False)


@pytest.mark.rule("R326")
def test_bytes_one_by_one_pass_with_whole_headers() -> None:
    """Half a header never passes, so that the gateway's own frame can follow what has passed."""
    whole = frame(1, bytes(70_000), masked=True)[:14]
    tracker = FrameTracker(0)
    assert [len(tracker.feed(whole[place : place + 1])) for place in range(14)] == [0] * 9 + [10, 1, 1, 1, 1]
    assert tracker.left == 70_000


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param([1001], id="one-frame"),
        pytest.param([500, 500, 1], id="fragments"),
        pytest.param([1000, 70_000], id="long-fragment"),
    ],
)
@pytest.mark.rule("R326", "C64")
def test_message_over_the_limit_stops_before_the_frame_that_passes_it(sizes: Sequence[int], masked: bool) -> None:
    """1009; what came before has passed."""
    frames = [frame(1 if not place else 0, bytes(size), final=False, masked=masked) for place, size in enumerate(sizes)]
    before = frame(2, bytes(1000), masked=masked) + frame(9, b"ping", masked=masked)
    tracker = FrameTracker(1000)
    assert tracker.feed(before + b"".join(frames)) == before + b"".join(frames[:-1])
    assert tracker.fault == MESSAGE_TOO_BIG
    assert tracker.left == 0
    assert tracker.feed(frame(1, b"more")) == b""


@pytest.mark.rule("R326", "C64")
def test_messages_at_the_limit_pass_and_control_frames_do_not_count() -> None:
    """Under the limit, intact."""
    data = b"".join(
        [
            frame(1, bytes(500), final=False),
            frame(9, bytes(125)),
            frame(0, bytes(500)),
            frame(2, bytes(1000)),
        ]
    )
    tracker = FrameTracker(1000)
    assert tracker.feed(data) == data
    assert tracker.fault == 0


@pytest.mark.rule("R326")
def test_limit_cannot_be_evaded_by_beginning_a_message_in_a_message() -> None:
    """Only a final frame ends a message."""
    tracker = FrameTracker(1000)
    tracker.feed(frame(1, bytes(900), final=False))
    assert tracker.feed(frame(1, bytes(900), final=False)) == b""
    assert tracker.fault == MESSAGE_TOO_BIG


@pytest.mark.rule("R326")
def test_control_frame_that_is_too_long_is_a_protocol_error() -> None:
    """RFC 6455 section 5.5; else it would be a way around the limit."""
    tracker = FrameTracker(1000)
    assert tracker.feed(bytes([0x89, 126, 0, 126]) + bytes(126)) == b""
    assert tracker.fault == PROTOCOL_ERROR


@pytest.mark.rule("R326")
def test_longest_length_that_can_be_written_is_no_fault_of_the_gateway() -> None:
    """64 bits."""
    head = bytes([0x82, 127]) + b"\xff" * 8
    assert FrameTracker(0).feed(head + b"x") == head + b"x"
    assert FrameTracker(1 << 40).feed(head + b"x") == b""


@pytest.mark.rule("R326")
def test_close_frame_is_seen_when_it_is_whole() -> None:
    """Also behind a fault, where nothing passes any more."""
    data = close_frame(1000, b"bye", masked=True)
    tracker = FrameTracker(10)
    tracker.feed(frame(1, b"x") + data[:-1])
    assert not tracker.closed
    tracker.feed(data[-1:])
    assert tracker.closed

    tracker = FrameTracker(10)
    assert tracker.feed(frame(2, bytes(11)) + data) == b""
    assert tracker.closed
