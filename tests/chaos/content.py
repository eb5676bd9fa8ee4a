"""What a good answer is: content that both ends can make from the target alone."""

from __future__ import annotations

import hashlib
import random

#: What the upstream answers, with 418, before it has read a request's content.
EARLY = b"too early"


def content(seed: int, size: int) -> bytes:
    """Return the content of ``/content/SEED/SIZE/...``."""
    return random.Random(seed).randbytes(size)


def receipt(body: bytes) -> bytes:
    """Return what the upstream answers to content that it got."""
    return hashlib.sha256(body).hexdigest().encode()
