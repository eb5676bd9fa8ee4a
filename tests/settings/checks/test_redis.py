"""Options of ``[redis]`` that fit together, and those that would have no effect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.settings.configs import SMALL, faults_of
from tests.support.certificates import authority

TLS = "rediss://redis.test"


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({}, None),
        ({"url": "redis://a", "timeout_seconds": 0.5}, None),
        ({"timeout_seconds": 0.5}, "redis.timeout_seconds: has no effect without `url`"),
        ({"tls_ca_file": "ca.pem"}, "redis.tls_ca_file: has no effect without `url`"),
        ({"url": "redis://a", "tls_ca_file": "ca.pem"}, "redis.tls_ca_file: has no effect: the `url` is not rediss://"),
        ({"url": TLS, "tls_ca_file": "/nowhere/ca.pem"}, "redis.tls_ca_file: "),
        ({"sentinels": ["redis://a"]}, "redis.sentinels: has no effect without `url`"),
        ({"url": "redis://mymaster/0", "sentinels": ["redis://a:26379", "redis://:pw@b"]}, None),
        ({"url": "redis://mymaster:6379", "sentinels": ["redis://a"]}, "redis.url: with `sentinels` its host is the"),
        ({"url": "unix:///run/redis", "sentinels": ["redis://a"]}, "redis.url: with `sentinels` its host is the name"),
        ({"url": TLS, "tls_client_cert": "a.pem"}, "redis.tls_client_key: is required with `tls_client_cert`"),
        ({"url": TLS, "tls_client_key": "a.pem"}, "redis.tls_client_cert: is required with `tls_client_key`"),
        (
            {"url": TLS, "tls_client_cert": "/nowhere/a", "tls_client_key": "/nowhere/a"},
            "redis.tls_client_cert: this file cannot be read",
        ),
        (
            {"url": "redis://a", "tls_client_cert": "a", "tls_client_key": ""},
            "redis.tls_client_cert: has no effect: the `url` is not rediss://",
        ),
        ({"url": "x", "tls_ca_file": "ca.pem"}, "redis.url: must begin with"),
    ],
)
def test_options_without_effect_are_faults(options: dict[str, Any], fault: str | None, tmp_path: Path) -> None:
    found = faults_of(tmp_path, {**SMALL, "redis": options})
    assert len(found) == (fault is not None)
    assert all(line.startswith(fault or "") for line in found)


def test_authorities_that_can_be_read_are_taken(tmp_path: Path) -> None:
    bundle = authority(tmp_path / "ca").bundle
    assert faults_of(tmp_path, {**SMALL, "redis": {"url": TLS, "tls_ca_file": str(bundle)}}) == []
