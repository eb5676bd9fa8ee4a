"""From an API key to an identity: the keys in force, the file that some of them come from, and making a new one.

Holds the set of keys. Of a key only its SHA-256 is known. The dangers: a
changed file that is half written or wrong (so it is taken once it no longer
changes, and whole or not at all), a file that was never read (so a key that may
be in it gets 503, not 401), and a key in a log (so no part of one is ever put
into a text). The set is replaced by one assignment: readers see the old one or
the new one.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
from collections.abc import Iterable
from hashlib import sha256
from typing import Any, NamedTuple

from gateway.clock import Clock
from gateway.errors import GatewayError, Reason
from gateway.features.api_keys.key_file import KeyFileError, read_keys
from gateway.features.api_keys.options import ApiKey, ApiKeyTables, TokensOptions, claims_of
from gateway.features.api_keys.reasons import API_KEY_TOO_LONG, EXPIRED_API_KEY, NO_API_KEYS, UNKNOWN_API_KEY
from gateway.identity import Identity, header_rules
from gateway.jwt.claims.issuer_policy import IssuerPolicy, kept_claims
from gateway.jwt.claims.rules import make_identity
from gateway.jwt.jose.compact import Unverified, unforeseen
from gateway.settings.tables.root import Settings
from gateway.tasks import Periodic
from gateway.watched_file import WatchedFile

_log = logging.getLogger("gateway.api_keys")

#: Seconds between two checks whether the file has changed.
KEY_FILE_LOOK_SECONDS = 1.0

#: How many checks a file that keeps changing is waited for.
_MAX_WAITS = 5

#: What keys made here begin with, before their id: scanners for leaked secrets find them by this.
API_KEY_PREFIX = "gwk"
_NEW_KEY = f"{API_KEY_PREFIX}_".encode()


class KnownKey(NamedTuple):
    """A key in force.

    Attributes:
        digest: its SHA-256.
        identity: the identity of its callers, with the end of the key.
    """

    digest: bytes
    identity: Identity


class _Fault(NamedTuple):
    """What is wrong with the file.

    Attributes:
        text: for people.
        for_now: the file was not read at all: that may change while it stays as it is.
    """

    text: str
    for_now: bool


class ApiKeys:
    """The keys in force under one configuration.

    Args:
        settings: the whole configuration; its file is read at once.
        clock: the time.

    Attributes:
        file: the file of keys; empty for none.
        lookups: how many keys were looked up.
        reload_failures: how many versions of the file could not be used.
        last_error: what is wrong with the file as it is now; empty when it is in force.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.file = TokensOptions.of(settings.tokens).api_keys_file
        self.lookups = 0
        self.reload_failures = 0
        self.last_error = ""
        self._given = ApiKeyTables.of(settings).api_keys
        self._identity_headers = settings.identity
        self._max_bytes = settings.tokens.max_bytes
        self._policy = _policy(settings)
        self._wall = clock.wall
        self._known = self._compile(self._given)
        self._complete = not self.file
        self._changes = WatchedFile(self.file, max_waits=_MAX_WAITS)
        self._watching = Periodic("API key file", self._look, clock, KEY_FILE_LOOK_SECONDS, on_failure=self._not_read)
        if self.file:
            self._changes.take()
            self._accept(self._read())

    def __len__(self) -> int:
        return len(self._known)

    # --- for requests ---

    def identify(self, key: bytes) -> Identity:
        """Return the identity of the caller that presents this key.

        Raises:
            GatewayError: the refusal; ``NO_API_KEYS`` for an unknown key while the file was never read. No other
                exception.
        """
        self.lookups += 1
        try:
            return self._find(key).identity
        except GatewayError:
            raise
        except Exception as error:
            raise unforeseen(error) from None

    def owns(self, token: bytes) -> bool:
        """Return whether a bearer token is in fact an API key, in force or expired, which no other server may see.

        While the file was never read, everything that looks like a key made by ``new_key`` counts as one.
        """
        return sha256(token).digest() in self._known or (not self._complete and token.startswith(_NEW_KEY))

    def find(self, key: bytes) -> KnownKey:
        """Return a key in force; see ``still_good``.

        Raises:
            GatewayError: there is no such key.
        """
        return self._find(key)

    def still_good(self, held: KnownKey) -> Reason | None:
        """Return why a key that was good no longer is: expired, withdrawn, other rights; None while it is good."""
        found = self._known.get(held.digest)
        if found is None:
            return UNKNOWN_API_KEY
        if self._expired(found):
            return EXPIRED_API_KEY
        return None if _rights(found) == _rights(held) else UNKNOWN_API_KEY

    def _find(self, key: bytes) -> KnownKey:
        if len(key) > self._max_bytes:
            raise GatewayError(API_KEY_TOO_LONG, detail=f"more than {self._max_bytes} bytes")
        digest = sha256(key).digest()
        found = self._known.get(digest)
        if found is None or not hmac.compare_digest(found.digest, digest):
            raise GatewayError(UNKNOWN_API_KEY if self._complete else NO_API_KEYS)
        if self._expired(found):
            raise GatewayError(EXPIRED_API_KEY)
        return found

    def _expired(self, key: KnownKey) -> bool:
        return self._wall() >= key.identity.expires_at

    # --- the file ---

    def start(self) -> None:
        """Keep up with the file from now on in the background, if there is one."""
        if self.file:
            self._watching.start()

    async def stop(self) -> None:
        """Stop keeping up."""
        await self._watching.stop()

    async def _look(self) -> None:
        if self._changes.look():
            self._accept(await asyncio.to_thread(self._read))

    def _not_read(self, error: BaseException) -> None:
        self._accept(_Fault(f"internal: {type(error).__name__}", for_now=True))

    def _read(self) -> dict[bytes, KnownKey] | _Fault:
        """Return the keys of the configuration and the file, or what is wrong with the file."""
        try:
            return self._compile([*self._given, *read_keys(self.file, self._given, self._identity_headers)])
        except KeyFileError as error:
            return _Fault(str(error), for_now=error.for_now)
        except Exception as error:
            # Every exception that a file causes (MemoryError, a fault of a library) means that it cannot be used.
            return _Fault(f"internal: {type(error).__name__}", for_now=True)

    def _accept(self, found: dict[bytes, KnownKey] | _Fault) -> None:
        if isinstance(found, _Fault):
            if found.for_now:
                self._changes.forget()
                if found.text == self.last_error:
                    return  # the same fault of the same file, found again
            self.reload_failures += 1
            self.last_error = found.text
            _log.warning(
                "API key file %s cannot be used: %s; the keys loaded before stay in force", self.file, found.text
            )
            return
        if self._complete:
            _log.info("API key file %s reloaded: %d keys", self.file, len(found))
        self._known, self._complete, self.last_error = found, True, ""

    def _compile(self, entries: Iterable[ApiKey]) -> dict[bytes, KnownKey]:
        return {key.digest: key for key in (_known(entry, self._policy) for entry in entries)}

    def status(self) -> dict[str, Any]:
        """Return what ``/status`` shows of the keys."""
        return {
            "keys": len(self._known),
            "file": self.file,
            "complete": self._complete,
            "last_error": self.last_error,
            "reload_failures": self.reload_failures,
        }


