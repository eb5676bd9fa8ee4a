"""What a header section says to the gateway itself.

Only the one pass over the fields that the gateway acts on lives here, and what
follows from them for the framing of the request upstream. Pure functions of
the section's bytes, so that what was read once may be remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Facts(NamedTuple):
    """What a header section says to the gateway itself: a pure function of its bytes.

    Attributes:
        authorization, host, content_length, transfer_encoding, expect: every
            value of each field, in order.
        looped: Via says that this gateway has passed the request on before.
        upgrade, protocols: every value of Upgrade and of Sec-WebSocket-Protocol.
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
    keys: Sequence[tuple[bytes, bytes]] = ()


def framing(facts: Facts) -> tuple[tuple[bytes, bytes], ...]:
    """Return the fields that frame the request's content upstream, made afresh (RFC 9112 section 6.3)."""
    if facts.transfer_encoding:
        return ((b"Transfer-Encoding", b"chunked"),)
    if facts.content_length:
        return ((b"Content-Length", b"%d" % int(facts.content_length[0])),)
    return ()


def scan(headers: Sequence[tuple[bytes, bytes]], key_names: frozenset[bytes] = frozenset()) -> Facts:
    """Collect, in one pass, the fields that the gateway itself acts on.

    Args:
        headers: the section.
        key_names: fields that may hold an API key, in lower case.
    """
    upgrade: list[bytes] = []
    protocols: list[bytes] = []
    facts = Facts([], [], [], [], [], upgrade=upgrade, protocols=protocols)
    wanted = {
        b"authorization": facts.authorization,
        b"host": facts.host,
        b"content-length": facts.content_length,
        b"transfer-encoding": facts.transfer_encoding,
        b"expect": facts.expect,
        b"upgrade": upgrade,
        b"sec-websocket-protocol": protocols,
    }
    for name, value in headers:
        values = wanted.get(name.lower())
        if values is not None:
            values.append(value)
    if key_names:
        keys = tuple((name.lower(), value) for name, value in headers if name.lower() in key_names)
        return facts._replace(keys=keys)
    return facts
