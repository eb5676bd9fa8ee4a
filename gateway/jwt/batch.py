"""New tokens of one turn of the event loop, their signatures checked one after the other.

Collects new tokens until the end of the turn; the authenticator checks them. A
signature check and the interpreter push each other out of the processor's
caches: together, the checks cost a fifth less than one among the work on each
request. And requests whose token is known do not wait for those that are new:
they are served first, and so many new tokens at most are verified before the
loop looks at its connections again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice

from gateway.errors import GatewayError
from gateway.identity import Identity
from gateway.jwt.authenticator import Authenticator, Examined
from gateway.jwt.jose.compact import unforeseen
from gateway.jwt.jose.keys import VerifyingKey
from gateway.tasks import note_failure

#: Most tokens verified in one turn: a few milliseconds of work.
MAX_VERIFICATIONS_PER_TURN = 32

#: What became of a token: the identity, the refusal, or None when that takes more than the token: keys that have to
#: be waited for, a proof of possession.
Outcome = Identity | GatewayError | None


class VerificationBatch:
    """The new tokens that wait for the end of the turn.

    Args:
        authenticator: examines and verifies them.
    """

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator
        self._waiting: dict[bytes, tuple[Examined, list[Callable[[Outcome], None]]]] = {}

    def add(self, token: bytes, digest: bytes, done: Callable[[Outcome], None]) -> None:
        """Have a token verified that ``cached`` does not know; requests with the same one share the work.

        Args:
            token: the token.
            digest: its SHA-256.
            done: called with the outcome, once, soon but not now.

        Raises:
            GatewayError: the refusal, when it needs no look at the signature. ``done`` is not called.
        """
        if self._authenticator.knows_bound(digest):
            asyncio.get_running_loop().call_soon(done, None)
            return
        found = self._waiting.get(digest)
        if found is not None:
            found[1].append(done)
            return
        try:
            examined = self._authenticator.examine(token, digest)
        except GatewayError:
            raise
        except Exception as error:
            raise unforeseen(error) from None
        if not self._waiting:
            self._soon()
        self._waiting[digest] = examined, [done]

    def _soon(self) -> None:
        asyncio.get_running_loop().call_soon(self._verify)

    def _verify(self) -> None:
        if len(self._waiting) > MAX_VERIFICATIONS_PER_TURN:
            self._soon()
        digests = list(islice(self._waiting, MAX_VERIFICATIONS_PER_TURN))
        turn = [self._waiting.pop(digest) for digest in digests]
        signed = [self._signature(examined) for examined, _ in turn]
        for (examined, waiting), key in zip(turn, signed, strict=True):
            outcome = self._outcome(examined, key)
            for done in waiting:
                try:
                    done(outcome)
                except Exception as error:  # the others hear theirs all the same
                    note_failure("new tokens", error)

    def _signature(self, examined: Examined) -> VerifyingKey | GatewayError | None:
        try:
            return self._authenticator.key_that_signed(examined)
        except GatewayError as error:
            return error
        except Exception as error:
            return unforeseen(error)

    def _outcome(self, examined: Examined, key: VerifyingKey | GatewayError | None) -> Outcome:
        if key is None or isinstance(key, GatewayError):
            return key
        try:
            identity = self._authenticator.remember(examined, key)
            # What it has to prove besides is for the long way to see.
            return identity if identity.confirmation is None else None
        except GatewayError as error:
            return error
        except Exception as error:
            return unforeseen(error)
