"""Revocation in a configuration: what of table, Redis and routes fits together."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from gateway.features.revocation.checks import read_admin_token
from tests.settings.configs import SMALL, faults_of, warnings_of

FILE = {"revocation": {"file": "/nowhere/revoked.jsonl"}}
REDIS = {"redis": {"url": "redis://redis.test"}}
NOWHERE = "has no effect: neither `revocation.file` nor `redis.url` says what is revoked"


def config(route: dict[str, Any] | None = None, **tables: Any) -> dict[str, Any]:
    made = copy.deepcopy(SMALL)
    made["routes"][0].update(route or {})
    return {**made, **tables}


@pytest.mark.parametrize(
    ("made", "fault"),
    [
        (config(), None),
        (config(**FILE), None),
        (config({"revocation_failure": "open"}, **REDIS), None),
        (config({"revocation_failure": "open"}, **FILE), None),
        (config({"revocation_failure": "open"}), f"routes[0].revocation_failure: {NOWHERE}"),
        (config({"revocation_failure": "ajar"}), 'routes[0].revocation_failure: must be "closed" or "open"'),
        (
            config({"revocation_failure": "open", "auth": "public"}, **REDIS),
            'routes[0].revocation_failure: can never apply: with auth = "public"',
        ),
        (
            config({"revocation_failure": "open"}, **REDIS, revocation={"redis": False}),
            f"routes[0].revocation_failure: {NOWHERE}",
        ),
        (config(revocation={"redis": False}), "revocation.redis: has no effect without `redis.url`"),
        (config(revocation={"admin_token_file": "x"}), f"revocation.admin_token_file: {NOWHERE}"),
        (
            config(**REDIS, revocation={"admin_token_file": "/nowhere/secret"}),
            "revocation.admin_token_file: this file cannot be read",
        ),
        (config(redis={"url": "x"}, revocation={"admin_token_file": "x"}), "redis.url: must begin with"),
    ],
)
def test_what_cannot_apply_is_a_fault(made: dict[str, Any], fault: str | None, tmp_path: Path) -> None:
    found = faults_of(tmp_path, made)
    assert len(found) == (fault is not None)
    assert all(line.startswith(fault or "") for line in found)


@pytest.mark.parametrize(
    "secret", [b"", b"short", b"x" * 15, b"with a space in it..", b"\xff" * 20, b"tab\tin-the-secret"]
)
def test_a_weak_secret_is_a_fault(secret: bytes, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(secret)
    (fault,) = faults_of(tmp_path, config(**REDIS, revocation={"admin_token_file": str(file)}))
    assert fault == (
        "revocation.admin_token_file: this file must hold a secret of at least 16 printable characters without spaces"
    )


def test_a_secret_is_taken_without_the_space_around_it(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"  0123456789abcdef\r\n")
    assert read_admin_token(str(file)) == b"0123456789abcdef"
    assert faults_of(tmp_path, config(**REDIS, revocation={"admin_token_file": str(file)})) == []


def test_what_is_seldom_meant_is_a_warning(tmp_path: Path) -> None:
    (warning,) = warnings_of(tmp_path, config(**FILE))
    assert warning.startswith("revocation.file: this file cannot be read: no such file or directory; until it can, ")
    public = config({"auth": "public"}, **REDIS)
    assert "revocation: no route looks at credentials" in warnings_of(tmp_path, public)
