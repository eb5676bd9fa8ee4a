"""benchmarks/prove.py: a gateway that does less work than its peers is not measured."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote_to_bytes

import jwt
import pytest

from benchmarks.drive import Target
from benchmarks.peers.base import fill
from benchmarks.prove import ProofError, prove
from benchmarks.tokens import AUDIENCE, ISSUER, Material, material
from tests.benchmarks.service import REFUSED, Answers, service


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return material("ES256", tmp_path_factory.mktemp("cache"))


def gateway(keys: Material, *, forgets: str = "") -> Answers:
    """Return a gateway and the service behind it in one, which forgets one of its duties."""
    options = {
        "verify_aud": forgets != "another audience",
        "verify_iss": forgets != "another issuer",
        "verify_exp": forgets != "expired",
        "verify_signature": forgets != "a bad signature",
    }

    def answer(request: bytes) -> list[bytes]:
        lines = dict(line.lower().split(": ", 1)[:1] + line.split(": ", 1)[1:] for line in _lines(request))
        bearer = lines.get("authorization", "")
        if not bearer:
            return [_answer("") if forgets == "no token" else REFUSED]
        try:
            claims = jwt.decode(
                bearer[7:],
                keys.pem.read_bytes(),
                algorithms=["ES256"],
                audience=AUDIENCE,
                issuer=ISSUER,
                options=options,  # type: ignore[arg-type]
            )
        except jwt.PyJWTError:
            return [REFUSED]
        user = lines["x-user-id"] if forgets == "the identity" else claims["sub"]
        rest = bearer if forgets == "to remove the token" else ""
        return [_answer(f"{user}|{claims['role']}|{claims['scope']}|{rest}")]

    return answer


def _lines(request: bytes) -> list[str]:
    return [line for line in unquote_to_bytes(request).decode().split("\r\n") if ": " in line]


def _answer(body: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def test_the_whole_work_passes(keys: Material) -> None:
    with service(gateway(keys)) as port:
        prove("peer", Target(port), keys)


@pytest.mark.parametrize(
    "duty",
    [
        "no token",
        "another issuer",
        "another audience",
        "expired",
        "a bad signature",
        "the identity",
        "to remove the token",
    ],
)
def test_every_forgotten_duty_is_found(keys: Material, duty: str) -> None:
    said = duty if duty.startswith(("no", "another", "expired", "a bad")) else "identity"
    with service(gateway(keys, forgets=duty)) as port, pytest.raises(ProofError, match=f"peer: .*{said}"):
        prove("peer", Target(port), keys)


def test_a_proxy_without_authentication_sets_fixed_headers(keys: Material) -> None:
    with service(lambda _: [_answer("nobody|none|none|")]) as port:
        prove("peer", Target(port), keys, checks_tokens=False)
        with pytest.raises(ProofError):
            prove("peer", Target(port), keys)


def test_the_templates_have_a_value_for_each_name(tmp_path: Path) -> None:
    """A forgotten one would be a configuration with a hole."""
    with pytest.raises(KeyError):
        fill("haproxy.cfg", tmp_path)
