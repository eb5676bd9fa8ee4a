"""The table of what is revoked, against a plain dictionary; and what a million entries would cost, on a small scale."""

from __future__ import annotations

import math
import pickle
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.jwt.revocations.table import CLEANED, NEVER, RECORD, SHARDS, EntryKind, RevocationTable, digest
from tests.support.gateways.revoking import HOUR, NOW, caller, revoked


def table(*records: bytes) -> RevocationTable:
    made = RevocationTable()
    made.apply(b"".join(records), NOW)
    return made


MAIN, OTHER = "https://idp.test/", "https://other.test/"


@pytest.mark.parametrize(
    ("record", "hit", "misses"),
    [
        (revoked(EntryKind.TOKEN, "j"), {"token": "j"}, [{"token": "k"}, {"subject": "j"}, {"session": "j"}, {}]),
        (revoked(EntryKind.TOKEN_OF_ISSUER, "j", MAIN), {"token": "j"}, [{"token": "j", "issuer": OTHER}]),
        (revoked(EntryKind.SESSION, "s"), {"session": "s"}, [{"session": "t"}, {"token": "s"}]),
        (revoked(EntryKind.SESSION_OF_ISSUER, "s", MAIN), {"session": "s"}, [{"session": "s", "issuer": OTHER}]),
        (revoked(EntryKind.SUBJECT, "a"), {"subject": "a", "issued": NOW + HOUR}, [{"subject": "b"}]),
        (revoked(EntryKind.SUBJECT_OF_ISSUER, "a", MAIN), {"subject": "a"}, [{"subject": "a", "issuer": ""}]),
        (revoked(EntryKind.SUBJECT_BEFORE, "a", before=NOW), {"subject": "a"}, [{"subject": "a", "issued": NOW}]),
        (
            revoked(EntryKind.SUBJECT_OF_ISSUER_BEFORE, "a", MAIN, NOW),
            {"subject": "a", "issued": -math.inf},
            [{"subject": "a", "issued": NOW}, {"subject": "a", "issuer": OTHER}],
        ),
        (revoked(EntryKind.ISSUER_BEFORE, MAIN, before=NOW), {}, [{"issuer": OTHER}, {"issued": NOW}, {"issuer": ""}]),
    ],
)
@pytest.mark.rule("R132")
def test_each_kind_covers_what_it_names_and_nothing_else(
    record: bytes, hit: dict[str, Any], misses: list[dict[str, Any]]
) -> None:
    """A token without ``iat`` counts as issued before any moment."""
    made = table(record)
    assert made.covers(caller(**hit), NOW)
    assert not any(made.covers(caller(**miss), NOW) for miss in misses)
    assert len(made) == sum(made.counts().values()) == 1


def test_pairs_of_texts_that_look_alike_are_told_apart() -> None:
    pairs = [("b", "a"), ("b", "1:a"), ("1:b", "a"), ("", "ab"), ("b", "aa"), ("ab", "a"), ("\ud800", "a")]
    found = {digest(EntryKind.TOKEN_OF_ISSUER, value, issuer) for value, issuer in pairs}
    found |= {digest(kind, value, "") for kind in (EntryKind.TOKEN, EntryKind.SUBJECT) for value in ("b", "1:ab", "ab")}
    assert len(found) == len(pairs) + 6


# The model: what the latest end and the latest moment of each thing are.
_ENDS = st.integers(min_value=-2, max_value=5)
_ENTRIES = st.tuples(
    st.sampled_from([EntryKind.TOKEN, EntryKind.SUBJECT, EntryKind.SUBJECT_BEFORE]),
    st.sampled_from("abc"),
    _ENDS,
    _ENDS,
)


