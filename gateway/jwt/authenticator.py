"""From a bearer token to an identity: the cache, and on a miss every check in order.

Runs the steps in order; what each step checks is in the file named after it.
The dangers: a check that is skipped on some path (so there is one path, and a
cache hit looks again at everything that can change), and an error that lets a
token pass or becomes a fault (so every exception is a refusal).
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import NamedTuple

from gateway.clock import Clock
from gateway.errors import GatewayError, Reason, Reasons, printable
from gateway.identity import Identity
from gateway.jwt.cache import CachedToken, TokenCache
from gateway.jwt.claims.issuer_policy import IssuerPolicy
from gateway.jwt.claims.rules import check_claims, check_header, is_current, make_identity
from gateway.jwt.issuers.refresher import IssuerKeys
from gateway.jwt.issuers.registry import Issuers, cannot_decide
from gateway.jwt.issuers.tenants import Tenants
from gateway.jwt.jose.compact import Unverified, parse_token, unforeseen, verify_signature
from gateway.jwt.jose.keys import VerifyingKey
from gateway.jwt.revocations.revocations import Revocations
from gateway.settings.tables.root import Settings

# Tokens that are bound to their sender are remembered under a name that no look-up for a bearer token can have.
_BOUND = b"bound "


class Examined(NamedTuple):
    """A token of which everything is right but perhaps its signature.

    Attributes:
        digest: its SHA-256.
    """

    digest: bytes
    unverified: Unverified
    policy: IssuerPolicy
    issuer: IssuerKeys


class Authenticator:
    """Verifies tokens under one configuration. A new configuration gets a new authenticator, with an empty cache.

    Args:
        settings: the whole configuration.
        issuers: the keys of each issuer that it names (``build_issuers``).
        clock: the time.
        revocations: what is revoked; by default nothing ever is.

    Attributes:
        revocations: what is revoked.
        cache: the verified tokens, for ``/status`` and metrics.
        recall: return the identity of the bearer token with this SHA-256, if it is remembered and all
            that it rests on holds. Nothing is refused and no miss is counted:
            for callers that go on to ``cached`` on None. Never a token that is
            bound to its sender: that takes ``authenticate``.
    """

    def __init__(
        self,
        settings: Settings,
        issuers: Mapping[str, IssuerKeys | Tenants],
        clock: Clock,
        revocations: Revocations | None = None,
    ) -> None:
        self.revocations = revocations = revocations or Revocations((), clock)
        tokens, revoked = settings.tokens, revocations if revocations.sources else None
        self.cache = TokenCache(tokens.cache_size, tokens.cache_seconds, clock, revoked=revoked)
        self._wall, self._monotonic = clock.wall, clock.monotonic
        self.recall = self.cache.get
        self._max_bytes = settings.tokens.max_bytes
        self._issuers = Issuers(settings, issuers)
        self._issuer_of = self._issuers.of

    def cached(self, token: bytes) -> Identity | None:
        """Return the identity of a bearer token that was verified before, if all that it rests on still holds.

        This is the hot path: no waiting, no decoding. None means: call ``authenticate``.

        Raises:
            GatewayError: for a token longer than is read, and for one that was
                found bad a moment ago.
        """
        digest = sha256(token).digest()
        identity = self.recall(digest)
        if identity is None:
            self.refuse_unread(token, digest)
        return identity

    def refuse_unread(self, token: bytes, digest: bytes) -> None:
        """Refuse a token that ``recall`` does not know, if that needs no look into it; else count a miss.

        Raises:
            GatewayError: it is longer than is read, was found bad a moment ago, or was verified and is revoked.
        """
        if self.knows_bound(digest):
            return
        # After the look-up: none so long was ever remembered, and the bound on the head bounds what is hashed.
        if len(token) > self._max_bytes:
            raise GatewayError(Reasons.TOKEN_TOO_LONG, detail=f"more than {self._max_bytes} bytes")
        self.cache.misses += 1
        self._refuse_bad(digest)

    def _refuse_bad(self, digest: bytes) -> None:
        reason = self.cache.bad(digest)
        if reason is not None:
            raise GatewayError(reason, detail="refused from the cache of bad tokens")
        entry = self.cache.peek(digest) or self.cache.peek(_BOUND + digest)
        if entry is not None and self.cache.revokes(entry):
            raise GatewayError(Reasons.REVOKED)

    def knows_bound(self, digest: bytes) -> bool:
        """Whether this is the SHA-256 of a token that was verified, and is bound to its sender."""
        return self.cache.peek(_BOUND + digest) is not None

    def _recall_any(self, digest: bytes) -> Identity | None:
        return self.recall(_BOUND + digest) or self.recall(digest)

    def _settled_meanwhile(self, digest: bytes) -> Identity | None:
        """Return the identity of a token that another request with it had verified first."""
        identity = self._recall_any(digest)
        if identity is None:
            self._refuse_bad(digest)
        return identity

    def verify_now(self, token: bytes, digest: bytes | None = None) -> Identity | None:
        """Verify a token that ``cached`` does not know, as far as that needs no waiting, and remember the outcome.

        None means: keys have to be waited for, or the token is bound to its sender and known; call ``authenticate``.

        Args:
            digest: SHA-256 of the token, where that is known.

        Raises:
            GatewayError: the refusal. No other exception.
        """
        digest = digest or sha256(token).digest()
        if self.knows_bound(digest):
            return None
        try:
            examined = self.examine(token, digest)
            key = self.key_that_signed(examined)
            return None if key is None else self.remember(examined, key)
        except GatewayError:
            raise
        except Exception as error:
            raise unforeseen(error) from None

    async def authenticate(self, token: bytes) -> Identity:
        """Verify a token that ``cached`` does not know, and remember the outcome.

        Only here a token may come out that is bound to its sender and was verified
        before. Whether the sender has what it is bound to is for the caller to ask.
        It waits only for keys: for the first fetch of an issuer's, and for one
        shared fetch when a token that is otherwise plausible names an unknown key.

        Raises:
            GatewayError: the refusal; ``NO_KEYS`` and ``STALE_KEYS`` when there
                is nothing to decide with. No other exception but cancellation.
        """
        try:
            return await self._authenticate(token)
        except GatewayError:
            raise
        except Exception as error:
            raise unforeseen(error) from None

    def hold(self, token: bytes) -> CachedToken:
        """Return what the verdict on a token that was verified a moment ago rests on.

        For callers that act on one verdict for longer than a request takes
        (``still_good``): the cache may forget it.

        Raises:
            GatewayError: it was forgotten, and would not be given again.
        """
        digest = sha256(token).digest()
        entry = self.cache.peek(digest) or self.cache.peek(_BOUND + digest)
        if entry is not None:
            return entry
        examined = self.examine(token, digest)
        key = self.key_that_signed(examined)
        if key is None:
            raise GatewayError(Reasons.UNKNOWN_KEY)
        return self._entry(examined, key)

    def still_good(self, held: CachedToken) -> Reason | None:
        """Return why a held verdict no longer holds: expired, revoked, its key withdrawn, keys too old; None while it
        holds. While it is not known what is revoked, it holds."""
        identity, now = held.identity, self._monotonic()
        if held.policy.tenant is not None:
            held.issuer.used_at = now  # or it would count as idle and be given up
        if now > held.issuer.stale_at:
            return Reasons.STALE_KEYS
        if not held.issuer.keys.trusts(held.key):
            return Reasons.UNKNOWN_KEY
        if self.cache.revokes(held):
            return Reasons.REVOKED
        return is_current(identity.expires_at, identity.not_before, held.policy.leeway, self._wall())

    async def _authenticate(self, token: bytes) -> Identity:
        digest = sha256(token).digest()
        if (bound := self.recall(_BOUND + digest)) is not None:
            return bound
        self._refuse_bad(digest)
        examined = self.examine(token, digest)
        issuer = examined.issuer
        if not issuer.loaded:
            await issuer.wait_until_loaded()
            if (identity := self._settled_meanwhile(digest)) is not None:
                return identity
            if issuer.usable() is not None:
                raise cannot_decide(issuer)
        key = self.key_that_signed(examined)
        if key is None and await issuer.refetch_for_unknown_key():
            if (identity := self._settled_meanwhile(digest)) is not None:
                return identity
            check_claims(examined.unverified, examined.policy, self._wall())  # the fetch took time
            key = self.key_that_signed(examined)
        if key is None:
            shown = printable(examined.unverified.key_id or "")
            raise GatewayError(Reasons.UNKNOWN_KEY, detail=f"kid is '{shown}'")
        return self.remember(examined, key)

    # --- one step each, for callers that take them one by one; what they raise besides refusals is unforeseen ---

    def examine(self, token: bytes, digest: bytes) -> Examined:
        """Return a token of which everything is right but perhaps its signature; only such a one may cause a fetch.

        Raises:
            GatewayError: the refusal.
        """
        try:
            unverified = parse_token(token, self._max_bytes)
            policy, issuer = self._issuer_of(unverified)
            check_header(unverified, policy)
        except GatewayError as error:
            self.cache.put_bad(digest, error.reason)
            raise
        check_claims(unverified, policy, self._wall())
        if issuer is None:
            issuer = self._issuers.admit(policy)  # the first plausible token of a tenant
        return Examined(digest, unverified, policy, issuer)

    def remember(self, examined: Examined, key: VerifyingKey) -> Identity:
        """Return the identity of a token that ``key`` signed, and keep it for the next request with the token.

        Raises:
            GatewayError: a claim of it cannot be a header value, or it is revoked.
        """
        try:
            entry = self._entry(examined, key)
        except GatewayError as error:
            self.cache.put_bad(examined.digest, error.reason, examined.issuer)
            raise
        if examined.policy.tenant is not None:
            self._issuers.verified(examined.policy)
        bound = entry.identity.confirmation is not None
        # Revoked ones, too: they are refused without another look at the signature, and good again when the
        # revocation entry is removed.
        self.cache.put(_BOUND + examined.digest if bound else examined.digest, entry)
        if self.cache.revokes(entry):
            raise GatewayError(Reasons.REVOKED)
        return entry.identity

    def _entry(self, examined: Examined, key: VerifyingKey) -> CachedToken:
        _, unverified, policy, issuer = examined
        return CachedToken(make_identity(unverified, policy), key, issuer, policy, self._monotonic())

    def key_that_signed(self, examined: Examined) -> VerifyingKey | None:
        """Return the issuer's key that signed the token; None when keys have to be waited for.

        That is while none were loaded yet, and when the token names a key that is
        not in the set. A named key that is missing may stand for a nameless one
        (C33), so those are tried; but when they did not sign, the key is still missing.

        Raises:
            GatewayError: the refusal, when no fetch could change it; and when no keys can be believed.
        """
        digest, unverified, policy, issuer = examined
        if not issuer.loaded:
            return None
        if issuer.usable() is not None:
            raise cannot_decide(issuer)
        keys = issuer.keys
        candidates = keys.candidates(unverified.key_id, unverified.algorithm)
        if policy.tenant is not None and candidates:
            candidates = tuple(filter(policy.may_use, candidates))
            if not candidates:
                raise GatewayError(Reasons.UNKNOWN_KEY, detail="the key is for another issuer's tokens")
        try:
            if candidates:
                return verify_signature(unverified, candidates)
        except GatewayError as error:
            if unverified.key_id is None or unverified.key_id in keys.kids:
                self.cache.put_bad(digest, error.reason, issuer)
                raise
            return None
        if unverified.key_id is None or unverified.key_id in keys.kids:
            raise GatewayError(
                Reasons.UNKNOWN_KEY, detail=f"no key with this kid is for {printable(unverified.algorithm)}"
            )
        return None
