"""What a header section says to the gateway itself.

Makes one pass over the fields that the gateway acts on, and derives the framing
of the request upstream from them. Pure functions of the section's bytes, so
that what was read once may be remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.errors import GatewayError, Reasons
from gateway.http1.fields import RawHeaders

#: The highest Max-Forwards that is distinguished from higher ones, and its digits.
MAX_FORWARDS, MAX_FORWARDS_DIGITS = 999_999_999, 9


class Facts(NamedTuple):
    """What a header section says to the gateway itself: a pure function of its bytes.

    Attributes:
        authorization, host, content_length, transfer_encoding, expect: every
            value of each field, in order.
        looped: Via says that this gateway has passed the request on before.
        upgrade, protocols: every value of Upgrade and of Sec-WebSocket-Protocol.
        max_forwards: every value of Max-Forwards.
        keys: name in lower case and value of every field that holds an API key on some route.
    """

    authorization: list[bytes]
    host: list[bytes]
    content_length: list[bytes]
    transfer_encoding: list[bytes]
    expect: list[bytes]
    looped: bool = False
    upgrade: Sequence[bytes] = ()
    protocols: Sequence[bytes] = ()
    max_forwards: Sequence[bytes] = ()
    keys: Sequence[tuple[bytes, bytes]] = ()


def framing(facts: Facts) -> tuple[tuple[bytes, bytes], ...]:
    """Return the fields that frame the request's content upstream, made afresh (RFC 9112 section 6.3)."""
    if facts.transfer_encoding:
        return ((b"Transfer-Encoding", b"chunked"),)
    if facts.content_length:
        return ((b"Content-Length", b"%d" % int(facts.content_length[0])),)
    return ()


def forwards_left(facts: Facts) -> int | None:
    """Return how often an OPTIONS request may still be forwarded (RFC 9110 section 7.6.2); None for any number.

    Raises:
        GatewayError: ``MAX_FORWARDS``: that is not said by one number.
    """
    if not facts.max_forwards:
        return None
    value = facts.max_forwards[0]
    if len(facts.max_forwards) > 1 or not value.isdigit():
        raise GatewayError(Reasons.MAX_FORWARDS)
    beyond = value[:-MAX_FORWARDS_DIGITS].strip(b"0")
    return MAX_FORWARDS if beyond else int(value[-MAX_FORWARDS_DIGITS:])


def with_fewer_forwards(headers: RawHeaders, left: int) -> RawHeaders:
    """Return a section whose Max-Forwards says what is left once it was forwarded."""
    return [(name, b"%d" % (left - 1) if name.lower() == b"max-forwards" else value) for name, value in headers]


def scan(headers: Sequence[tuple[bytes, bytes]], key_names: frozenset[bytes] = frozenset()) -> Facts:
    """Collect, in one pass, the fields that the gateway itself acts on.

    Args:
        headers: the section.
        key_names: fields that may hold an API key, in lower case.
    """
    upgrade: list[bytes] = []
    protocols: list[bytes] = []
    max_forwards: list[bytes] = []
    facts = Facts([], [], [], [], [], upgrade=upgrade, protocols=protocols, max_forwards=max_forwards)
    wanted = {
        b"authorization": facts.authorization,
        b"host": facts.host,
        b"content-length": facts.content_length,
        b"transfer-encoding": facts.transfer_encoding,
        b"expect": facts.expect,
        b"upgrade": upgrade,
        b"sec-websocket-protocol": protocols,
        b"max-forwards": max_forwards,
    }
    for name, value in headers:
        values = wanted.get(name.lower())
        if values is not None:
            values.append(value)
    if key_names:
        keys = tuple((name.lower(), value) for name, value in headers if name.lower() in key_names)
        return facts._replace(keys=keys)
    return facts
