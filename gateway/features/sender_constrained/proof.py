"""Whether the sender of a bound token has the key or certificate that it is bound to, for every kind of credential.

Takes proof and certificate from a request, and orders the checks. ``features/sender_constrained/dpop.py`` judges
proofs, ``features/sender_constrained/client_certificate.py`` reads certificates. The danger of this file is a bound
token that passes for a bearer token: so every request with one is checked here.
"""

from __future__ import annotations

import os
from collections import Counter

from gateway.clock import Clock
from gateway.errors import GatewayError, Reasons
from gateway.features.sender_constrained.checks import MIN_NONCE_SECRET, read_nonce_secret
from gateway.features.sender_constrained.client_certificate import forwarded_thumbprint, thumbprint
from gateway.features.sender_constrained.dpop import (
    Proof,
    Wanted,
    Window,
    check_proof,
    check_signature,
    parse_proof,
    proof_algorithms,
)
from gateway.features.sender_constrained.nonces import Nonces
from gateway.features.sender_constrained.reasons import (
    MISSING_PROOF,
    PROOF_NONCE,
    REPLAYED_PROOF,
    SEVERAL_PROOFS,
    WRONG_CERTIFICATE,
)
from gateway.features.sender_constrained.target_uri import normal_uri
from gateway.http1.host import canonical_host
from gateway.http1.trusted_proxies import TrustedProxies
from gateway.identity import Identity
from gateway.server.request.in_progress import Run
from gateway.server.request.request import Admitted, RequestHead
from gateway.server.seam.credential import Shown
from gateway.server.seam.guard import Guard
from gateway.settings.tables.root import Settings
from gateway.store.one_time_ids import Once, ReplayStore, digest_of
from gateway.store.used_ids import CLOCK_MARGIN
from gateway.upstream.headers.forwarded import external_origin, http_scheme

#: What a used proof is remembered under.
PROOF_PURPOSE = "proof"

#: So many seconds behind its ``iat`` a used proof is remembered at least, beside the margin for clocks: gateways with a
#: ``max_age_seconds`` up to this can come and go without a pause for the others.
MIN_WINDOW_SECONDS = 60.0


