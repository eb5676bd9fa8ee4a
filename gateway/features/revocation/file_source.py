"""The revocations that come from a file: read whole, read on when it has grown, and written to line by line.

Reads and writes the file, and watches it. The dangers: a file that is half
written or wrong (so it is taken once it no longer changes, and otherwise the
entries loaded before stay in force), a file that was never read (so revocations
are unknown), and a long file (so it is read in a thread, and where only lines
were added, only those are read).
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import math
import os
import stat
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, BinaryIO, NamedTuple

from gateway.clock import Clock
from gateway.jwt.revocations.entry import parse_revocation
from gateway.jwt.revocations.source import RevocationSource
from gateway.jwt.revocations.table import RECORD, RevocationTable
from gateway.settings.readable import without_mark
from gateway.tasks import Periodic
from gateway.watched_file import WatchedFile

_log = logging.getLogger("gateway.revocation")

#: Seconds between two checks of the file; one that has changed is read when it is the same at the next check.
FILE_LOOK_SECONDS = 0.25

#: How many checks a file that keeps changing is waited for.
_MAX_WAITS = 3

#: The largest file, and the longest line of it, in bytes.
MAX_REVOCATION_FILE_BYTES, MAX_LINE = 1 << 30, 1 << 16

#: Entries that are added at one time: a few milliseconds.
_SLICE = 2000

_CHUNK = 1 << 20


class RevocationFileError(ValueError):
    """A file of revocations that cannot be used.

    Attributes:
        for_now: the system could not read it: that may change while the file stays as it is.
    """

    def __init__(self, text: str, *, for_now: bool = False) -> None:
        super().__init__(text)
        self.for_now = for_now


class Read(NamedTuple):
    """What was read of a file.

    Attributes:
        records: one after the other.
        end: where the last whole line ended.
        digest: of everything before that.
        further: the file is the one that was read before, and these records come on top.
    """

    records: bytearray
    end: int
    digest: bytes
    further: bool


def read_revocations(file: str, end: int = 0, digest: bytes = b"") -> Read:
    """Read a file with one JSON object (RFC 8259) a line; empty lines are skipped.

    An entry without an end is in force for as long as it is in the file.

    Args:
        file: its name.
        end, digest: of what was read before. If the file still begins with just that, only the rest is read.

    Raises:
        RevocationFileError: what is wrong with it, with the number of the line.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as stream:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise RevocationFileError("this file cannot be read: not a regular file")
            if found.st_size > MAX_REVOCATION_FILE_BYTES:
                raise RevocationFileError(f"this file has more than {MAX_REVOCATION_FILE_BYTES} bytes")
            further = 0 < end <= found.st_size and _digest(stream, end) == digest
            stream.seek(end if further else 0)
            records, whole = _records(stream, " of those added after the last load" if further else "")
            end = (end if further else 0) + whole
            stream.seek(0)
            return Read(records, end, _digest(stream, end), further)
    except OSError as error:
        text = f"this file cannot be read: {(error.strerror or '').lower()}"
        raise RevocationFileError(text, for_now=True) from None


def _digest(stream: BinaryIO, size: int) -> bytes:
    """Return the SHA-256 of the next bytes."""
    found = sha256()
    while size and (chunk := stream.read(min(size, _CHUNK))):
        found.update(chunk)
        size -= len(chunk)
    return found.digest()


def _records(stream: BinaryIO, where: str) -> tuple[bytearray, int]:
    """Return the records of the lines to come, and how many bytes are whole lines."""
    records, whole = bytearray(), 0
    for number, line in enumerate(_lines(stream), start=1):
        if text := line.strip():
            try:
                text = text if number > 1 else without_mark(text)
                records += parse_revocation(text, math.inf).record()
            except ValueError as error:
                half = "" if line.endswith(b"\n") else ", the last one, which may be half written,"
                raise RevocationFileError(f"line {number}{where}{half} {error}") from None
        whole += len(line) if line.endswith(b"\n") else 0
    return records, whole


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    while line := stream.readline(MAX_LINE):
        if len(line) == MAX_LINE and not line.endswith(b"\n"):
            raise RevocationFileError(f"a line has more than {MAX_LINE} bytes")
        yield line


