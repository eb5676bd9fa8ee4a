"""The content of a response in chunks, taken out of them as it comes.

Reads the plain form of the chunked coding (RFC 9112 section 7.1): sizes of hexadecimal
digits alone, CRLF at the end of every line, no extension and no trailer, and not many
chunks at once. Everything else that a service sends is left, from behind the last data
that was taken, for aiohttp's parser: there is one judge of odd responses. The danger of
this file is a form that it reads otherwise than that parser would.
"""

from __future__ import annotations

import re

# The end of a chunk's data, and behind it the line of the next size, or the last chunk and the end. What has come of
# a line that is not whole yet is a beginning of one.
_LINE = re.compile(rb"\r\n0{0,14}(?:([1-9A-Fa-f][0-9A-Fa-f]{0,14})\r\n|0\r\n\r\n)").match
_BEGINNING = re.compile(rb"(?:\r(?:\n0{0,14}(?:[1-9A-Fa-f][0-9A-Fa-f]{0,14}\r?|0(?:\r(?:\n\r?)?)?)?)?)?").fullmatch

#: Most chunks that are taken apart at once: a service may make them of a byte each.
MAX_CHUNKS = 200


class ChunkedContent:
    """Takes the content of one response out of its chunks.

    Attributes:
        ended: the last chunk has come.
        rest: what was not taken: bytes behind the end, or, before that, the end of a chunk's data and what
            came behind it, which is not plain. Nothing more may be fed then.
    """

    __slots__ = ("_held", "_left", "ended", "rest")

    def __init__(self) -> None:
        self._held = b"\r\n"  # as if the data of a chunk stood before the first one
        self._left = 0
        self.ended = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes of the response; return what is content of them."""
        if self._held:
            data, self._held = self._held + data, b""
        pieces, position, left = [], 0, self._left
        for most in range(MAX_CHUNKS, -1, -1):
            if left:
                piece = data[position : position + left]
                pieces.append(piece)
                position += len(piece)
                left -= len(piece)
                if left:
                    break
            line = _LINE(data, position) if most else None
            if line is None:
                if _BEGINNING(data, position) is not None:
                    self._held = data[position:]
                else:
                    self.rest = data[position:]
                break
            position = line.end()
            if line[1] is None:
                self.ended, self.rest = True, data[position:]
                break
            left = int(line[1], 16)
        self._left = left
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
