"""Bound tokens in a configuration: what fits together, and what is doubtful."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from gateway.features.sender_constrained.checks import MAX_NONCE_SECRET, read_nonce_secret
from tests.settings.configs import SMALL, faults_of, warnings_of
from tests.support.tokens.api_keys import entry

REDIS = {"url": "redis://127.0.0.1/0"}
NONE = {"redis": False}


def config(route: dict[str, Any] | None = None, **tables: Any) -> dict[str, Any]:
    made = copy.deepcopy(SMALL)
    made["routes"][0].update(route or {})
    return {**made, **tables, "dpop": {"origins": ["https://api.test"], **tables.get("dpop", {})}}


SOUND = [
    pytest.param(config({"sender_constrained": "required"}), id="required"),
    pytest.param(config(dpop={"nonce_seconds": 60}), id="nonces"),
    pytest.param(
        config(
            {"sender_constrained": "mtls"},
            server={"client_certificate_header": "Client-Cert", "trusted_proxies": ["10.0.0.0/8"]},
        ),
        id="certificates from a proxy",
    ),
    pytest.param(config(server={"workers": 4}), id="many workers, nobody asks for proofs"),
    pytest.param(
        config({"credentials": ["jwt", "api_key"], "sender_constrained": "required"}, api_keys=[entry()]),
        id="bound tokens, or keys",
    ),
    pytest.param(
        config(routes=[*SMALL["routes"], {"path": "/public", "upstream": "orders", "auth": "public"}]), id="public"
    ),
    pytest.param(config(tokens={"replay_size": 5}), id="small memory"),
    pytest.param(
        config(tokens={"replay_size": 5}, redis=REDIS, revocation={"redis": False}), id="small memory beside Redis"
    ),
]

PUBLIC = 'can never apply: with auth = "public" tokens are not looked at'
FAULTS = [
    pytest.param(
        config({"auth": "public", "sender_constrained": "mtls"}), f"routes[0].sender_constrained: {PUBLIC}", id="bound"
    ),
    pytest.param(
        config({"credentials": ["api_key"], "sender_constrained": "dpop"}, api_keys=[entry()]),
        "routes[0].sender_constrained: has no effect: `credentials` has no kind of token",
        id="keys only",
    ),
    pytest.param(
        config(server={"client_certificate_header": "client-cert"}),
        "server.client_certificate_header: has no effect without `trusted_proxies`: the header is ignored",
        id="nobody trusted",
    ),
    *(
        pytest.param(
            config(server={"client_certificate_header": name, "trusted_proxies": ["10.0.0.1"]}),
            "server.client_certificate_header: is an identity header or the field of API keys",
            id=name,
        )
        for name in ("x_user_id", "X-User-Id")
    ),
    pytest.param(
        config(dpop={"nonce_secret_file": "/nowhere"}),
        "dpop.nonce_secret_file: has no effect without `nonce_seconds`",
        id="secret without nonces",
    ),
    pytest.param(
        config(dpop={"nonce_secret_file": "/nowhere", "nonce_seconds": 60}),
        "dpop.nonce_secret_file: cannot be read: No such file or directory",
        id="no secret",
    ),
]


@pytest.mark.parametrize("name", ["authorization", "DPoP", "host", "cookie", "a b", "forwarded", "x-forwarded-for"])
def test_a_field_with_another_meaning_holds_no_certificate(name: str, tmp_path: Path) -> None:
    server = {"client_certificate_header": name, "trusted_proxies": ["10.0.0.1"]}
    (fault,) = faults_of(tmp_path, config(server=server))
    assert fault.startswith("server.client_certificate_header: ")


@pytest.mark.parametrize("made", SOUND)
def test_what_fits_is_no_fault_and_not_doubtful(made: dict[str, Any], tmp_path: Path) -> None:
    assert faults_of(tmp_path, made) == []
    assert warnings_of(tmp_path, made) == []


@pytest.mark.parametrize(("made", "fault"), FAULTS)
@pytest.mark.rule("R244")
def test_what_cannot_apply_is_a_fault(made: dict[str, Any], fault: str, tmp_path: Path) -> None:
    """Each names its key."""
    assert faults_of(tmp_path, made) == [fault]


@pytest.mark.rule("R138")
def test_a_secret_has_a_least_and_a_greatest_length(tmp_path: Path) -> None:
    """It cannot be guessed, and what is read has a bound."""
    file = tmp_path / "secret"
    made = config(dpop={"nonce_secret_file": str(file), "nonce_seconds": 60})
    for size, good in ((0, False), (31, False), (32, True), (MAX_NONCE_SECRET, True), (MAX_NONCE_SECRET + 1, False)):
        file.write_bytes(bytes(size))
        told = [] if good else [f"dpop.nonce_secret_file: needs 32 to {MAX_NONCE_SECRET} bytes"]
        assert faults_of(tmp_path, made) == told
    file.write_bytes(b"s" * 40)
    assert read_nonce_secret(str(file)) == b"s" * 40


@pytest.mark.parametrize(
    ("made", "warning"),
    [
        (
            config({"sender_constrained": "dpop"}, server={"workers": 2}),
            "server.workers: without `redis.url` a DPoP proof can be used once with each worker",
        ),
        (
            config(
                {
                    "sender_constrained": "required",
                    "cors_origins": ["https://a.test"],
                    "cors_headers": ["authorization"],
                }
            ),
            "routes[0].cors_headers: without `dpop` pages cannot send a proof",
        ),
        (
            config({"sender_constrained": "mtls"}),
            "routes[0].sender_constrained: no token can pass: neither `server.tls_client_ca` nor"
            " `server.client_certificate_header` is set",
        ),
    ],
)
def test_what_is_seldom_meant_is_told(made: dict[str, Any], warning: str, tmp_path: Path) -> None:
    assert warnings_of(tmp_path, made) == [warning]
