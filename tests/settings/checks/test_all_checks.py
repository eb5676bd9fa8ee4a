"""Checks look only at options that are sound."""

from __future__ import annotations

from pathlib import Path

from tests.settings.configs import changed, faults_of


def test_a_faulty_option_causes_no_second_fault_elsewhere(tmp_path: Path) -> None:
    """An issuer without a sound name is not also "unknown issuer"; `auth = "requird"` is not also observed."""
    config = changed("routes", auth="requird", observe=True, issuers=["b b"], path=5)
    config["routes"].append({"path": "/orders", "upstream": "orders"})
    config["issuers"][0].update(name="b b", jwks_url="ftp://x", jwks_file="keys.json", issuer=["x"])
    config["server"] = {"listen": "nowhere", "admin_listen": "0.0.0.0:8080", "tls_cert": 1, "tls_key": "x"}
    assert [line.partition(":")[0] for line in faults_of(tmp_path, config)] == [
        "server.listen",
        "server.tls_cert",
        "issuers[0].name",
        "issuers[0].jwks_url",
        "routes[0].path",
        "routes[0].auth",
    ]
