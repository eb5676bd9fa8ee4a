"""The one canonical spelling of base64url."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError, Reason, Reasons
from gateway.jwt.jose.base64url import decode_segment
from tests.support.tokens.minting import b64

ALPHABET = (string.ascii_letters + string.digits + "-_").encode()


def judged(text: bytes) -> bytes | Reason:
    """Return what a text decodes to, or why it does not."""
    try:
        return decode_segment(text)
    except GatewayError as error:
        return error.reason


@given(st.binary(max_size=40))
@pytest.mark.rule("R060", "R061", "C23")
def test_bytes_have_exactly_one_spelling(data: bytes) -> None:
    """RFC 4648 section 3.5: no other last character, no padding, no other alphabet."""
    text = b64(data)
    assert decode_segment(text) == data
    others = [text + b"=", text + b"\n", b" " + text, text.replace(b"-", b"+") + b"+"]
    if text and len(data) % 3:
        others += [text[:-1] + bytes([last]) for last in ALPHABET if last != text[-1]]
    for other in others:
        assert judged(other) != data


@given(st.text("ABCXYZabcxyz0189-_+/=. \n", max_size=12))
@pytest.mark.rule("R060", "R061")
def test_whatever_decodes_is_the_canonical_text(text: str) -> None:
    """Two different texts never give the same bytes."""
    data = judged(text.encode())
    assert isinstance(data, Reason) or b64(data) == text.encode()


@pytest.mark.parametrize("text", [b"A", b"AAAAA", b"AA==", b"A A", b"AA+/", b"\xc3\xa9", b"AB", b"AAB", b"AA\x00A"])
@pytest.mark.rule("R060")
def test_other_text_is_refused(text: bytes) -> None:
    assert judged(text) is Reasons.BAD_ENCODING
