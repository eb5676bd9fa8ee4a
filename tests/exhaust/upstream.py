"""The upstream of a gateway that is attacked, in a process of its own; ``python -m tests.exhaust.upstream [--nice N]``.

It serves ``/slow`` after five seconds, reads all of ``/sink`` and never answers, answers ``/big`` without an end, and
everything else with ``hello``. Prints its port.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import sys

import uvloop

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
BIG = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n"
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one connection until it ends."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            target = head.split(b" ", 2)[1]
            if target == b"/sink":
                while await reader.read(1 << 18):
                    pass
                break
            await _content(head, reader)
            if target == b"/big":
                writer.write(BIG)
                while True:
                    writer.write(b"a" * (1 << 16))
                    await writer.drain()
            if target == b"/slow":
                await asyncio.sleep(5)
            writer.write(HELLO)
            await writer.drain()
    writer.close()


async def _content(head: bytes, reader: asyncio.StreamReader) -> None:
    if found := _LENGTH.search(head):
        await reader.readexactly(int(found[1]))
    elif b"\r\ntransfer-encoding:" in head.lower():
        while size := int(await reader.readuntil(b"\r\n"), 16):
            await reader.readexactly(size + 2)
        await reader.readexactly(2)


async def main() -> None:
    """Run the command line; it ends with its standard input."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--nice", type=int, default=0)
    os.nice(parser.parse_args().nice)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1000, limit=1 << 17)
    print(f"port {server.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)  # connections that still write would hold it up


if __name__ == "__main__":
    uvloop.run(main())