@given(st.lists(st.one_of(_ENTRIES, st.just(None)), max_size=40))
@pytest.mark.rule("R129")
def test_the_table_is_as_good_as_a_dictionary(steps: list[tuple[EntryKind, str, int, int] | None]) -> None:
    """Entries come in any order, time passes, ended ones are cleaned away."""
    made, now = RevocationTable(), NOW
    model: dict[tuple[EntryKind, str], tuple[float, float]] = {}
    for step in steps:
        if step is None:
            now += 60
            for _ in range(3 * SHARDS // CLEANED):
                made.clean(now)
            model = {key: value for key, value in model.items() if value[0] > now}
            assert len(made) == len(model)
            continue
        kind, name, end, before = step
        expires, moment = now + 60 * end, NOW + 60 * before
        made.apply(revoked(kind, name, "", moment, expires), now)
        if expires > now:
            old = model.get((kind, name), (-math.inf, -math.inf))
            model[kind, name] = (max(expires, old[0]), max(moment, old[1]))
        for name in "abc":
            issued = NOW + 60 * before - 30
            wanted = any(
                (kind, name) in model
                and model[kind, name][0] > now
                and (kind is not EntryKind.SUBJECT_BEFORE or issued < model[kind, name][1])
                for kind in (EntryKind.SUBJECT, EntryKind.SUBJECT_BEFORE)
            )
            assert made.covers(caller(subject=name, issued=issued), now) is wanted
            assert made.covers(caller(token=name), now) is (model.get((EntryKind.TOKEN, name), (0.0, 0.0))[0] > now)
    copy = RevocationTable()
    copy.apply(b"".join(made.records(2, now)), now)
    assert sorted(filter(None, copy.records(1, now))) == sorted(filter(None, made.records(1, now)))
    assert not any(made.records(1, now, copy))


def test_only_what_changes_anything_is_counted() -> None:
    made = RevocationTable()
    record = revoked(EntryKind.TOKEN, "j")
    assert made.apply(record * 3, NOW) == 1
    assert made.apply(record, NOW) == 0
    assert made.apply(revoked(EntryKind.TOKEN, "j", expires=NOW + 2 * HOUR), NOW) == 1
    assert made.apply(revoked(EntryKind.TOKEN, "k", expires=NOW), NOW) == 0
    assert made.apply(revoked(EntryKind.SUBJECT_BEFORE, "a", before=NOW) * 2, NOW) == 1


def test_kinds_of_a_later_version_are_left_out() -> None:
    made = RevocationTable()
    assert made.apply(RECORD.pack(len(EntryKind), bytes(15), NEVER, 0.0) + revoked(EntryKind.TOKEN, "j"), NOW) == 1


def test_records_come_back_as_they_were() -> None:
    records = [revoked(EntryKind.TOKEN, str(number)) for number in range(2000)]
    records += [revoked(EntryKind.SUBJECT_BEFORE, str(number), before=NOW + number) for number in range(50)]
    records.append(revoked(EntryKind.TOKEN, "for ever", expires=math.inf))
    made = table(*records, revoked(EntryKind.TOKEN, "ended soon", expires=NOW + 60))
    parts = list(made.records(3, NOW + 90))
    assert max(map(len, parts)) == 3 * RECORD.size
    data = b"".join(parts)
    assert sorted(records) == sorted(data[at : at + RECORD.size] for at in range(0, len(data), RECORD.size))
    assert made.covers(caller(token="for ever"), NOW + 1e9)


def test_an_entry_takes_less_than_120_bytes() -> None:
    """1,000,000 of them are 150 MiB at most; `benchmarks/revocation.py` measures that whole."""
    ends = [NOW + HOUR + 60 * (number % 1440) for number in range(100_000)]
    data = b"".join(
        RECORD.pack(0, digest(EntryKind.TOKEN, str(n), ""), int(end / 60), 0.0) for n, end in enumerate(ends)
    )
    made = RevocationTable()
    tracemalloc.start()
    made.apply(data, NOW)
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(made) == len(ends)
    assert size / len(ends) < 120


def test_ends_that_nobody_shares_are_not_kept_apart_for_ever() -> None:
    made, sizes = RevocationTable(), []
    records = [RECORD.pack(0, digest(EntryKind.TOKEN, str(n), ""), 40_000_000 + n, 0.0) for n in range(70_000)]
    for some in (records[:65_000], records[65_000:]):
        made.apply(b"".join(some), NOW)
        sizes.append(len(pickle.dumps(made)))  # all that it holds
    assert sizes[1] < sizes[0]
    assert len(made) == 70_000
