"""The file of revocations: read whole, read on, half written, wrong, and written to by several at one time."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest

from gateway.features.revocation import file_source as revocation_file
from gateway.features.revocation.file_source import (
    FILE_LOOK_SECONDS,
    FileRevocations,
    RevocationFileError,
    append_revocation,
    read_revocations,
)
from gateway.jwt.revocations.table import RevocationTable
from tests.support.clock import FakeClock, eventually
from tests.support.gateways.revoking import caller

MAX_AGE = 60.0


def lines(*entries: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(entry).encode() + b"\n" for entry in entries)


class Watched:
    """A source on a file, and how often it reported a change."""

    def __init__(self, file: Path) -> None:
        self.clock = FakeClock()
        self.source = FileRevocations(str(file), self.clock, MAX_AGE)
        self.told = 0
        self.source.changed = self._count

    def _count(self) -> None:
        self.told += 1

    def covers(self, names: Iterable[str]) -> list[bool]:
        return [self.source.table.covers(caller(token=name), self.clock.wall()) for name in names]

    async def look(self, looks: int = 2) -> None:
        """Let looks pass, and wait for what they have begun to read."""
        for _ in range(looks):
            await self.clock.advance(FILE_LOOK_SECONDS)
            await eventually(lambda: bool(self.clock.naps))


@contextlib.asynccontextmanager
async def watched(file: Path) -> AsyncIterator[Watched]:
    made = Watched(file)
    await made.source.start()
    try:
        yield made
    finally:
        await made.source.stop()


@pytest.mark.rule("R128")
async def test_a_changed_file_is_in_force_within_a_second(tmp_path: Path) -> None:
    """Entries come and go."""
    file = tmp_path / "revoked.jsonl"
    file.write_bytes(lines({"jti": "a"}) + b"\n  \n" + lines({"jti": "b", "expires": 5}))
    async with watched(file) as made:
        assert (made.source.known, made.told, made.covers("abc")) == (True, 1, [True, False, False])
        file.write_bytes(lines({"jti": "b"}, {"jti": "c"}))
        assert 3 * FILE_LOOK_SECONDS < 1
        await made.look()
        assert (made.told, made.covers("abc")) == (2, [False, True, True])
        assert made.source.status() == {
            "known": True,
            "entries": 2,
            "age_seconds": 0.0,
            "failures": 0,
            "applied": 3,
            "last_error": "",
        }


async def test_what_comes_on_top_is_all_that_is_read(tmp_path: Path) -> None:
    file = tmp_path / "revoked.jsonl"
    file.write_bytes(lines({"jti": "a"}, {"jti": "b"}))
    async with watched(file) as made:
        table = made.source.table
        append_revocation(str(file), '{"jti": "c"}')
        await made.look()
        assert made.source.table is table
        assert made.source.applied == 3
        assert made.covers("abc") == [True, True, True]
        # The same length at the same place is another file all the same.
        file.write_bytes(lines({"jti": "a"}, {"jti": "x"}, {"jti": "c"}, {"jti": "d"}))
        await made.look()
        assert made.source.table is not table
        assert made.covers("abcdx") == [True, False, True, True, True]


async def test_half_written_or_wrong_keeps_what_was_known_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "revoked.jsonl"
    file.write_bytes(lines({"jti": "a"}))
    async with watched(file) as made:
        for text, error in (
            (
                lines({"jti": "a"}) + b'{"jti": "se',
                "line 1 of those added after the last load, the last one, which may be",
            ),
            (lines({"jti": "x"}, {"jtl": "secret"}), "line 2 has an unknown name; the names are"),
            (b"x" * 70_000, "a line has more than 65536 bytes"),
        ):
            file.write_bytes(text)
            failures = made.source.failures
            await made.look()
            assert made.source.failures == failures + 1
            assert made.source.last_error.startswith(error)
            assert made.source.known
            assert made.covers("a") == [True]
        file.unlink()
        await made.look()
        assert "cannot be read" in made.source.last_error
        assert made.covers("a") == [True]
        file.write_bytes(lines({"jti": "b"}))
        await made.look()
        assert (made.source.last_error, made.covers("ab")) == ("", [False, True])
    assert "secret" not in caplog.text
    assert "the entries loaded before stay in force" in caplog.text


async def test_a_file_that_was_never_readable_is_not_known(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "revoked.jsonl"
    async with watched(file) as made:
        assert not made.source.known
        assert made.source.status()["age_seconds"] is None
        assert "no revocation list is available" in caplog.text
        file.write_bytes(lines({"jti": "a"}))
        await made.look()
        assert (made.source.known, made.told, made.covers("a")) == (True, 1, [True])


async def test_a_file_that_keeps_changing_is_read_in_the_end(tmp_path: Path) -> None:
    file = tmp_path / "revoked.jsonl"
    file.write_bytes(b"")
    async with watched(file) as made:
        for number in range(4):
            append_revocation(str(file), json.dumps({"jti": str(number)}))
            await made.look(1)
        assert made.covers("0123") == [True, True, True, True]


@pytest.mark.parametrize("fault", [MemoryError, RuntimeError])
async def test_whatever_a_file_provokes_is_a_file_that_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: type[Exception]
) -> None:
    def read(*_: object) -> None:
        raise fault

    monkeypatch.setattr(revocation_file, "read_revocations", read)
    async with watched(tmp_path / "revoked.jsonl") as made:
        assert made.source.last_error == f"internal: {fault.__name__}"


@pytest.mark.rule("R406")
async def test_what_the_file_said_is_believed_for_its_time_after_it_has_become_unusable(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By its age whenever it is asked; what was known stays revoked, and a good file is believed at once."""
    file = tmp_path / "revoked.jsonl"
    file.write_bytes(lines({"jti": "a"}))
    async with watched(file) as made:
        file.write_bytes(b"wrong")
        for _ in range(int((MAX_AGE - 2) / FILE_LOOK_SECONDS)):
            await made.look(1)
        assert made.source.known
        await made.look(20)
        assert not made.source.known
        assert made.covers("a") == [True]
        assert f"the file was last read {MAX_AGE:.0f}" in caplog.text
        file.write_bytes(lines({"jti": "b"}))
        await made.look(3)
        assert (made.source.known, made.covers("ab")) == (True, [False, True])


