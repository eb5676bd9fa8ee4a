"""The OpenID-certified ``oidc-provider`` (npm) as the issuer: ``server.mjs``, started and asked for tokens.

Its packages are installed by ``scripts/test`` (``npm ci``). Where Node.js or
they are missing, its tests skip and say so; under CI=true they fail.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
from joserfc.jwk import RSAKey

from tests.conftest import require
from tests.peers.process import Process
from tests.peers.programs import program
from tests.support.certificates import Certificate

_HERE = Path(__file__).parent
CLIENT_ID = "shop"
CLIENT_SECRET = "loopback-only"


def require_oidc_provider() -> None:
    """Skip the calling test where the provider cannot run; under CI=true fail it."""
    program("node")
    here = (_HERE / "node_modules" / "oidc-provider").is_dir()
    require(here, "oidc-provider is missing: scripts/test installs it where Node.js 20 or newer and npm are")


def signing_key() -> dict[str, Any]:
    """Return a new private RS256 key as a JWK, its ``kid`` being its thumbprint (RFC 7638)."""
    key = RSAKey.generate_key(2048)
    return {**key.as_dict(private=True), "kid": key.thumbprint(), "use": "sig", "alg": "RS256"}


class OidcProvider(Process):
    """One provider on a loopback port that it keeps over restarts, so that its issuer stays.

    Args:
        folder: where its key file and log go.
        resources: resource indicator, which becomes ``aud`` -> the scopes that it knows.
        keys: private JWKs; the first one signs, all are published.
        tls: its certificate, and the bundle of those whose clients' certificates it binds tokens to.
        opaque: the resources whose tokens are opaque.
        clients: metadata of clients besides the one that gets tokens.
    """

    def __init__(
        self,
        folder: Path,
        resources: Mapping[str, str],
        keys: Sequence[Mapping[str, Any]],
        tls: tuple[Certificate, Path] | None = None,
        *,
        opaque: Sequence[str] = (),
        clients: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.issuer = ""
        self.keys = list(keys)
        self._key_file = folder / "signing-keys.json"
        environment = {
            "JWKS_FILE": str(self._key_file),
            "RESOURCES": json.dumps(dict(resources)),
            "CLIENT_ID": CLIENT_ID,
            "CLIENT_SECRET": CLIENT_SECRET,
            "OPAQUE": json.dumps(list(opaque)),
            "CLIENTS": json.dumps(list(clients)),
        }
        if tls is not None:
            files = {"TLS_CERT": tls[0].cert, "TLS_KEY": tls[0].key, "TLS_CLIENT_CA": tls[1]}
            environment |= {name: str(file) for name, file in files.items()}
        super().__init__(["node", _HERE / "server.mjs"], folder / "oidc-provider.log", environment)

    async def start(self) -> None:
        self._key_file.write_text(json.dumps({"keys": self.keys}))
        await super().start()
        await self.wait_until(lambda: "listening " in self.output())
        issuer = next(line for line in self.output().splitlines() if line.startswith("listening ")).split()[1]
        self.issuer = issuer
        self.environment["PORT"] = issuer.rpartition(":")[2]

    async def restart(self, keys: Sequence[Mapping[str, Any]]) -> None:
        """Stop it and start it anew with other keys."""
        await self.stop()
        self.keys = list(keys)
        await self.start()

    async def token(self, session: aiohttp.ClientSession, resource: str, scope: str, **options: Any) -> str:
        """Return an access token by client credentials (RFC 6749 section 4.4) for one resource (RFC 8707).

        Args:
            options: those of ``ask``.
        """
        status, _, body = await self.ask(session, resource, scope, **options)
        assert status == 200, body
        token: str = body["access_token"]
        return token

    async def ask(
        self,
        session: aiohttp.ClientSession,
        resource: str,
        scope: str,
        *,
        client_id: str = CLIENT_ID,
        proof: bytes = b"",
        tls: ssl.SSLContext | bool = True,
    ) -> tuple[int, str, dict[str, Any]]:
        """Ask for a token; return the status, the nonce for the next proof, and the answer.

        Args:
            proof: a DPoP proof.
            tls: for https, with the client's certificate.
        """
        form = {"grant_type": "client_credentials", "resource": resource, "scope": scope}
        fields = {"Authorization": aiohttp.encode_basic_auth(client_id, CLIENT_SECRET)}
        if proof:
            fields["DPoP"] = proof.decode("ascii")
        async with session.post(f"{self.issuer}/token", data=form, headers=fields, ssl=tls) as answer:
            return answer.status, answer.headers.get("DPoP-Nonce", ""), await answer.json()

    async def revoke(self, session: aiohttp.ClientSession, token: str) -> None:
        """Revoke a token that ``token`` returned (RFC 7009)."""
        form = {"token": token, "token_type_hint": "access_token"}
        headers = {"Authorization": aiohttp.encode_basic_auth(CLIENT_ID, CLIENT_SECRET)}
        async with session.post(f"{self.issuer}/token/revocation", data=form, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
