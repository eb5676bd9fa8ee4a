"""A file of API keys: what it may hold, every fault with its line and key, and no secret in a fault."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from gateway.features.api_keys import key_file
from gateway.features.api_keys.key_file import KeyFileError, read_keys
from gateway.features.api_keys.options import ApiKey
from gateway.settings.tables.root import DEFAULT_IDENTITY
from tests.support.tokens.api_keys import KEY, OTHER, entry, hash_of

SECRET = OTHER.decode()


def written(directory: Path, *lines: str | bytes | dict[str, Any]) -> str:
    file = directory / "keys.jsonl"
    texts = [line if isinstance(line, str | bytes) else json.dumps(line) for line in lines]
    file.write_bytes(b"\n".join(text.encode() if isinstance(text, str) else text for text in texts))
    return str(file)


def faults(file: str, *given: ApiKey) -> list[str]:
    """Return the faults of a file, without its name."""
    try:
        read_keys(file, given, DEFAULT_IDENTITY)
    except KeyFileError as error:
        return [text.removeprefix(f"{file}, ") for text in error.faults]
    return []


def test_each_line_is_an_entry_and_empty_ones_count_for_nothing(tmp_path: Path) -> None:
    file = written(tmp_path, entry(), "", "  \r", entry(OTHER, "other", scopes=["a"]), "")
    found = read_keys(file, [], DEFAULT_IDENTITY)
    assert [(key.id, key.hash, key.scopes) for key in found] == [
        ("partner", hash_of(KEY), []),
        ("other", hash_of(OTHER), ["a"]),
    ]
    assert read_keys(written(tmp_path), [], DEFAULT_IDENTITY) == []


BAD = [
    pytest.param("{", "line 2: is not JSON: ", id="broken"),
    pytest.param(f'{{"{SECRET}": 1, "{SECRET}": 2}}', "line 2: is not JSON: duplicate key", id="twice"),
    pytest.param('{"id": NaN}', "line 2: is not JSON: NaN is not a JSON number", id="nan"),
    pytest.param("[" * 100_000, "line 2: is not JSON: nested too deeply", id="deep"),
    pytest.param(b'{"id": "\xff"}', "line 2: is not UTF-8 text", id="bytes"),
    pytest.param(f'"{SECRET}"', "line 2: must be an object with the keys of [[api_keys]]", id="text"),
    pytest.param(SECRET, "line 2: is not JSON: expecting value at character 1", id="key"),
    pytest.param({"hash": hash_of(OTHER)}, "line 2, id: is required", id="no-id"),
    pytest.param({"id": "b"}, "line 2, hash: is required", id="no-hash"),
    pytest.param(entry(OTHER, "b" * 65), "line 2, id: must be up to 64 letters", id="long-id"),
    pytest.param({"id": "b", "hash": SECRET}, 'line 2, hash: must be "sha256:" and the 64', id="key-as-hash"),
    pytest.param({**entry(OTHER, "b"), SECRET: 1}, "line 2: unknown key", id="unknown-key"),
    pytest.param({**entry(OTHER, "b"), "scope": "a"}, "line 2: unknown key; did you mean `scopes`?", id="near"),
    pytest.param(entry(OTHER, "b", scopes=["a b"]), "line 2, scopes: is not a scope", id="scope"),
    pytest.param(entry(OTHER, "b", scopes="a"), "line 2, scopes: must be a list", id="scopes"),
    pytest.param(entry(OTHER, "b", claims={SECRET: {}}), "line 2, claims: must be", id="claim"),
    pytest.param(entry(OTHER, "b", claims={"sub": "x"}), "line 2, claims: `sub` is `owner`", id="own-claim"),
    pytest.param(entry(OTHER, "b", claims={"role": "a\nb"}), "line 2, claims: cannot be sent to services", id="unsafe"),
    pytest.param(entry(OTHER, "b", owner="a\x00b"), "line 2, owner: cannot be sent to services", id="unsafe-owner"),
    pytest.param(entry(OTHER, "b", expires="2027-01-01"), "line 2, expires: must be a date-time", id="expires"),
    pytest.param(entry(OTHER, "partner"), "line 2, id: is also the id of line 1", id="same-id"),
    pytest.param(entry(KEY, "b"), "line 2, hash: is also the hash of line 1", id="same-hash"),
]


@pytest.mark.parametrize(("line", "fault"), BAD)
@pytest.mark.rule("R196")
def test_fault_names_line_and_key_and_repeats_nothing(
    line: str | bytes | dict[str, Any], fault: str, tmp_path: Path
) -> None:
    """What stands in the wrong place may be a key."""
    found = faults(written(tmp_path, entry(), line))
    assert len(found) == 1
    assert found[0].startswith(fault)
    assert SECRET not in found[0]


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    file = written(tmp_path, "{", entry(), {"id": "", "expires": "x"}, entry(KEY, "b"))
    assert [text.partition(": ")[0] for text in faults(file)] == [
        *("line 1", "line 3, id", "line 3, hash", "line 3, expires", "line 4, hash"),
    ]


def test_entries_of_the_configuration_count_too(tmp_path: Path) -> None:
    given = ApiKey.model_validate(entry())
    assert faults(written(tmp_path, entry()), given) == [
        "line 1, id: is also the id of api_keys[0]",
        "line 1, hash: is also the hash of api_keys[0]",
    ]
    assert len(read_keys(written(tmp_path, entry(OTHER, "b")), [given], DEFAULT_IDENTITY)) == 1


def test_many_faults_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_file, "MAX_FAULTS", 2)
    file = written(tmp_path, "{", "{", "{", "{")
    with pytest.raises(KeyFileError) as caught:
        read_keys(file, [], {})
    assert [text.partition("line")[0] for text in caught.value.faults] == [f"{file}, "] * 2 + [f"{file}: 2 more faults"]
    assert str(caught.value).endswith(" (and 2 more)")


@pytest.mark.parametrize(("data", "for_now"), [(None, True), ("{}".encode("utf-16"), False), (b"{", False)])
def test_only_a_file_that_cannot_be_read_is_a_fault_for_now(data: bytes | None, for_now: bool, tmp_path: Path) -> None:
    """What is in a file stays wrong until the file changes."""
    file = str(tmp_path / "none") if data is None else written(tmp_path, data)
    with pytest.raises(KeyFileError) as raised:
        read_keys(file, [], DEFAULT_IDENTITY)
    assert raised.value.for_now is for_now


def test_file_that_cannot_be_read_is_one_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert faults(str(tmp_path / "none")) == ["this file cannot be read: no such file or directory"]
    assert faults(str(tmp_path / "pipe")) == ["this file cannot be read: not a regular file"]
    monkeypatch.setattr(key_file, "MAX_KEY_FILE_BYTES", 10)
    assert faults(written(tmp_path, entry())) == ["this file has more than 10 bytes"]


@pytest.mark.rule("C109")
def test_a_byte_order_mark_is_forgiven_and_utf_16_is_named(tmp_path: Path) -> None:
    marked = written(tmp_path, b"\xef\xbb\xbf" + json.dumps(entry()).encode())
    assert [key.id for key in read_keys(marked, [], DEFAULT_IDENTITY)] == ["partner"]
    assert faults(written(tmp_path, json.dumps(entry()).encode("utf-16"))) == [
        "is text in UTF-16 or UTF-32: save it as UTF-8"
    ]