@pytest.mark.rule("R406")
async def test_a_look_that_hangs_keeps_nothing_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does one that ended, for there is nothing that it would have to take back."""
    file, release = tmp_path / "revoked.jsonl", threading.Event()
    file.write_bytes(lines({"jti": "a"}))
    async with watched(file) as made:
        monkeypatch.setattr(revocation_file, "read_revocations", lambda *_: release.wait(10))
        file.write_bytes(lines({"jti": "a"}, {"jti": "b"}))
        await made.clock.advance(FILE_LOOK_SECONDS)
        await made.clock.advance(MAX_AGE - 1)
        assert made.source.known
        made.clock.jump(1)
        assert not made.source.known
        release.set()


@pytest.mark.rule("R406")
async def test_a_file_that_the_system_did_not_let_be_read_is_tried_again_as_it_is(
    tmp_path: Path, monkeypatch: Any
) -> None:
    """Its version stays the same when it is a matter of permissions, memory or open files; logged once each."""
    file = tmp_path / "revoked.jsonl"
    file.write_bytes(lines({"jti": "a"}))
    good, faults = read_revocations, [OSError(24, "Too many open files"), MemoryError(), MemoryError()]

    def read(*arguments: Any) -> Any:
        if faults:
            fault = faults.pop(0)
            if isinstance(fault, OSError):
                raise RevocationFileError("this file cannot be read: too many open files", for_now=True)
            raise fault
        return good(*arguments)

    monkeypatch.setattr(revocation_file, "read_revocations", read)
    async with watched(file) as made:
        assert not made.source.known
        await made.look(6)
        assert (made.source.known, made.covers("a"), made.source.failures) == (True, [True], 2)


@pytest.mark.rule("R406")
async def test_a_reading_that_breaks_off_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is not in force with a part of its entries, and is read anew."""
    file, faults = tmp_path / "revoked.jsonl", [MemoryError("secret")]
    file.write_bytes(lines({"jti": "a"}))
    apply = RevocationTable.apply

    def broken(table: RevocationTable, records: bytes, now: float) -> int:
        if faults:
            raise faults.pop()
        return apply(table, records, now)

    async with watched(file) as made:
        monkeypatch.setattr(RevocationTable, "apply", broken)
        file.write_bytes(lines({"jti": "a"}, {"jti": "b"}))
        await made.look(2)
        assert (made.source.last_error, made.covers("ab")) == ("internal: MemoryError", [True, False])
        known_until = made.source.known_until
        await made.look(1)
        assert (made.source.last_error, made.covers("ab")) == ("", [True, True])
        assert made.source.known_until > known_until