class Proofs(Guard):
    """Asks for proofs under one configuration.

    Args:
        settings: the whole configuration.
        used: remembers the proofs that were used.
        secret: what nonces are made from.
        clock: the time.

    Attributes:
        outcomes: how often a proof of a kind (``dpop`` or ``mtls``) was accepted, or refused with a reason.
        used: as given.
    """

    def __init__(self, settings: Settings, used: ReplayStore, secret: bytes, clock: Clock) -> None:
        options = settings.dpop
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.used = used
        self._wall = clock.wall
        self._algorithms = proof_algorithms(options.algorithms)
        self._window = Window(options.max_age_seconds, options.max_future_seconds)
        self._origins = tuple(options.origins)
        self._nonces = Nonces(secret, options.nonce_seconds, clock.wall) if options.nonce_seconds else None
        self._trusted = TrustedProxies(settings.server.trusted_proxies, settings.server.forwarded_fields)
        self._certificate_field = settings.server.client_certificate_header.encode("ascii")

    async def confirm(self, run: Run, admitted: Admitted, shown: Shown, identity: Identity) -> bool:
        """Return True when the sender has proved all that the token is bound to; False for a bearer token.

        Raises:
            GatewayError: 401; 503 when it cannot be known whether a proof was used before.
        """
        bound = identity.confirmation
        if bound is None:
            return False
        if bound.certificate_thumbprint is not None:
            try:
                self._check_certificate(run, bound.certificate_thumbprint)
            except GatewayError as error:
                self.outcomes["mtls", error.reason.code] += 1
                raise
            self.outcomes["mtls", "accepted"] += 1
        if bound.jwk_thumbprint is not None:
            try:
                await self._check_proof(run, admitted, shown, bound.jwk_thumbprint)
            except GatewayError as error:
                error.scheme = "DPoP"
                self.outcomes["dpop", error.reason.code] += 1
                raise
            self.outcomes["dpop", "accepted"] += 1
        return True

    def _check_certificate(self, run: Run, wanted: str) -> None:
        shown = self._certificate(run)
        if shown is None:
            raise GatewayError(WRONG_CERTIFICATE, detail="no client certificate")
        if shown != wanted:
            raise GatewayError(WRONG_CERTIFICATE)

    def _certificate(self, run: Run) -> str | None:
        """Return the thumbprint of the client's certificate: the connection's, or a trusted proxy's word for it."""
        head = run.head
        if self._certificate_field and self._trusted.believes(head.peer.address):
            # The certificate of the connection is the proxy's then.
            values = _values(head, self._certificate_field)
            return forwarded_thumbprint(values[0]) if len(values) == 1 else None
        certificate = run.client.certificate
        return None if certificate is None else thumbprint(certificate)

    async def _check_proof(self, run: Run, admitted: Admitted, token: Shown, key: str) -> None:
        if token.scheme != "DPoP":
            raise GatewayError(Reasons.SENDER_CONSTRAINED, detail="bound to a key, and sent as a bearer token")
        values = _values(run.head, b"dpop")
        if len(values) != 1:
            raise GatewayError(SEVERAL_PROOFS if values else MISSING_PROOF)
        proof = parse_proof(values[0], self._algorithms)
        wanted = Wanted(run.head.method, self._uris(run.head, admitted), token.value, key)
        check_proof(proof, wanted, self._window, self._wall())
        self._check_nonce(run, proof)
        check_signature(proof)
        if not await self.used.use(self._once(key, proof)):
            raise GatewayError(REPLAYED_PROOF)

    def _once(self, key: str, proof: Proof) -> Once:
        """Return a proof's id and its times; a client makes another one at once, so what is undecided never passes."""
        # So long even a proof from the future could be used again.
        here = self._wall() + self._window.past + self._window.future
        return Once(digest_of(key, proof.proof_id), proof.issued_at, here, proof.issued_at + CLOCK_MARGIN)

    def _check_nonce(self, run: Run, proof: Proof) -> None:
        """Refuse a proof without a good nonce, and give out a new one where that is needed (RFC 9449 section 9)."""
        if self._nonces is None:
            return
        newest = self._nonces.newest
        if proof.nonce == newest:
            return
        run.answer_fields.append((b"DPoP-Nonce", newest.encode("ascii")))
        if proof.nonce is None or not self._nonces.accepts(proof.nonce):
            raise GatewayError(
                PROOF_NONCE, detail="absent" if proof.nonce is None else "the nonce is expired or unknown"
            )

    def _uris(self, head: RequestHead, admitted: Admitted) -> frozenset[str]:
        """Return the normal forms of the request's URI as its client knows it (RFC 9449 section 4.3).

        Empty when the route is for certain hosts and this is not one of them: what a proxy passes on of the client's
        own X-Forwarded-Host must not stand for this server (RFC 9449 section 11.1).
        """
        target = admitted.target
        origins, websocket = self._origins, admitted.websocket
        if not origins:
            host = target.authority or (admitted.facts.host[0] if admitted.facts.host else b"")
            scheme, authority = external_origin(head.headers, self._trusted, head.peer, host)
            if admitted.route.hosts and not _is_host_of(authority, admitted.route.hosts):
                return frozenset()
            origins = ((b"%b://%b" % (http_scheme(scheme), authority)).decode("latin-1"),)
            websocket = websocket or scheme.startswith(b"ws")
        path = target.path.decode("ascii")
        found = {uri for origin in origins if (uri := normal_uri(origin + path)) is not None}
        if websocket:
            found |= {"ws" + uri.removeprefix("http") for uri in found}
        return frozenset(found)


def make_proofs(settings: Settings, clock: Clock, used: ReplayStore, secret: bytes = b"") -> Proofs:
    """Return the guard that asks for proofs.

    Args:
        used: remembers the proofs that were used.
        secret: what nonces are made from, unless the configuration names a file with one. Empty: a new one.

    Raises:
        OSError, ValueError: the file with the secret cannot be used.
    """
    if settings.dpop.nonce_secret_file:
        secret = read_nonce_secret(settings.dpop.nonce_secret_file)
    return Proofs(settings, used, secret or os.urandom(MIN_NONCE_SECRET), clock)


def _is_host_of(authority: bytes, hosts: frozenset[str]) -> bool:
    try:
        return canonical_host(authority) in hosts
    except GatewayError:
        return False


def _values(head: RequestHead, name: bytes) -> list[bytes]:
    """Return every value of a field; ``name`` in lower case."""
    return [value for key, value in head.headers if key.lower() == name]
