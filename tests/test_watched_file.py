"""Files that are read again when they change: what counts as a change, and what as the same failure."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.watched_file import WatchedFile, file_version


def test_another_version_of_a_file_is_told_from_the_last(tmp_path: Path) -> None:
    file = tmp_path / "file"
    assert file_version(str(file)) is None
    assert file_version("\0") is None
    file.write_text("a")
    first = file_version(str(file))
    assert first is not None
    assert file_version(str(file)) == first
    file.write_text("ab")
    second = file_version(str(file))
    os.utime(file, ns=(0, 0))
    third = file_version(str(file))
    (tmp_path / "other").write_text("xy")
    os.utime(tmp_path / "other", ns=(0, 0))
    os.replace(tmp_path / "other", file)
    assert len({first, second, third, file_version(str(file))}) == 4


def test_change_is_told_once_the_file_stands_still(tmp_path: Path) -> None:
    """A file that is half written is not read; one that never stands still is read after a few looks, all the same."""
    file = tmp_path / "file"
    file.write_text("1")
    changes = WatchedFile(str(file), max_waits=2)
    changes.take()
    assert not changes.look()
    file.write_text("22")
    assert [changes.look() for _ in range(3)] == [False, True, False]
    told = []
    for length in range(3, 6):
        file.write_text("x" * length)
        told.append(changes.look())
    assert told == [False, False, True]
    file.unlink()
    assert [changes.look() for _ in range(2)] == [False, True]


def test_file_whose_version_comes_back_has_not_changed(tmp_path: Path) -> None:
    file, other = tmp_path / "file", tmp_path / "other"
    file.write_text("1")
    changes = WatchedFile(str(file), max_waits=2)
    changes.take()
    file.rename(other)
    assert not changes.look()
    other.rename(file)
    assert [changes.look() for _ in range(2)] == [False, False]


@pytest.mark.rule("R406")
def test_version_whose_reading_came_to_nothing_is_told_again(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("a")
    changes = WatchedFile(str(file), max_waits=3)
    changes.take()
    assert not changes.look()
    changes.forget()
    assert changes.look()
    assert not changes.look()
    file.unlink()
    changes.forget()
    assert changes.look(), "also when there is none"


def test_file_that_was_never_read_is_read_at_the_first_look(tmp_path: Path) -> None:
    file = WatchedFile(str(tmp_path / "none"))
    assert [file.look() for _ in range(2)] == [True, False], "also when there is none"


def test_files_that_belong_together_change_together(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("1")
    other.write_text("2")
    files = WatchedFile(str(one), str(other))
    files.take()
    before = files.found
    other.write_text("22")
    assert files.look()
    assert (files.found[0], files.found != before) == (before[0], True)
    assert not files.look()


def test_failure_of_one_version_is_news_once_until_another_succeeds(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("bad")
    file = WatchedFile(str(path))
    assert file.look()
    assert not file.fails_again()
    file.forget()
    assert file.look()
    assert file.fails_again(), "the same version"
    path.write_text("bad, too")
    assert file.look()
    assert not file.fails_again()
    file.succeeds()
    assert not file.fails_again()