def new_key(name: str) -> str:
    """Return a new key with 256 random bits; ``name`` is what its entry is called."""
    return f"{API_KEY_PREFIX}_{name}_{secrets.token_bytes(32).hex()}"


def hash_of(key: str) -> str:
    """Return a key's stored form."""
    return "sha256:" + sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def _known(entry: ApiKey, policy: IssuerPolicy) -> KnownKey:
    """Make a key's identity as that of a token with the same claims; entries that cannot have one were refused."""
    claims = claims_of(entry)
    stands_for = Unverified("", None, None, claims, None, b"", b"")
    identity = make_identity(stands_for, policy, "api_key", has_issuer=False)
    return KnownKey(bytes.fromhex(entry.hash.removeprefix("sha256:")), identity)


def _policy(settings: Settings) -> IssuerPolicy:
    """Return how claims become an identity: as every issuer's do, but without a name, and with scopes in one claim."""
    return IssuerPolicy(
        name="",
        issuers=frozenset(),
        audience=frozenset(),
        audience_claim="aud",
        algorithms=frozenset(),
        access_token_type=False,
        required_claims=(),
        exact_claims=(),
        leeway=0.0,
        max_lifetime=0.0,
        scope_claims=("scope",),
        header_rules=header_rules(settings.identity),
        kept_claims=kept_claims(settings),
    )


def _rights(key: KnownKey) -> tuple[Any, ...]:
    identity = key.identity
    return identity.subject, identity.scopes, dict(identity.claims)
