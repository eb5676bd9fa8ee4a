"""What one more kept connection, or one more token, adds to a gateway's memory.

Measured as differences of one process, between few and many: what a process holds anyway
is in neither number. What a connection costs the kernel is not in it.
"""

from __future__ import annotations

import contextlib
import selectors

from benchmarks.client import Connection
from benchmarks.drive import Driver
from benchmarks.load import messages
from benchmarks.stage import Subject
from benchmarks.tokens import Material
from benchmarks.traffic import Sends, Traffic, build

#: How many there are at the first look, and how many more at the second.
CONNECTIONS, MORE_CONNECTIONS = 500, 4_000
TOKENS, MORE_TOKENS = 4_000, 20_000


def per_connection(subject: Subject, traffic: Traffic, scale: float = 1.0) -> float:
    """Return KiB for each kept connection that has had one answer and waits for its next request."""
    few, more = int(CONNECTIONS * scale), int(MORE_CONNECTIONS * scale)
    following = messages(traffic)
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as opened:

        def open_more(count: int) -> int:
            for _ in range(count):
                connection = Connection(subject.target.port, selector)
                opened.callback(connection.close)
                connection.send(following(), 0.0)
                while not any(key.data.receive() for key, _ in selector.select(5)):
                    pass
            return subject.process.resident_bytes()

        before = open_more(few)
        return (open_more(more) - before) / more / 1024


def per_token(subject: Subject, driver: Driver, keys: Material, scale: float = 1.0) -> float:
    """Return KiB for each token that came once and is kept; the cache must have room for all."""
    few, more = int(TOKENS * scale), int(MORE_TOKENS * scale)
    traffic = build(Sends("new", tokens=few + more), keys)
    driver.send(traffic, subject.target, 32, few)
    before = subject.process.resident_bytes()
    driver.send(traffic.later(few), subject.target, 32, more)
    return (subject.process.resident_bytes() - before) / more / 1024
