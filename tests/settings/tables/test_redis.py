"""The address of a Redis server: what is taken, and what is said about the rest without repeating it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.settings.tables.redis import Redis, redis_url
from tests.settings.configs import SMALL, faults_of


@pytest.mark.parametrize(
    "url",
    [
        "",
        "redis://localhost",
        "redis://10.0.0.1:6379/0",
        "rediss://user:p%40ss@redis.example.com:6380/15",
        "redis://:hunter2@[::1]:6379/",
        "unix:///run/redis.sock",
        "unix://user:pw@/run/redis.sock",
    ],
)
def test_what_redis_py_reads_is_taken(url: str) -> None:
    assert redis_url(url) == url


FAULTS = {
    "10.0.0.1:6379": "must begin with redis://",
    "http://10.0.0.1": "must begin with redis://, rediss:// (TLS) or unix://",
    "redis://": "is not a URL: its host or port is missing",
    "redis://host:": "is not a URL: its host or port is missing",
    "redis://host:0": "is not a URL: its host or port is missing",
    "redis://host:99999": "is not a URL: its host or port is malformed",
    "redis://[::1": "is not a URL: its host or port is malformed",
    "redis://a_b c": "is not a URL: printable ASCII",
    "redis://hé": "is not a URL: printable ASCII",
    "redis://ho*st": "wildcards are not supported",
    "redis://host/name": "has a path that is not a database number",
    "redis://host/0?socket_timeout=9": "has a query or fragment",
    "redis://:hunter#2@host": "has a query or fragment",
    "unix:relative.sock": "a socket is written unix:///absolute/path",
    "unix://host/run/redis.sock": "a socket is written unix:///absolute/path",
    "unix:///run/": "a socket is written unix:///absolute/path",
}


@pytest.mark.parametrize("url", FAULTS)
def test_other_addresses_are_faults_that_do_not_repeat_them(url: str, tmp_path: Path) -> None:
    (fault,) = faults_of(tmp_path, {**SMALL, "redis": {"url": url}})
    assert fault.startswith(f"redis.url: {FAULTS[url]}")
    assert "hunter" not in fault


def test_a_representation_has_no_address() -> None:
    assert "hunter2" not in repr(Redis(url="redis://:hunter2@host"))


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("redis://:hunter2@10.0.0.1:26379", None),
        ("rediss://sentinel.test", None),
        ("redis://sentinel.test/", None),
        ("", "must begin with redis:// or rediss:// (TLS)"),
        ("unix:///run/redis.sock", "must begin with redis:// or rediss:// (TLS)"),
        ("redis://host/1", "has a path: a Sentinel has no databases"),
        ("http://hunter2", "must begin with redis://"),
    ],
)
def test_a_sentinel_is_a_server_without_databases(url: str, fault: str | None, tmp_path: Path) -> None:
    found = faults_of(tmp_path, {**SMALL, "redis": {"url": "redis://mymaster", "sentinels": [url]}})
    assert len(found) == (fault is not None)
    assert all(line.startswith(f"redis.sentinels[0]: {fault}") and "hunter" not in line for line in found)


def test_a_representation_has_no_sentinel() -> None:
    assert "hunter2" not in repr(Redis(url="redis://a", sentinels=["redis://:hunter2@host"]))
