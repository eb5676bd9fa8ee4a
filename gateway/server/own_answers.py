"""What the gateway answers itself although it refuses nothing.

Only the two answers live here: to preflights (Fetch standard), and to whoever
reads the metadata document of a protected resource (RFC 9728 section 3). They
need no token and no upstream. Nothing of a request comes back in them but
what the rules for pages of other origins allow.
"""

from __future__ import annotations

from gateway.errors import GatewayError, Reason
from gateway.policy.cors import preflight_fields, response_fields
from gateway.policy.resources import document_fields
from gateway.server.request import Admitted, RequestHead
from gateway.server.responses import Answer


def own_answer(admitted: Admitted, head: RequestHead, request_id: bytes) -> Answer | None:
    """Return the answer to a request that no upstream is asked about; None for any other.

    Raises:
        GatewayError: the page may not send what its preflight asks about, or the
            document cannot be changed.
    """
    cors, document = admitted.route.cors, admitted.document
    own = (b"X-Request-Id", request_id)
    if admitted.preflight and cors is not None:
        return Answer(204, (*preflight_fields(cors, head.headers), own), b"", close=False)
    if document is None:
        return None
    pages = response_fields(cors, head.headers, ()) if cors is not None else ()
    if head.method == "OPTIONS":
        allow = (b"Allow", Reason.DOCUMENT_METHOD.kind.allow.encode("ascii"))
        return Answer(204, (allow, *pages, own), b"", close=False)
    if head.method not in ("GET", "HEAD"):
        raise GatewayError(Reason.DOCUMENT_METHOD)
    return Answer(200, (*document_fields(), *pages, own), document.body, close=False)
