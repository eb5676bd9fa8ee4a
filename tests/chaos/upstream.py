"""An upstream that cannot be relied on: a process of its own, so that it can be killed and stopped.

It notes each POST in its journal before it answers. It answers right, or breaks
off, resets, talks nonsense, dawdles or says more than it was asked, as its seed
has it; after SIGUSR1 it only answers right. What it says is never wrong in a
way that no client could see: no false content of the right form.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import struct

from tests.chaos.content import EARLY, content, receipt

EARLY_HEAD = b"HTTP/1.1 418 Early\r\nContent-Length: %d\r\n\r\n" % len(EARLY)

#: The share of requests that are not simply answered.
MISCHIEF = 0.25


class Unreliable:
    """The state of one such process.

    Args:
        seed: of its whims.
        journal: a descriptor of the file that gets a line for each POST.
    """

    def __init__(self, seed: int, journal: int) -> None:
        self._chance = random.Random(seed)
        self._journal = journal
        self.calm = False
        self._whims = (
            self._closes,
            self._resets,
            self._talks_nonsense,
            self._breaks_off,
            self._breaks_off_by_reset,
            self._spoils_the_framing,
            self._says_more,
            self._dawdles,
            self._answers_twice_as_interim,
        )

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._one(reader, writer):
                await writer.drain()
        writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.split(b"\r\n", 1)[0].split(b" ")
        if method == b"POST":
            os.write(self._journal, target + b"\n")  # whole lines: one write each, to a file opened for appending
        chance = self._chance
        whim = None if self.calm or chance.random() >= MISCHIEF else chance.choice(self._whims)
        if whim is not None and chance.random() < 0.3:
            goes_on = await whim(writer, EARLY_HEAD, EARLY)
            if goes_on:
                await _content_of(head.lower(), reader)
            return goes_on
        body = await _content_of(head.lower(), reader)
        head_out, body_out = _answer(method, target, body)
        if whim is not None:
            return await whim(writer, head_out, body_out)
        writer.write(head_out + body_out)
        return True

    # --- whims: each gets the right answer and returns whether the connection goes on ---

    async def _closes(self, writer: asyncio.StreamWriter, head: bytes, body: bytes) -> bool:
        return False

    async def _resets(self, writer: asyncio.StreamWriter, head: bytes, body: bytes) -> bool:
        writer.get_extra_info("socket").setsockopt(1, 13, struct.pack("ii", 1, 0))  # SOL_SOCKET, SO_LINGER
        writer.transport.abort()
        return False

    async def _talks_nonsense(self, writer: asyncio.StreamWriter, head: bytes, body: bytes) -> bool:
        nonsense = [
            self._chance.randbytes(200),
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"HTTP/1.1 2000 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            b"\x00" * 100,
        ]
        writer.write(self._chance.choice(nonsense))
        return self._chance.random() < 0.5

    async def _breaks_off(self, writer: asyncio.StreamWriter, head: bytes, body: bytes) -> bool:
        whole = head + body
        writer.write(whole[: self._chance.randrange(len(whole))])
        return False

    async def _breaks_off_by_reset(self, writer: asyncio.StreamWriter, head: bytes, body: bytes) -> bool:
        await self._breaks_off(writer, head, body)
        await writer.drain()
        return await self._resets(writer, head, body)

    async def _spoils_the_framing(self, writer: asyncio.StreamWriter, head: bytes, body: bytes) -> bool:
        writer.write(b"HTTP/1.1 418 Early\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n%b\r\n" % EARLY[:5])
        too_long = b"3\r\n%bd\r\n" % EARLY[5:8]
        writer.write(self._chance.choice([b"xyz\r\n", too_long, b"-1\r\n\r\n", b"ffffffffffffffffff\r\n"]))
        return True

    async def _says_more(self, writer: asyncio.StreamWriter, head: bytes, body: bytes) -> bool:
        writer.write(head + body + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
        return True

    async def _dawdles(self, writer: asyncio.StreamWriter, head: bytes, body: bytes) -> bool:
        whole = head + body
        for start in range(0, len(whole), len(whole) // 3 + 1):
            writer.write(whole[start : start + len(whole) // 3 + 1])
            await writer.drain()
            await asyncio.sleep(self._chance.choice([0.05, 0.2, 1.5]))
        return True

    async def _answers_twice_as_interim(self, writer: asyncio.StreamWriter, head: bytes, body: bytes) -> bool:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 2 + head + body)
        return True


def _answer(method: bytes, target: bytes, body: bytes) -> tuple[bytes, bytes]:
    """Return head and content of the right answer."""
    if method != b"GET":
        digest = receipt(body)
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(digest), digest
    _, _, seed, size, framing = target.split(b"/")
    made = content(int(seed), int(size))
    if framing == b"length":
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(made), made
    chunks = (made[start : start + 8000] for start in range(0, len(made), 8000))
    coded = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", coded


async def _content_of(head: bytes, reader: asyncio.StreamReader) -> bytes:
    if b"\r\ntransfer-encoding: chunked\r\n" in head:
        body = b""
        while size := int((await reader.readuntil(b"\r\n"))[:-2], 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
        return body
    _, found, rest = head.partition(b"\r\ncontent-length: ")
    return await reader.readexactly(int(rest.partition(b"\r\n")[0])) if found else b""


async def _run(port: int, seed: int, journal: str) -> None:
    descriptor = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    upstream = Unreliable(seed, descriptor)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: setattr(upstream, "calm", True))
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", port, limit=1 << 20)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--journal", required=True)
    arguments = parser.parse_args()
    asyncio.run(_run(arguments.port, arguments.seed, arguments.journal))