async def test_ended_entries_go(tmp_path: Path) -> None:
    file = tmp_path / "revoked.jsonl"
    async with watched(file) as made:
        ends = made.clock.wall() + 120
        file.write_bytes(lines({"jti": "a", "expires": ends}, {"jti": "b"}))
        await made.look()
        assert len(made.source.table) == 2
        await made.clock.advance(200)
        assert len(made.source.table) == 1


def test_only_a_regular_file_of_a_bounded_size_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(RevocationFileError, match="not a regular file"):
        read_revocations(str(pipe))
    with pytest.raises(RevocationFileError, match="cannot be read"):
        read_revocations(str(tmp_path / "nowhere"))
    file = tmp_path / "revoked.jsonl"
    file.write_bytes(lines({"jti": "a"}))
    monkeypatch.setattr(revocation_file, "MAX_REVOCATION_FILE_BYTES", 5)
    with pytest.raises(RevocationFileError, match="more than 5 bytes"):
        read_revocations(str(file))


def test_a_last_line_without_its_end_counts_and_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "revoked.jsonl"
    file.write_bytes(lines({"jti": "a"}) + b'{"jti": "b"}')
    read = read_revocations(str(file))
    assert (len(read.records), read.end, read.further) == (56, len(lines({"jti": "a"})), False)
    append_revocation(str(file), '{"jti": "c"}')
    again = read_revocations(str(file), read.end, read.digest)
    assert (len(again.records), again.end, again.further) == (56, file.stat().st_size, True)


def test_several_writers_do_not_mix_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "revoked.jsonl"
    file.write_bytes(b'{"jti": "half')

    def write(name: int) -> None:
        for number in range(50):
            append_revocation(str(file), json.dumps({"jti": f"{name}-{number}" + "x" * 500}))

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, *rest = file.read_bytes().splitlines()
    assert first == b'{"jti": "half'
    assert len({json.loads(line)["jti"] for line in rest}) == 200


def test_a_file_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        append_revocation(str(tmp_path / "no" / "file"), "{}")


async def test_a_long_file_leaves_others_their_turn(tmp_path: Path) -> None:
    file = tmp_path / "revoked.jsonl"
    file.write_bytes(b"".join(b'{"jti": "%d"}\n' % number for number in range(30_000)))
    async with watched(file) as made:
        assert len(made.source.table) == 30_000
        assert made.told == 1


@pytest.mark.rule("C109")
def test_a_byte_order_mark_is_forgiven_and_utf_16_is_named(tmp_path: Path) -> None:
    """A list of revocations that is not read is an outage of every route."""
    file = tmp_path / "revoked.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"jti": "a"}\n{"jti": "b"}\n')
    table = RevocationTable()
    table.apply(bytes(read_revocations(str(file)).records), 0)
    assert [table.covers(caller(token=name), 0) for name in "abc"] == [True, True, False]
    file.write_bytes('{"jti": "a"}\n'.encode("utf-16"))
    with pytest.raises(RevocationFileError, match="line 1 is text in UTF-16 or UTF-32: save it as UTF-8"):
        read_revocations(str(file))
