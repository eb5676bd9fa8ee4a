"""Every way in which the gateway itself refuses or fails a request.

Lists the refusals: their stable reason codes (for logs and metrics), their HTTP
face, and the exception that carries them. ``server/request/error_answers.py``
writes them to a client; nothing else builds an answer.

The reason code never reaches the client. What the client reads is the kind's
error code and one of the fixed texts below (RFC 6750 section 3, RFC 9110
section 11.6.1), so no byte of a request can come back in an answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple


class Challenge(Enum):
    """What the ``WWW-Authenticate`` field of an answer says (RFC 6750 section 3)."""

    NONE = "none"
    BARE = "bare"  # the scheme and realm only: no credential was presented
    ERROR = "error"  # with error= and error_description=


@dataclass(frozen=True, slots=True, eq=False)
class RefusalKind:
    """The HTTP face that several reasons share.

    Attributes:
        status: HTTP status code.
        error: the ``error`` member of the JSON body and of the challenge.
        description: the fixed text for people.
        challenge: whether and how ``WWW-Authenticate`` is sent.
        close: the connection cannot be trusted afterwards and is closed.
        retry_after: seconds for ``Retry-After``; None sends no such field.
        allow: with 405: the methods for ``Allow``.
    """

    status: int
    error: str
    description: str
    challenge: Challenge = Challenge.NONE
    close: bool = False
    retry_after: int | None = None
    allow: str = ""


MISSING_TOKEN = RefusalKind(401, "missing_token", "A bearer token is required.", Challenge.BARE)
INVALID_TOKEN = RefusalKind(401, "invalid_token", "The access token is not valid here.", Challenge.ERROR)
INVALID_REQUEST = RefusalKind(
    400, "invalid_request", "The request must carry exactly one well-formed credential.", Challenge.ERROR
)
INVALID_DPOP_PROOF = RefusalKind(
    401, "invalid_dpop_proof", "The DPoP proof is missing, or not valid for this request.", Challenge.ERROR
)
USE_DPOP_NONCE = RefusalKind(401, "use_dpop_nonce", "The DPoP proof needs the nonce of this answer.", Challenge.ERROR)
INSUFFICIENT_SCOPE = RefusalKind(
    403, "insufficient_scope", "The access token does not grant this request.", Challenge.ERROR
)
CORS_REFUSED = RefusalKind(403, "cors_refused", "Pages of this origin may not send this request.")
NO_ROUTE = RefusalKind(404, "no_route", "Nothing is served at this address.")
BAD_PATH = RefusalKind(400, "bad_path", "The request target is ambiguous.")
BAD_REQUEST = RefusalKind(400, "bad_request", "The request is not well-formed HTTP.", close=True)
# Closed: what follows a CONNECT was meant for its tunnel and is no request (RFC 9110 section 9.3.6).
METHOD_REFUSED = RefusalKind(405, "method_not_allowed", "This method is not served.", close=True)
READ_ONLY = RefusalKind(405, "method_not_allowed", "This document can only be read.", allow="GET, HEAD, OPTIONS")
EXPECTATION_FAILED = RefusalKind(417, "expectation_failed", "The expectation cannot be met.")
UPGRADE_REQUIRED = RefusalKind(426, "upgrade_required", "Only version 13 of the WebSocket protocol is served here.")
HEAD_TOO_LARGE = RefusalKind(431, "too_large", "The request's header section is too large.", close=True)
BODY_TOO_LARGE = RefusalKind(413, "too_large", "The request's content is too large.", close=True)
TIMED_OUT = RefusalKind(408, "request_timeout", "The request did not arrive in time.", close=True)
# RFC 6585 section 4.
TOO_MANY_REQUESTS = RefusalKind(429, "rate_limited", "Too many requests. Try again later.", retry_after=1)
UNAVAILABLE = RefusalKind(503, "unavailable", "The gateway cannot decide or serve this now.", retry_after=1)
BAD_GATEWAY = RefusalKind(502, "bad_gateway", "The service behind the gateway did not answer properly.")
GATEWAY_TIMEOUT = RefusalKind(504, "gateway_timeout", "The service behind the gateway did not answer in time.")
LOOP = RefusalKind(508, "loop_detected", "The request has passed through this gateway before.")


class Ending(NamedTuple):
    """Why the gateway itself ends a WebSocket.

    Attributes:
        cause: for the log.
        code: of the close frames (RFC 6455 section 7.4.1).
        text: for people, in the close frames.
    """

    cause: str
    code: int
    text: bytes


#: Close codes for credentials that are no longer good (RFC 6455 section 7.4.1 and its registry).
POLICY_VIOLATION, TRY_AGAIN_LATER = 1008, 1013


_WITHDRAWN = Ending("withdrawn", POLICY_VIOLATION, b"token withdrawn")


@dataclass(frozen=True, eq=False)
class Reason:
    """A stable code for one way of being refused, and its HTTP face.

    Codes are part of the contract: they are added, never renamed. The core's are in ``Reasons``, those of an optional
    feature in its own folder. ``docs/reasons.md`` explains each.

    Args:
        code: what logs and metrics show.
        kind: the HTTP face.
        text: a fixed text for people, where one that is more helpful than the kind's discloses nothing.
        ending: how a WebSocket ends when its credential is no longer good for this reason.
    """

    code: str
    kind: RefusalKind
    text: str = ""
    ending: Ending = _WITHDRAWN

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", self.text or self.kind.description)


class Reasons:
    """The core's reasons."""

    # --- credential (server/authentication/credential_places.py) ---
    NO_CREDENTIAL = Reason("no_credential", MISSING_TOKEN)
    OTHER_SCHEME = Reason("other_scheme", MISSING_TOKEN)
    SEVERAL_CREDENTIALS = Reason("several_credentials", INVALID_REQUEST)
    MALFORMED_AUTHORIZATION = Reason("malformed_authorization", INVALID_REQUEST)
    # --- introspection (features/introspection/introspector.py) ---
    CREDENTIAL_NOT_ACCEPTED = Reason("credential_not_accepted", INVALID_TOKEN)
    # --- form of the token (jwt/jose/compact.py) ---
    TOKEN_TOO_LONG = Reason("token_too_long", INVALID_TOKEN)
    NOT_A_JWS = Reason("not_a_jws", INVALID_TOKEN, "The access token is not a signed JWT.")
    ENCRYPTED_TOKEN = Reason("encrypted_token", INVALID_TOKEN, "The access token is not a signed JWT.")
    BAD_ENCODING = Reason("bad_encoding", INVALID_TOKEN)
    BAD_HEADER = Reason("bad_header", INVALID_TOKEN)
    BAD_PAYLOAD = Reason("bad_payload", INVALID_TOKEN)
    DUPLICATE_MEMBER = Reason("duplicate_member", INVALID_TOKEN)
    CRITICAL_HEADER = Reason("critical_header", INVALID_TOKEN)
    UNENCODED_PAYLOAD = Reason("unencoded_payload", INVALID_TOKEN)
    ALGORITHM_REFUSED = Reason("algorithm_refused", INVALID_TOKEN)
    TYPE_REFUSED = Reason("type_refused", INVALID_TOKEN)
    # --- issuer, key and signature ---
    UNKNOWN_ISSUER = Reason("unknown_issuer", INVALID_TOKEN)
    UNKNOWN_KEY = Reason("unknown_key", INVALID_TOKEN)
    BAD_SIGNATURE = Reason("bad_signature", INVALID_TOKEN)
    VERIFICATION_FAILED = Reason("verification_failed", INVALID_TOKEN)
    # --- claims ---
    EXPIRED = Reason(
        "expired",
        INVALID_TOKEN,
        "The access token expired.",
        ending=Ending("expired", POLICY_VIOLATION, b"token expired"),
    )
    NOT_YET_VALID = Reason("not_yet_valid", INVALID_TOKEN, "The access token is not valid yet.")
    ISSUED_IN_FUTURE = Reason("issued_in_future", INVALID_TOKEN, "The access token is not valid yet.")
    LIFETIME_TOO_LONG = Reason("lifetime_too_long", INVALID_TOKEN)
    BAD_CLAIM_TYPE = Reason("bad_claim_type", INVALID_TOKEN)
    MISSING_CLAIM = Reason("missing_claim", INVALID_TOKEN)
    WRONG_AUDIENCE = Reason("wrong_audience", INVALID_TOKEN)
    WRONG_CLAIM = Reason("wrong_claim", INVALID_TOKEN)
    SENDER_CONSTRAINED = Reason("sender_constrained", INVALID_TOKEN)
    UNSAFE_CLAIM = Reason("unsafe_claim", INVALID_TOKEN)
    # --- revocation (jwt/revocations/revocations.py) ---
    REVOKED = Reason(
        "revoked",
        INVALID_TOKEN,
        "The credential was revoked.",
        ending=Ending("revoked", POLICY_VIOLATION, b"token or API key revoked"),
    )
    # --- the proof that the sender of a bound token has its key or certificate ---
    UNBOUND_TOKEN = Reason("unbound_token", INVALID_TOKEN, "The access token is not bound to its sender.")
    # --- the route's rules (policy/) ---
    ISSUER_NOT_ACCEPTED = Reason("issuer_not_accepted", INVALID_TOKEN)
    MISSING_SCOPE = Reason("missing_scope", INSUFFICIENT_SCOPE)
    CLAIM_NOT_ACCEPTED = Reason("claim_not_accepted", INSUFFICIENT_SCOPE)
    CORS_ORIGIN = Reason("cors_origin", CORS_REFUSED)
    CORS_METHOD = Reason("cors_method", CORS_REFUSED)
    CORS_HEADER = Reason("cors_header", CORS_REFUSED)
    NO_ROUTE = Reason("no_route", NO_ROUTE)
    ENCODED_SLASH = Reason("encoded_slash", BAD_PATH)
    BAD_PATH = Reason("bad_path", BAD_PATH)
    BAD_TARGET = Reason("bad_target", BAD_REQUEST)
    BAD_HOST = Reason("bad_host", BAD_REQUEST)
    METHOD_REFUSED = Reason("method_refused", METHOD_REFUSED)
    # --- HTTP (server/) ---
    MALFORMED_HTTP = Reason("malformed_http", BAD_REQUEST)
    HTTPS_EXPECTED = Reason("https_expected", BAD_REQUEST, "This port speaks HTTPS, and the request came without TLS.")
    HTTP_VERSION = Reason("http_version", BAD_REQUEST)
    HEAD_TOO_LARGE = Reason("head_too_large", HEAD_TOO_LARGE)
    BODY_TOO_LARGE = Reason("body_too_large", BODY_TOO_LARGE)
    HEAD_TIMEOUT = Reason("head_timeout", TIMED_OUT)
    BODY_TIMEOUT = Reason("body_timeout", TIMED_OUT)
    MAX_FORWARDS = Reason("max_forwards", BAD_REQUEST)
    EXPECTATION = Reason("expectation", EXPECTATION_FAILED)
    LOOP = Reason("loop", LOOP)
    WEBSOCKET_HANDSHAKE = Reason("websocket_handshake", BAD_REQUEST, "The WebSocket handshake is not well-formed.")
    WEBSOCKET_VERSION = Reason("websocket_version", UPGRADE_REQUIRED)
    CLIENT_GONE = Reason("client_gone", BAD_REQUEST)
    CLIENT_STALLED = Reason("client_stalled", TIMED_OUT)
    DRAINED = Reason("drained", UNAVAILABLE)
    INTERNAL = Reason("internal", UNAVAILABLE)
    # --- cannot decide, cannot serve ---
    NO_KEYS = Reason("no_keys", UNAVAILABLE)
    STALE_KEYS = Reason(
        "stale_keys", UNAVAILABLE, ending=Ending("stale_keys", TRY_AGAIN_LATER, b"token cannot be checked")
    )
    REVOCATION_UNKNOWN = Reason("revocation_unknown", UNAVAILABLE)
    TOO_MANY_TENANTS = Reason("too_many_tenants", UNAVAILABLE)
    REPLAY_STORE = Reason("replay_store", UNAVAILABLE)
    REPLAY_UNDECIDED = Reason("replay_undecided", UNAVAILABLE)
    TOO_MANY_CONNECTIONS = Reason("too_many_connections", UNAVAILABLE)
    OVERLOADED = Reason("overloaded", UNAVAILABLE)
    OUT_OF_FILES = Reason("out_of_files", UNAVAILABLE)
    POOL_EXHAUSTED = Reason("pool_exhausted", UNAVAILABLE)
    UPSTREAM_CONNECT = Reason("upstream_connect", BAD_GATEWAY)
    UPSTREAM_NAME = Reason("upstream_name", BAD_GATEWAY)
    UPSTREAM_TLS = Reason("upstream_tls", BAD_GATEWAY)
    UPSTREAM_DISCONNECTED = Reason("upstream_disconnected", BAD_GATEWAY)
    UPSTREAM_PROTOCOL = Reason("upstream_protocol", BAD_GATEWAY)
    UPSTREAM_CONNECT_TIMEOUT = Reason("upstream_connect_timeout", GATEWAY_TIMEOUT)
    UPSTREAM_TIMEOUT = Reason("upstream_timeout", GATEWAY_TIMEOUT)

    @classmethod
    def all(cls) -> tuple[Reason, ...]:
        """Return all of them, in the order of the list."""
        return tuple(value for value in vars(cls).values() if isinstance(value, Reason))