def append_revocation(file: str, line: str) -> None:
    """Add one line to a file, making it if there is none; several programs may do so at one time.

    Raises:
        OSError: it cannot be written.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        # A line that another program left half written must not become a part of this one.
        border = b"\n" if size and os.pread(descriptor, 1, size - 1) != b"\n" else b""
        data = memoryview(border + line.encode("utf-8") + b"\n")
        while data:
            data = data[os.write(descriptor, data) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class FileRevocations(RevocationSource):
    """The revocations in a file.

    Args:
        file: its name.
        clock: the time.
        max_age: how long the last entries stay in force once the file cannot be used, in seconds.

    Attributes:
        failures: versions of the file that could not be used.
        last_error: what is wrong with the file as it is now; empty when it is in force.
    """

    name = "file"

    def __init__(self, file: str, clock: Clock, max_age: float) -> None:
        super().__init__(clock, max_age)
        self.last_error = ""
        self._file = file
        self._end, self._digest = 0, b""
        self._in_force = False
        self._looking = asyncio.Lock()
        self._changes = WatchedFile(file, max_waits=_MAX_WAITS)
        self._watching = Periodic("revocation file", self._watch, clock, FILE_LOOK_SECONDS, on_failure=self._not_read)

    async def start(self) -> None:
        """Read the file, and keep up with it from then on in the background."""
        self._changes.take()
        await self._read(self._monotonic())
        self._watching.start()

    async def stop(self) -> None:
        """Stop keeping up."""
        await self._watching.stop()

    async def catch_up(self, since: float) -> bool:
        # A file that has changed is read when it is still the same at the next call.
        await self._look()
        return self._looked_at >= since and not self._changes.waiting

    async def _watch(self) -> None:
        await self._look()
        self.tell()
        self.table.clean(self._wall())

    async def _look(self) -> None:
        async with self._looking:
            began = self._monotonic()
            if self._changes.look():
                await self._read(began)
            elif self._in_force:
                self.found_good(began)

    async def _read(self, began: float) -> None:
        self._in_force = False  # until the end of this: an exception means that nothing was read
        try:
            read = await asyncio.to_thread(read_revocations, self._file, self._end, self._digest)
        except RevocationFileError as error:
            self._fail(str(error))
            if error.for_now:
                self._changes.forget()
            return
        except Exception as error:
            # Every exception that a file causes (MemoryError, a fault of a library) means that it cannot be used.
            self._fail(f"internal: {type(error).__name__}")
            self._changes.forget()
            return
        table = self.table if read.further else RevocationTable()
        for start in range(0, len(read.records), _SLICE * RECORD.size):
            self.applied += table.apply(bytes(read.records[start : start + _SLICE * RECORD.size]), self._wall())
            await asyncio.sleep(0)
        if self.filled and read.records:
            _log.info("revocation file %s reloaded: %d entries", self._file, len(table))
        self.table, self.last_error, self._in_force = table, "", True
        self._end, self._digest = read.end, read.digest
        self.changed()
        self.found_good(began)

    def _not_read(self, error: BaseException) -> None:
        """Note a check that ended in an unforeseen exception: a file that it had begun to read is read anew."""
        if not self._in_force:
            self._fail(f"internal: {type(error).__name__}")
            self._changes.forget()

    def _fail(self, text: str) -> None:
        if text == self.last_error:
            return  # the same fault of the same file, found again
        self.failures += 1
        self.last_error = text
        what = "no revocation list is available"
        if self.known:
            what = f"the entries loaded before stay in force for up to {self._max_age:g} s"
        _log.warning("revocation file %s cannot be used: %s; %s", self._file, text, what)

    def status(self) -> dict[str, Any]:
        """Return what ``/status`` shows."""
        return {**super().status(), "last_error": self.last_error}
