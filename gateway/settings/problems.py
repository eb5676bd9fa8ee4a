"""What checks of several options find, and what tells them which options they may look at.

This file has these two types, so that the checks of the core and those of
features share them. What is wrong with one option alone is found by its type.
"""

from __future__ import annotations

from collections.abc import Collection

from gateway.settings.faults import KeyPath

#: The place of an option and what is wrong with it.
Problem = tuple[KeyPath, str]


class Sound:
    """Tells whether options are free of faults of their own.

    Args:
        faulty: the keys that have a fault of their own.
    """

    def __init__(self, faulty: Collection[KeyPath]) -> None:
        self._faulty = faulty

    def __call__(self, *paths: KeyPath) -> bool:
        """Return whether nothing at, below or above these keys is at fault."""
        return not any(path[: len(other)] == other[: len(path)] for path in paths for other in self._faulty if other)

    def table(self, name: str) -> bool:
        """Return it for a table as such, whatever is wrong inside."""
        return (name,) not in self._faulty

    def options(self, place: KeyPath, *names: str) -> bool:
        """Return it for several options of one table."""
        return self(*((*place, name) for name in names))
