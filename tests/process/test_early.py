"""What is before all other imports: empty contexts of aiohttp's own and a patient collector; nothing that stays."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.process import early
from gateway.tls_contexts import client_context
from tests.support.certificates import authority

ROOT = Path(__file__).parents[2]


def _printed(program: str, **environment: str) -> list[str]:
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=ROOT,
    )
    return ended.stdout.split()


@pytest.mark.parametrize("entry", ["gateway.cli", "gateway.process.worker"])
def test_what_aiohttp_would_verify_by_trusts_no_authority_and_the_gateway_trusts_the_system(
    entry: str, tmp_path: Path
) -> None:
    """No session uses aiohttp's own contexts; one that did would be refused, not let through."""
    trusted = authority(tmp_path).bundle
    program = f"""
import {entry}
import os
from aiohttp import connector
from gateway.tls_contexts import client_context
print(connector._SSL_CONTEXT_VERIFIED.verify_mode.name, len(connector._SSL_CONTEXT_VERIFIED.get_ca_certs()))
print(len(client_context().get_ca_certs()), os.environ["SSL_CERT_FILE"], os.environ.get("SSL_CERT_DIR"))
"""
    assert _printed(program, SSL_CERT_FILE=str(trusted)) == [
        *("CERT_REQUIRED", "0", "1", str(trusted)),
        str(os.environ.get("SSL_CERT_DIR")),
    ]


def test_a_process_of_the_gateway_begins_with_a_patient_collector() -> None:
    assert _printed("import gateway.cli, gc; print(gc.isenabled(), *gc.get_threshold())")[:2] == [
        "True",
        str(early.OBJECTS_BEFORE_A_LOOK),
    ]


def test_authorities_are_back_whatever_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trusted = authority(tmp_path).bundle
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    found = []

    def fail() -> None:
        with early.without_authorities():
            found.append(ssl.create_default_context().get_ca_certs())
            raise OSError("meanwhile")

    with pytest.raises(OSError, match="meanwhile"):
        fail()
    assert found == [[]]
    assert (os.environ["SSL_CERT_FILE"], os.environ.get("SSL_CERT_DIR")) == (str(trusted), None)
    assert len(client_context().get_ca_certs()) == 1
