"""What the gateway answers itself although it refuses nothing.

Makes these answers: to preflights (Fetch standard), those of the features'
endpoints, and to an OPTIONS request that may not be forwarded. The first two
need no token, and none of them an upstream. Nothing of a request comes back in
them but what the rules for pages of other origins allow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from gateway.policy.cors import preflight_fields, response_fields
from gateway.server.request.error_answers import Answer
from gateway.server.request.request import Admitted, RequestHead


def last_recipient(methods: Iterable[str], added: Sequence[tuple[bytes, bytes]], request_id: bytes) -> Answer:
    """Return the answer to an OPTIONS request that may not be forwarded (RFC 9110 section 7.6.2).

    Args:
        methods: with which its target is served.
        added: further fields.
    """
    allow = (b"Allow", ", ".join(methods).encode("ascii"))
    return Answer(204, (allow, *added, (b"X-Request-Id", request_id)), b"", close=False)


def own_answer(admitted: Admitted, head: RequestHead, request_id: bytes) -> Answer | None:
    """Return the answer to a request that no upstream is asked about; None for any other.

    Raises:
        GatewayError: the page may not send what its preflight asks about, or the endpoint refuses the request.
    """
    cors, endpoint = admitted.route.cors, admitted.endpoint
    own = (b"X-Request-Id", request_id)
    if admitted.preflight and cors is not None:
        return Answer(204, (*preflight_fields(cors, head.headers), own), b"", close=False)
    if endpoint is None:
        return None
    reply = endpoint.answer(head.method)
    pages = response_fields(cors, head.headers, ()) if cors is not None else ()
    return replace(reply, headers=(*reply.headers, *pages, own))
