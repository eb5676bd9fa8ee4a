"""Rules R040-R065 of the checklist: the header, and the spelling of a token."""

from __future__ import annotations

import json
import time
import warnings

import pytest

from gateway.errors import GatewayError, Reasons
from gateway.jwt.jose.compact import parse_token
from tests.support.tokens.minting import ABSENT, SigningKey, b64, good_claims, mint, mint_raw
from tests.support.tokens.verifying import MAX_BYTES, NOW, accepted, judge, keys_of, make_policy

KEY = SigningKey.rsa("a")
CLAIMS = good_claims(NOW)
PAYLOAD = json.dumps(CLAIMS).encode()
ACCESS_TOKENS_ONLY = make_policy({"token_type": "at+jwt"})


@pytest.mark.parametrize(
    "crit",
    [["exp"], ["bork"], ["b64"], 5, None, "b64", [], [[]], [{}], ["alg"], ["kid", "kid"], {}, True, ["x"]],
)
@pytest.mark.rule("R040", "R041", "C04")
def test_every_crit_is_refused(crit: object) -> None:
    """No extension is understood here, and malformed ones break nothing."""
    for extra in ({}, {"x": 1, "bork": 1, "exp": 1}):
        token = mint(KEY, CLAIMS, header={"crit": crit, **extra})
        assert judge(token, KEY) is Reasons.CRITICAL_HEADER


@pytest.mark.parametrize("value", [False, True, None, "false"])
@pytest.mark.rule("R042", "C04")
def test_unencoded_payloads_are_refused(value: object) -> None:
    """With crit as RFC 7797 demands, and without it."""
    assert judge(mint(KEY, CLAIMS, header={"b64": value}), KEY) is Reasons.UNENCODED_PAYLOAD
    assert judge(mint(KEY, CLAIMS, header={"b64": value, "crit": ["b64"]}), KEY) is Reasons.CRITICAL_HEADER
    header = b64(b'{"alg":"RS256","kid":"a","b64":false,"crit":["b64"]}')
    signing_input = header + b"." + PAYLOAD.replace(b".", b"")
    raw = signing_input + b"." + b64(KEY.sign(signing_input, "RS256"))
    assert judge(raw, KEY) is Reasons.CRITICAL_HEADER


@pytest.mark.parametrize(
    "extra", [{"nonce": "x"}, {"foo": [1]}, {"cat": "cl_1"}, {"x5t": "AA", "zip": "DEF"}, {"": {}}]
)
@pytest.mark.rule("R043", "C05")
def test_unknown_header_members_are_ignored(extra: dict[str, object]) -> None:
    accepted(judge(mint(KEY, CLAIMS, header=extra), KEY))


@pytest.mark.parametrize("header", [b'["alg"]', b'"alg"', b"5", b"null", b"{}", b"x", b"", b"\xff", b"true", b"[1]"])
@pytest.mark.rule("R044", "C06", "C08")
def test_a_header_is_an_object_with_alg(header: bytes) -> None:
    assert judge(mint_raw(KEY, header, PAYLOAD), KEY) in (Reasons.BAD_HEADER, Reasons.NOT_A_JWS)


@pytest.mark.parametrize("alg", [None, 1, True, ["RS256"], {"RS256": 1}, ABSENT])
@pytest.mark.rule("R045", "C08")
def test_alg_is_a_string(alg: object) -> None:
    assert judge(mint(KEY, CLAIMS, header={"alg": alg}), KEY) is Reasons.BAD_HEADER


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"none","alg":"RS256","kid":"a"}',
        b'{"alg":"RS256","alg":"none","kid":"a"}',
        b'{"alg":"RS256","kid":"a","kid":"a"}',
        b'{"alg":"RS256","kid":"a","x":{"y":1,"y":2}}',
    ],
)
@pytest.mark.rule("R046")
def test_repeated_header_members_are_refused(header: bytes) -> None:
    assert judge(mint_raw(KEY, header, PAYLOAD), KEY) is Reasons.DUPLICATE_MEMBER


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
@pytest.mark.rule("R047", "R073")
def test_headers_and_payloads_are_utf_8(encoding: str) -> None:
    header = '{"alg":"RS256","kid":"a"}'
    assert judge(mint_raw(KEY, header.encode(encoding), PAYLOAD), KEY) is Reasons.BAD_HEADER
    assert judge(mint_raw(KEY, header.encode(), PAYLOAD.decode().encode(encoding)), KEY) is Reasons.BAD_PAYLOAD


