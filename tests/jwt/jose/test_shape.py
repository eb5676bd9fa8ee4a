"""Whether bytes look like a JWT, however broken it is."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.jwt.jose.shape import is_jws
from tests.support.tokens.minting import SigningKey, good_claims, mint


@pytest.mark.parametrize(
    "token",
    [
        mint(SigningKey.ec("a"), good_claims(1, iss="https://as.test/")),
        b"eyJhbGciOiJub25lIn0.e30.x",
        b"eyJ.e30.x",  # a header that begins as one, and is not: no issuer's opaque tokens
        b"IHsi.a.b",  # blanks before the object
        b"ewo.a.b",
        urlsafe_b64encode(b'{"alg":"RS256","crit":["x"]}').rstrip(b"=") + b".a.b",
    ],
)
@pytest.mark.rule("R118")
def test_jws_is_one_however_broken(token: bytes) -> None:
    """So it is never sent to an issuer that it does not name."""
    assert is_jws(token)


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"opaque",
        b"00Dxx!AQ.Uo_.x",
        b"a.b",
        b"a.b.c",
        b"..",
        b"eyJhbGciOiJub25lIn0..x",
        b"eyJhbGciOiJkaXIifQ.a.b.c.d",
        b"W10.a.b",  # an array
        b"gho_16C7e42F292c6912E7710c838347Ae178B4a",
        b"v1.local.payload",
    ],
)
@pytest.mark.rule("C95")
def test_everything_else_is_opaque(token: bytes) -> None:
    assert not is_jws(token)


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=8)), st.sampled_from(["", " ", "\n", "\t\r\n "]))
def test_every_json_object_is_a_header(members: dict[str, str], blanks: str) -> None:
    header = urlsafe_b64encode((blanks + json.dumps(members)).encode()).rstrip(b"=")
    assert is_jws(header + b".e30.c2ln")


@given(st.binary(max_size=60))
def test_any_bytes_are_one_or_the_other(token: bytes) -> None:
    assert is_jws(token) in (True, False)
