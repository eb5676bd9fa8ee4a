"""Introspection answers that gateways and workers share in Redis, through aiocache.

Shares answers; each gateway that reads one judges anew what it means. There are four dangers:

- Redis is unavailable, slow or answers nonsense: so every exchange is bounded, and its failure is a miss;
- another program can write there: so an answer is sealed for one token, with a key that only gateways with the
  client's own secret have, and one that does not open is a miss;
- other programs can read there: so keys are hashes, and claims are sealed;
- clocks differ: so the age of an answer is judged by the clock of Redis alone, and is sealed with it.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any, NamedTuple

from aiocache import RedisCache
from aiocache.serializers import NullSerializer
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.features.introspection.options import IssuerOptions
from gateway.jwt.jose.strict_json import StrictJsonError, parse_object
from gateway.settings.client_credentials import ClientKey
from gateway.settings.tables.issuers import Issuer
from gateway.settings.tables.redis import Redis
from gateway.store import names
from gateway.store.redis_link import RedisLink

#: Bytes of the random number in front of a sealed answer (NIST SP 800-38D section 8.2.2).
_NONCE = 12

#: Answers with a shorter life are not worth an exchange, and Redis has no time under a millisecond.
_MIN_TTL_SECONDS = 0.01


class Shared(NamedTuple):
    """An answer that some gateway got.

    Attributes:
        answer: its members.
        seconds: how long it may still be used, by the configuration of the gateway that got it.
        age: seconds since then.
    """

    answer: dict[str, Any]
    seconds: float
    age: float


class _LinkedCache(RedisCache):  # type: ignore[misc]  # aiocache has no types
    """aiocache over the connections of the link, which bounds and watches them."""

    def __init__(self, link: RedisLink, timeout: float) -> None:
        super().__init__(serializer=NullSerializer(encoding=None), timeout=timeout)
        self.client = link.client


class SharedAnswers:
    """The answers about one issuer's tokens.

    Args:
        link: the way to Redis.
        settings: the table ``[redis]``.
        issuer: the issuer of the tokens.

    Attributes:
        hits: look-ups that found an answer.
        misses: look-ups that found no answer, or one that does not open.
        failures: exchanges that Redis did not complete, look-ups or not.
    """

    def __init__(self, link: RedisLink, settings: Redis, issuer: Issuer) -> None:
        self.hits = 0
        self.misses = 0
        self.failures = 0
        self._link = link
        self._cache = _LinkedCache(link, settings.timeout_seconds)
        options = IssuerOptions.of(issuer)
        whose = hashlib.sha256(f"{options.introspection_url}\0{options.introspection_client_id}".encode()).hexdigest()
        self._prefix = names.introspection_prefix(whose[:16])
        self._sealed_with: str | ClientKey | None = None
        self._seal: AESGCM | None = None

    async def find(self, digest: bytes, credential: str | ClientKey) -> Shared | None:
        """Return the answer about the token with this SHA-256, if it may still be used.

        Args:
            credential: the client's own.
        """
        if not self._link.available:
            return None
        key = self._key(digest)
        try:
            value = await self._cache.get(key)
        except Exception:
            # Redis is unavailable or slow, or its answer makes no sense: in all cases the issuer is asked.
            self.failures += 1
            return None
        if value is not None and type(value) is not bytes:
            self.failures += 1
            return None
        found = None if value is None else self._opened(value, key, credential)
        if found is None:
            self.misses += 1
        else:
            self.hits += 1
        return found

    async def put(self, digest: bytes, credential: str | ClientKey, answer: dict[str, Any], seconds: float) -> None:
        """Share an answer for so many seconds. When Redis does not take it, nothing is raised."""
        now = self._link.time.not_after
        if not self._link.available or now is None or seconds < _MIN_TTL_SECONDS:
            return
        key = self._key(digest)
        text = json.dumps({"at": now, "until": now + seconds, "answer": answer}).encode()
        nonce = os.urandom(_NONCE)
        value = nonce + self._sealing(credential).encrypt(nonce, text, key.encode())
        try:
            await self._cache.set(key, value, ttl=float(seconds))
        except Exception:
            self.failures += 1

    def _opened(self, value: bytes, key: str, credential: str | ClientKey) -> Shared | None:
        try:
            text = self._sealing(credential).decrypt(value[:_NONCE], value[_NONCE:], key.encode())
            members = parse_object(text)
        except (InvalidTag, ValueError, StrictJsonError):
            return None
        answer, at, until = (members.get(name) for name in ("answer", "at", "until"))
        now = self._link.time.not_before
        if not isinstance(answer, dict) or not isinstance(at, float) or not isinstance(until, float) or now is None:
            return None
        # An answer from the future was sealed by another clock: that of a server that was replaced.
        return Shared(answer, until - now, now - at) if at <= now < until else None

    def _key(self, digest: bytes) -> str:
        return self._prefix + digest.hex()

    def _sealing(self, credential: str | ClientKey) -> AESGCM:
        if self._seal is None or credential is not self._sealed_with:
            secret = credential.encode() if isinstance(credential, str) else credential.key.as_der(private=True)
            made = HKDF(SHA256(), 32, None, b"gateway introspection answers " + self._prefix.encode()).derive(secret)
            self._seal, self._sealed_with = AESGCM(made), credential
        return self._seal
