"""One worker: a gateway in a process of its own, on an address that it shares.

This file has the worker's side: what it receives at the start, the pages that
its supervisor asks for, and its end. It never outlives the supervisor. Signals
only begin a drain, however many come, because a service manager signals every
process of a group at once and the supervisor passes its own signals on as well;
a second signal is for the supervisor to act on.
"""

from __future__ import annotations

import asyncio
import ctypes
import io
import logging
import os
import select
import signal
import socket
import sys
from base64 import b64decode
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, TextIO, cast

from gateway.app import GatewayApp, Share
from gateway.configuration import composed_of
from gateway.process import standard_streams
from gateway.process.channel import Channel
from gateway.process.foreground import FAILED, OK, calm_collector, configure_logging, deaf, in_foreground
from gateway.process.merged_metrics import to_wire
from gateway.process.open_files import fit_open_files
from gateway.server.sockets.listen import SharedAddress
from gateway.tasks import cancelled, go_on_after, spawn, where

_log = logging.getLogger("gateway")

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Be a worker; the arguments are the number of the channel's descriptor, and where the list of features stands."""
    standard_streams.open_closed()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    end_with_parent()
    sys.exit(in_foreground(_work(socket.socket(fileno=int(sys.argv[1])), sys.argv[2])))


def end_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies, even if its event loop hangs then.

    Linux only; elsewhere the end of the channel must do.
    """
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):
        return


async def _work(end: socket.socket, listed: str) -> int:
    model = composed_of(listed)
    channel = await Channel.open(end)
    channel.send({"loaded": True})
    try:
        plan = await channel.receive()
    except EOFError:
        return OK  # it stood by, and was not needed
    settings = model.model_validate_json(plan["settings"])
    configure_logging(settings.server.log_level, f"worker {plan['worker']}")
    listen = tuple(SharedAddress(address, fileno) for address, fileno in plan["listen"])
    secret, pseudonym = bytes.fromhex(plan["secret"]), plan["pseudonym"].encode("ascii")
    share = Share(listen, plan["first_wait"], secret, pseudonym, plan["left"])
    del plan
    out = whole_lines(sys.stdout.fileno()) if sys.stdout else None
    app = GatewayApp(fit_open_files(settings), out=out, share=share)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await app.start()
    calm_collector()
    collector = app.admin.collector()
    pages: dict[str, Callable[..., Any]] = {
        "readiness": app.admin.readiness,
        "status": app.admin.status,
        "metrics": lambda: to_wire(collector.collect()),
        "estate": app.estate.open,
        "more": app.estate.more,
        "revoked": lambda records, epoch: app.revocations.take(b64decode(records), epoch.encode()),
    }
    answering = spawn(answer_supervisor(channel, pages), "answers to the supervisor")
    channel.send({"listening": app.port})
    _log.info("listening on %s, process %d", ", ".join(one.address for one in listen), os.getpid())
    try:
        await stopping.wait()
        await app.drain()
    finally:
        await app.stop()
    await cancelled(answering)
    channel.send({"page": "metrics", "answer": pages["metrics"]()})
    await channel.close()
    deaf()
    if app.log_stuck:
        os._exit(OK)
    return OK


async def answer_supervisor(channel: Channel, pages: Mapping[str, Callable[..., Any]]) -> None:
    """Answer the supervisor until it is gone; then end at once, as every part of a killed gateway does."""
    while True:
        try:
            question = await channel.receive()
            page, answer = question["page"], None
            try:
                answer = pages[page](*question.get("given", ()))
            except Exception as error:  # a fault on a page must not end a worker
                _log.error("page %s: %s", page, where(error))
            channel.send({"id": question["id"], "page": page, "answer": answer})
        except EOFError:
            os._exit(FAILED)
        except BaseException as error:
            await go_on_after(error, "answers to the supervisor")


class _WholeLines(io.RawIOBase):
    """A descriptor that several processes write lines to.

    A pipe keeps what is written in one go together up to ``PIPE_BUF`` bytes
    (POSIX ``write``); longer text goes in pieces that end with a line.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        left = memoryview(data)
        text = bytes(left)
        start = 0
        while start < len(text):
            end = len(text)
            if end - start > select.PIPE_BUF:
                end = text.rfind(b"\n", start, start + select.PIPE_BUF) + 1 or text.find(b"\n", start) + 1 or end
            start += os.write(self._descriptor, left[start:end])
        return len(text)


def whole_lines(descriptor: int) -> TextIO:
    """Return a file that writes whole lines at once to a descriptor which other processes write to as well.

    A single line above ``PIPE_BUF`` can be broken by others while the reader is late.
    """
    return io.TextIOWrapper(cast(BinaryIO, _WholeLines(descriptor)), encoding="utf-8", write_through=True)


if __name__ == "__main__":
    main()
