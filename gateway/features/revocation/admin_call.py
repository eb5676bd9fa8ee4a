"""The one call of the admin port that changes something: ``POST /revoke``.

Authenticates the call, reads it and answers it; the writing is
``features/revocation/writer.py``'s. The danger is an attacker who locks callers
out: so without a configured secret there is no such call, and the secret is
compared in constant time.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from hashlib import sha256
from typing import Any

import orjson
from aiohttp import web

from gateway.clock import Clock
from gateway.features.revocation.checks import read_admin_token
from gateway.features.revocation.options import RevocationTables
from gateway.features.revocation.writer import RevocationWriter, Take
from gateway.jwt.revocations.entry import RevocationEntry
from gateway.settings.tables.root import Settings
from gateway.store.redis_link import StoreUnavailableError

_log = logging.getLogger("gateway.revocation")

#: The maximum number of revocations in one call.
MAX_ENTRIES = 1000


class _RefusedError(Exception):
    def __init__(self, status: int, error: str, text: str) -> None:
        super().__init__(text)
        self.status, self.error, self.text = status, error, text


def revoke_call(settings: Settings, clock: Clock, take: Take) -> list[web.RouteDef]:
    """Return the call, for the pages of the admin port; nothing where no secret is configured.

    Args:
        settings: the whole configuration.
        clock: the time.
        take: gives the records that were written to Redis to all workers of this gateway, which then keep them even if
            Redis loses them.
    """
    file = RevocationTables.of(settings).revocation.admin_token_file
    if not file:
        return []
    writer = RevocationWriter(settings, clock, take)

    async def revoke(request: web.Request) -> web.Response:
        try:
            await _demand_secret(request, file)
            revocations = _revocations(await request.read(), writer)
            await _write(writer, revocations)
        except _RefusedError as error:
            body: dict[str, Any] = {"error": error.error, "error_description": error.text}
            return _answer(error.status, body)
        _log.info("wrote %d revocations to %s", len(revocations), writer.store)
        return _answer(200, {"revoked": len(revocations), "store": writer.store})

    return [web.post("/revoke", revoke)]


async def _demand_secret(request: web.Request, file: str) -> None:
    given = request.headers.getall("Authorization", [])
    scheme, _, shown = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    try:
        secret = await asyncio.to_thread(read_admin_token, file)
    except ValueError as error:
        _log.error("POST /revoke is disabled: revocation.admin_token_file: %s", error)
        raise _RefusedError(503, "unavailable", "The admin token file cannot be read; nothing was revoked.") from None
    # Digests are compared, so that not even the length is disclosed.
    same = hmac.compare_digest(sha256(shown.encode("utf-8", "surrogateescape")).digest(), sha256(secret).digest())
    if scheme.lower() != "bearer" or not same:
        raise _RefusedError(401, "invalid_token", "The secret of revocation.admin_token_file is required.")


def _revocations(body: bytes, writer: RevocationWriter) -> list[RevocationEntry]:
    """Read one entry a line, as the file has them."""
    lines = [line for line in body.split(b"\n") if line.strip()]
    if not 1 <= len(lines) <= MAX_ENTRIES:
        raise _RefusedError(
            400, "invalid_request", f"The content must be 1 to {MAX_ENTRIES} JSON objects, one per line."
        )
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(writer.read(line))
        except ValueError as error:
            raise _RefusedError(400, "invalid_request", f"Object {number} {error}.") from None
    return found


async def _write(writer: RevocationWriter, revocations: list[RevocationEntry]) -> None:
    try:
        await writer.write(revocations)
    except StoreUnavailableError as error:
        _log.error("nothing was revoked: %s", error)
        raise _RefusedError(
            503, "unavailable", "Redis is unavailable; some entries may not have been revoked."
        ) from None
    except OSError as error:
        _log.error("nothing was revoked: the file cannot be written: %s", error.strerror)
        raise _RefusedError(503, "unavailable", "The file cannot be written: nothing was revoked.") from None


def _answer(status: int, body: dict[str, Any]) -> web.Response:
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="gateway admin"'
    if status == 503:
        headers["Retry-After"] = "1"
    return web.Response(status=status, body=orjson.dumps(body), headers=headers)
