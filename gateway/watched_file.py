"""Files that are read again when they change, and how a change is noticed.

Compares versions of a file, and never reads its content: the code that reads it reports whether
that worked. A writer may be at work, files that belong together are written one after the other,
and a version that cannot be read now may be readable later.
"""

from __future__ import annotations

import os

#: What distinguishes the versions of a file: time of change, size and inode; None when there is no file.
Version = tuple[int, int, int] | None

Versions = tuple[Version, ...]

# The version of files that were never read: no file has it.
_UNREAD: Versions = ((-1, -1, -1),)


def file_version(file: str) -> Version:
    """Return the version of a file."""
    try:
        found = os.stat(file)
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class WatchedFile:
    """Detects when a file, or one of several that belong together, has another version than the one read last.

    Args:
        files: their names.
        max_waits: how many checks a version that keeps changing is waited for: a writer may be at work.

    Attributes:
        found: the version that was there when ``look`` last returned True, or at ``take``.
    """

    def __init__(self, *files: str, max_waits: int = 0) -> None:
        self._files = files
        self._max_waits = max_waits
        self._waits = 0
        self._taken = _UNREAD
        self._noted = _UNREAD
        self._failed: Versions | None = None
        self.found = _UNREAD

    def take(self) -> None:
        """Take the version that is there now: it is about to be read."""
        self.found = self._taken = self._noted = self._versions()

    def forget(self) -> None:
        """Treat the present version as new at the next check: the last attempt to read it failed."""
        self._taken, self._noted = _UNREAD, self._versions()

    @property
    def waiting(self) -> bool:
        """Whether a new version was seen that was not yet the same at two checks."""
        return self._noted != self._taken

    def look(self) -> bool:
        """Take the present version if it is new and no longer changes; return whether it was taken."""
        found = self._versions()
        if found == self._taken:
            self._noted, self._waits = found, 0
            return False
        if found != self._noted and self._waits < self._max_waits:
            self._noted, self._waits = found, self._waits + 1
            return False
        self.found = self._taken = self._noted = found
        self._waits = 0
        return True

    def fails_again(self) -> bool:
        """Note that ``found`` cannot be used; return whether that was noted before, since the last usable version."""
        again = self.found == self._failed
        self._failed = self.found
        return again

    def succeeds(self) -> None:
        """Note that ``found`` is in force: the next failure is reported again."""
        self._failed = None

    def _versions(self) -> Versions:
        return tuple(map(file_version, self._files))
