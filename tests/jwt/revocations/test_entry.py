"""One revocation as JSON: what is taken, what it becomes, and what is said about the rest without repeating it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.jwt.revocations.entry import RevocationEntry, parse_revocation
from gateway.jwt.revocations.table import NEVER, RECORD, EntryKind

END = 1_900_000_000.0


@pytest.mark.parametrize(
    ("entry", "wanted"),
    [
        ({"jti": "j"}, RevocationEntry(EntryKind.TOKEN, "j", "", 0, END)),
        ({"jti": "j", "issuer": "i"}, RevocationEntry(EntryKind.TOKEN_OF_ISSUER, "j", "i", 0, END)),
        ({"sid": "s"}, RevocationEntry(EntryKind.SESSION, "s", "", 0, END)),
        ({"sid": "s", "issuer": "i"}, RevocationEntry(EntryKind.SESSION_OF_ISSUER, "s", "i", 0, END)),
        ({"sub": "a"}, RevocationEntry(EntryKind.SUBJECT, "a", "", 0, END)),
        ({"sub": "a", "issuer": "i"}, RevocationEntry(EntryKind.SUBJECT_OF_ISSUER, "a", "i", 0, END)),
        ({"sub": "a", "before": 5}, RevocationEntry(EntryKind.SUBJECT_BEFORE, "a", "", 5, END)),
        (
            {"sub": "a", "issuer": "i", "before": "1970-01-01T00:00:05.5Z"},
            RevocationEntry(EntryKind.SUBJECT_OF_ISSUER_BEFORE, "a", "i", 5.5, END),
        ),
        ({"issuer": "i", "before": 5.5}, RevocationEntry(EntryKind.ISSUER_BEFORE, "i", "", 5.5, END)),
        ({"jti": "j", "expires": 7}, RevocationEntry(EntryKind.TOKEN, "j", "", 0, 7)),
        ({"jti": "j", "expires": "2027-01-15T08:00:00Z"}, RevocationEntry(EntryKind.TOKEN, "j", "", 0, 1_800_000_000)),
        ({"jti": "j", "expires": "never"}, RevocationEntry(EntryKind.TOKEN, "j", "", 0, math.inf)),
    ],
)
def test_every_form_is_read(entry: dict[str, Any], wanted: RevocationEntry) -> None:
    assert parse_revocation(json.dumps(entry), END) == wanted


FAULTS = {
    "": "is not JSON",
    "nonsense": "is not JSON",
    "[" * 100_000: "is not JSON: nested too deeply",
    '[["jti", "secret"]]': "must be an object with",
    '"secret"': "must be an object with",
    "{}": "must have jti, sub or sid, or issuer and before",
    '{"issuer": "secret"}': "must have jti, sub or sid, or issuer and before",
    '{"before": 5}': "must have jti, sub or sid, or issuer and before",
    '{"jti": "secret", "exp": 5}': "has an unknown name; the names are jti,",
    '{"jti": "secret", "jti": "b"}': "has jti twice",
    '{"jti": "secret", "sub": "b"}': "has jti and sub: an entry is about one thing",
    '{"jti": "secret", "before": 5}': "before has no meaning with jti",
    '{"sid": "secret", "before": 5}': "before has no meaning with sid",
    '{"jti": ""}': "jti must be a non-empty string",
    '{"jti": 5}': "jti must be a non-empty string",
    '{"jti": null}': "jti must be a non-empty string",
    '{"sub": ["secret"]}': "sub must be a non-empty string",
    '{"sub": "secret", "issuer": ""}': "issuer must be a non-empty string",
    '{"sub": "secret", "before": true}': "before must be seconds since the epoch",
    '{"sub": "secret", "before": NaN}': "before must be seconds since the epoch",
    '{"sub": "secret", "before": 1800000000000}': "before must be seconds since the epoch",
    '{"sub": "secret", "before": -1}': "before must be seconds since the epoch",
    '{"sub": "secret", "before": "yesterday"}': "before must be a date-time",
    '{"jti": "secret", "expires": "2027-01-31"}': "expires must be a date-time",
    '{"jti": "secret", "expires": {}}': "expires must be seconds",
}


@pytest.mark.parametrize("text", FAULTS)
def test_what_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (its text is compared)
        parse_revocation(text, END)
    assert str(caught.value).startswith(FAULTS[text])
    assert "secret" not in str(caught.value)


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        parse_revocation(b'{"jti": "\xff"}', END)


def test_where_nobody_knows_the_end_it_must_be_said() -> None:
    with pytest.raises(ValueError, match="must have expires"):
        parse_revocation('{"jti": "\\"expires\\""}', None)
    assert parse_revocation('{"jti": "j", "expires": 5}', None).expires == 5


@given(st.text(min_size=1), st.sampled_from(["jti", "sub", "sid"]))
@pytest.mark.rule("R131")
def test_a_record_is_short_and_holds_nothing_of_the_value(value: str, name: str) -> None:
    """Whatever the value, 28 bytes of digest and numbers."""
    record = parse_revocation(json.dumps({name: value}), END).record()
    assert len(record) == RECORD.size == 28
    assert len(value) < 8 or value.encode("utf-8", "surrogatepass") not in record


@pytest.mark.parametrize("value", ["a:b\r\nDEL x", "x" * 10240])
@pytest.mark.rule("R131")
def test_a_value_made_to_break_a_key_is_only_hashed(value: str) -> None:
    assert len(parse_revocation(json.dumps({"jti": value}), END).record()) == RECORD.size


@pytest.mark.rule("R129")
def test_an_end_is_kept_to_the_next_minute() -> None:
    """Never earlier than it was said."""
    for expires, end in ((60.0, 1), (60.1, 2), (math.inf, NEVER), (1e12, NEVER)):
        assert RECORD.unpack(RevocationEntry(EntryKind.TOKEN, "j", "", 0.0, expires).record())[2] == end