@pytest.mark.parametrize("bad", [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\\ud800", b"\\udc00x"])
@pytest.mark.rule("R047", "R073", "R348")
def test_text_is_whole_characters(bad: bytes) -> None:
    header = b'{"alg":"RS256","kid":"a","x":"' + bad + b'"}'
    assert judge(mint_raw(KEY, header, PAYLOAD), KEY) is Reasons.BAD_HEADER
    payload = PAYLOAD.replace(b"alice", bad)
    assert judge(mint_raw(KEY, b'{"alg":"RS256","kid":"a"}', payload), KEY) is Reasons.BAD_PAYLOAD


@pytest.mark.parametrize("typ", ["at+jwt", "application/at+jwt", "AT+JWT", "Application/AT+jwt"])
@pytest.mark.rule("R048", "C10", "C87")
def test_access_tokens_that_say_so_pass_everywhere(typ: str) -> None:
    token = mint(KEY, CLAIMS, header={"typ": typ})
    accepted(judge(token, KEY))
    accepted(judge(token, KEY, policy=ACCESS_TOKENS_ONLY))


@pytest.mark.parametrize("typ", [ABSENT, "JWT", "jwt", "application/jwt", "", "Bearer", "at+jwt ", "at"])
@pytest.mark.rule("R048", "C10", "C87")
def test_types_that_say_nothing_pass_without_a_rule_on_typ(typ: object) -> None:
    token = mint(KEY, CLAIMS, header={"typ": typ})
    assert judge(token, KEY, policy=ACCESS_TOKENS_ONLY) is Reasons.TYPE_REFUSED
    accepted(judge(token, KEY))


@pytest.mark.parametrize(
    "typ",
    [
        "logout+jwt",
        "dpop+jwt",
        "DPoP+JWT",
        "secevent+jwt",
        "application/secevent+jwt",
        "kb+jwt",
        "dc+sd-jwt",
        "oauth-authz-req+jwt",
        "client-authentication+jwt",
        "JWE",
    ],
)
@pytest.mark.rule("R048", "R050", "C87")
def test_other_kinds_of_jwt_are_refused_with_and_without_a_rule(typ: str) -> None:
    token = mint(KEY, CLAIMS, header={"typ": typ})
    assert judge(token, KEY) is Reasons.TYPE_REFUSED
    assert judge(token, KEY, policy=ACCESS_TOKENS_ONLY) is Reasons.TYPE_REFUSED


@pytest.mark.parametrize("typ", [None, 1, [], {}, True])
@pytest.mark.rule("C08")
def test_typ_is_a_string(typ: object) -> None:
    assert judge(mint(KEY, CLAIMS, header={"typ": typ}), KEY) is Reasons.BAD_HEADER


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(b"A" * 1_000_000, id="1 MB"),
        pytest.param(b"." * 1_000_000, id="1 MB of dots"),
        pytest.param(b64(b'{"x":"' + b"y" * 4000 + b'"}') + b".e30.AAAA", id="header"),
        pytest.param(b64(b'{"alg":"RS256"}') + b".e30." + b"A" * 4000, id="signature"),
    ],
)
@pytest.mark.rule("R052", "C25")
def test_oversized_parts_are_refused_unread(token: bytes) -> None:
    """Before anything is decoded, so in no time."""
    started = time.perf_counter()
    for _ in range(100):
        with pytest.raises(GatewayError) as caught:
            parse_token(token, MAX_BYTES)
        assert caught.value.reason is Reasons.TOKEN_TOO_LONG
    assert (time.perf_counter() - started) / 100 < 0.001


@pytest.mark.rule("R052")
def test_a_long_header_within_the_bound_passes() -> None:
    """2048 bytes are room for certificates and long names."""
    accepted(judge(mint(KEY, CLAIMS, header={"x": "y" * 1900}), KEY))


@pytest.mark.parametrize("depth", [65, 500, 900])
@pytest.mark.rule("R053")
def test_deep_headers_are_refused(depth: int) -> None:
    header = b'{"alg":"RS256","kid":"a","x":' + b"[" * depth + b"]" * depth + b"}"
    assert judge(mint_raw(KEY, header, PAYLOAD), KEY) is Reasons.BAD_HEADER


