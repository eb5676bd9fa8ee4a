"""The names of what gateways keep in Redis: the one place that builds them.

A name says in which format its value is, so that gateways of two versions can
share a server while a fleet is upgraded: a changed value gets another name.
Format 1, that of 0.1.0, has no number. What has not changed since keeps its
name, so that old and new gateways go on sharing it. Nothing that came from
outside is in a name, only digests of it (R131).
"""

from __future__ import annotations

#: What every name begins with.
KEY_PREFIX = "gateway:"

#: The format of what was changed last.
FORMAT = 2

#: What the names of rate limits' buckets begin with; format 1.
BUCKET_PREFIX = KEY_PREFIX + "rate:"

#: What gateways tell each other about themselves, in any format.
FLEET = KEY_PREFIX + "fleet"

#: What a heartbeat writes where it cannot ask for the server's role.
HEARTBEAT = KEY_PREFIX + "heartbeat"


def used_ids(purpose: str) -> str:
    """Return the name of the ids of one purpose that were used."""
    return f"{KEY_PREFIX}{FORMAT}:used:{purpose}"


def used_id(purpose: str, digest: bytes) -> str:
    """Return the name of one used id in format 1, which had a name for each."""
    return f"{KEY_PREFIX}{purpose}:{digest.hex()}"


def bucket(name: bytes) -> str:
    """Return the name of a rate limit's bucket."""
    return BUCKET_PREFIX + name.hex()


def introspection_prefix(whose: str) -> str:
    """Return what the names of the answers of one server to one client begin with."""
    return f"{KEY_PREFIX}{FORMAT}:introspection:{whose}:"
