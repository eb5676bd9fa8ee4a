"""Looking for a secret in everything that a gateway says.

Searches for them. A leak is seldom the whole token: error texts cut and quote.
So any piece of a secret as long as ``WINDOW`` counts as found.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

#: A run of this many characters of a secret is a leak.
WINDOW = 20

#: Loggers whose debug lines are looked at too, though ``gateway run`` keeps them at warnings.
FOREIGN_LOGGERS = ("asyncio", "aiohttp", "aiohttp.access", "aiohttp.client", "aiohttp.server", "aiohttp.web")


class Secrets:
    """Texts that may appear nowhere.

    Args:
        texts: whole tokens, or other secrets; a token's segments are looked for one by one.
    """

    def __init__(self, *texts: bytes) -> None:
        self._pieces: set[bytes] = set()
        self.add(*texts)

    def add(self, *texts: bytes) -> None:
        """Look for these as well."""
        for text in texts:
            for part in text.split(b"."):
                step = WINDOW // 2
                self._pieces.update(part[at : at + step] for at in range(0, len(part) - step + 1, step))

    def found_in(self, said: bytes | str) -> list[bytes]:
        """Return the pieces of a secret in ``said``."""
        data = said.encode("utf-8", "surrogateescape") if isinstance(said, str) else said
        return [piece for piece in self._pieces if piece in data]

    def assert_absent(self, said: bytes | str, place: str) -> None:
        """Fail with the place when a piece is found."""
        found = self.found_in(said)
        assert not found, f"{place} holds {found[:3]}: {said[:2000]!r}"


class _Keeping(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self.records: list[logging.LogRecord] = []
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.lines.append(self.format(record))


@contextmanager
def everything_logged() -> Iterator[_Keeping]:
    """Keep every record of every logger at debug level, formatted as ``gateway run`` does, with tracebacks."""
    handler = _Keeping()
    loggers = [logging.getLogger(), *map(logging.getLogger, FOREIGN_LOGGERS)]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    logging.getLogger().addHandler(handler)
    try:
        yield handler
    finally:
        logging.getLogger().removeHandler(handler)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