@pytest.mark.parametrize("number", [b"1" * 5000, b"1e999999", b"-1e999999", b"1" * 1500])
@pytest.mark.rule("R054", "R079")
def test_endless_numbers_break_nothing(number: bytes) -> None:
    """Refused, or an integer that is not used."""
    payload = PAYLOAD[:-1] + b', "x": ' + number + b"}"
    verdict = judge(mint_raw(KEY, b'{"alg":"RS256","kid":"a"}', payload), KEY)
    if number == b"1" * 1500:
        accepted(verdict)
    else:
        assert verdict is Reasons.BAD_PAYLOAD


def damaged(token: bytes, segment: int, place: int, text: bytes) -> bytes:
    segments = token.split(b".")
    at = {0: 0, 1: len(segments[segment]) // 2, 2: len(segments[segment])}[place]
    segments[segment] = segments[segment][:at] + text + segments[segment][at:]
    return b".".join(segments)


@pytest.mark.parametrize(
    "text", [b"=", b"==", b" ", b"\t", b"\n", b"\r\n", b"+", b"/", b"?", b"\0", b"\x80", "é".encode()]
)
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("segment", [0, 1, 2])
@pytest.mark.rule("R060", "R064", "C06", "C23")
def test_only_the_base64url_alphabet_is_read(segment: int, place: int, text: bytes) -> None:
    token = mint(KEY, CLAIMS)
    accepted(judge(token, KEY))
    assert judge(damaged(token, segment, place, text), KEY) is Reasons.BAD_ENCODING


ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.rule("R061", "C23")
def test_unused_bits_are_zero(size: int) -> None:
    """Of all last characters with the same meaning, one is accepted, in each segment."""
    header = b'{"alg":"RS256","kid":"a"}'
    header += b" " * ((size - len(header)) % 3)
    claims = PAYLOAD + b" " * ((size - len(PAYLOAD)) % 3)
    token = mint_raw(KEY, header, claims)
    accepted(judge(token, KEY))
    for segment in (0, 1):
        parts = token.split(b".")
        end, spare = ALPHABET.index(parts[segment][-1:]), 16 if size == 1 else 4
        assert len(parts[segment]) % 4 == size + 1
        assert end % spare == 0
        for bits in range(1, spare):
            parts[segment] = parts[segment][:-1] + ALPHABET[end + bits : end + bits + 1]
            assert judge(b".".join(parts), KEY) is Reasons.BAD_ENCODING
    signature = token[:-1] + ALPHABET[ALPHABET.index(token[-1:]) + 1 :][:1]  # 256 bytes leave 4 unused bits
    assert judge(signature, KEY) is Reasons.BAD_ENCODING


@pytest.mark.parametrize(
    "token",
    [
        *[b"", b".", b"..", b"...", b"a", b"a.b", b"a.b.c.d", b"a.b.c.d.e.f", b"e30.e30.", b".e30.AAAA", b"X"],
        *[b"00Dxx!AQ.Uo_.", b"0123456789abcdef0123456789abcdef", b"." * 8000],
    ],
)
@pytest.mark.rule("R062", "C06", "C95")
def test_other_numbers_of_segments_are_no_jws(token: bytes) -> None:
    assert judge(token, KEY) is Reasons.NOT_A_JWS


@pytest.mark.rule("R063")
def test_json_serialisations_are_refused() -> None:
    header, payload, signature = mint(KEY, CLAIMS).decode().split(".")
    flat = {"protected": header, "payload": payload, "signature": signature}
    general = {"payload": payload, "signatures": [{"protected": header, "signature": signature}]}
    for form in (flat, general):
        assert judge(json.dumps(form).encode(), KEY) is Reasons.NOT_A_JWS


@pytest.mark.rule("R065")
def test_detached_payloads_are_refused() -> None:
    header, _, signature = mint(KEY, CLAIMS).split(b".")
    assert judge(header + b".." + signature, KEY) is Reasons.NOT_A_JWS


def test_a_remembered_header_is_judged_the_same_each_time() -> None:
    """The memory of headers changes no answer, good or bad."""
    bad = mint(KEY, CLAIMS, header={"crit": ["x"]})
    good = mint(KEY, CLAIMS, header={"x": "remembered"})
    for _ in range(3):
        assert judge(bad, KEY) is Reasons.CRITICAL_HEADER
        accepted(judge(good, KEY))


@pytest.mark.rule("R391")
def test_eddsa_raises_no_warning() -> None:
    """The library would warn for each token."""
    key = SigningKey.ed25519("a")
    known, policy = keys_of(key), make_policy({"algorithms": ["EdDSA"]})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        accepted(judge(mint(key, CLAIMS), key_set=known, policy=policy))
    assert caught == []