class GatewayError(Exception):
    """A request that the gateway refuses, or cannot serve.

    Args:
        reason: the stable code and with it the answer.
        scope: for ``insufficient_scope``: the scopes that the route asks for,
            space-separated, from configuration (RFC 6750 section 3.1).
        detail: a hint for the operator's log. It never reaches a client and
            must not hold token content or key material.
        retry_after: seconds, instead of the kind's own.

    Attributes:
        scheme: of tokens that the error is about, for challenges that name several; empty: not about one in particular.
            Set where the route is known, unless the code that raises the error sets it.
    """

    def __init__(
        self, reason: Reason, *, scope: str = "", detail: str = "", retry_after: int | None = None, scheme: str = ""
    ) -> None:
        super().__init__(reason.code)
        self.scheme = scheme
        self.reason = reason
        self.scope = scope
        self.detail = detail
        self.retry_after = reason.kind.retry_after if retry_after is None else retry_after


#: Longest foreign text in a message for the operator, in characters.
PREVIEW_CHARS = 200


def printable(text: str, limit: int = 64) -> str:
    """Return foreign text that can stand in one log line: escaped, at most ``limit`` characters (CWE-117)."""
    escaped = text[:limit].encode("unicode_escape").decode("ascii")
    return escaped if len(text) <= limit and len(escaped) <= limit else escaped[: limit - 3] + "..."
