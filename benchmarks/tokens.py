"""Keys and tokens of the benchmark: made once, kept in files, good and bad ones.

Signing is slow, and a run must not wait for it twice: what is made here stays
in ``benchmarks/.cache`` until its tokens near their expiry. The keys there are
good for nothing else.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from tests.support.tokens.minting import PrivateKey, SigningKey, jwks, mint_raw

CACHE = Path(__file__).with_name(".cache")
ISSUER, AUDIENCE = "https://idp.test/", "api"
ROLE, SCOPE = "merchant", "read write"
KEY_ID = "bench-1"

#: Seconds that a token lives, and that it must still live when a run starts. A gateway refuses longer ones by default.
LIFE, LEFT = 86_000, 7_200


@dataclass(frozen=True)
class Material:
    """Everything of one algorithm, in files.

    Attributes:
        jwks: the public key as a JWK Set.
        pem: the public key as PEM.
        key: the private key.
    """

    algorithm: str
    folder: Path
    jwks: Path
    pem: Path
    key: SigningKey

    def pool(self, size: int) -> Path:
        """Return a file of at least ``size`` different good tokens, one a line; it is made when it is missing."""
        # Another scope, another file: what an earlier version of the suite left is not taken for this one's.
        file = self.folder / f"tokens-{SCOPE.replace(' ', '-')}.txt"
        if file.exists() and file.stat().st_mtime + LIFE - LEFT > time.time():
            with file.open("rb") as lines:
                if sum(1 for _ in lines) >= size:
                    return file
        print(f"minting {size:,} {self.algorithm} tokens (kept for a day)", file=sys.stderr, flush=True)
        unfinished = file.with_suffix(".part")
        with unfinished.open("wb") as lines:
            lines.writelines(token + b"\n" for token in self.mint(size))
        unfinished.replace(file)
        return file

    def mint(self, count: int) -> Iterator[bytes]:
        """Yield good tokens of as many users."""
        for number in range(count):
            yield self.token(sub=f"user-{number:07}", jti=f"0b6f4f0c-7a55-4e0c-9c0a-{number:012}")

    def token(self, **overrides: Any) -> bytes:
        """Return one token such as identity providers issue: compact JSON, a dozen claims; good unless overridden."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": "user-0000000",
            "aud": AUDIENCE,
            "exp": now + LIFE,
            "iat": now,
            "jti": "0b6f4f0c-7a55-4e0c-9c0a-6f9a3f0c8a11",
            "client_id": "shop",
            "role": ROLE,
            "scope": SCOPE,
        }
        header = {"alg": self.algorithm, "typ": "at+jwt", "kid": KEY_ID}
        return mint_raw(self.key, _compact(header), _compact({**claims, **overrides}), self.algorithm)

    def forged(self) -> tuple[bytes, bytes]:
        """Return what stands before and after eight digits of a wrong signature: any eight make another bad token."""
        body, _, signature = self.token().rpartition(b".")
        return body + b"." + signature[:20], signature[28:]


def material(algorithm: str, cache: Path = CACHE) -> Material:
    """Return the key files of an algorithm (RS256 or ES256), made when they are missing."""
    folder = cache / algorithm
    folder.mkdir(parents=True, exist_ok=True)
    (cache / ".gitignore").write_text("*\n")
    private = folder / "private.pem"
    if not private.exists():
        made = (SigningKey.rsa if algorithm == "RS256" else SigningKey.ec)(KEY_ID).private
        assert not isinstance(made, bytes)
        private.touch(0o600)
        private.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        for pool in folder.glob("tokens*.txt"):
            pool.unlink()
    key = SigningKey(KEY_ID, _load(private), algorithm)
    found = Material(algorithm, folder, folder / "jwks.json", folder / "public.pem", key)
    found.jwks.write_bytes(jwks(key.public_jwk(alg=algorithm, use="sig")))
    found.pem.write_bytes(key.public_bytes())
    return found


def _load(file: Path) -> PrivateKey:
    key = load_pem_private_key(file.read_bytes(), None)
    assert isinstance(key, PrivateKey)
    return key


def _compact(members: dict[str, Any]) -> bytes:
    return json.dumps(members, separators=(",", ":")).encode()
