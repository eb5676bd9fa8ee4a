"""One worker as its supervisor sees it: a process, a channel, and what it last said.

Starts, asks and ends one process; when there should be one is the supervisor's business.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from gateway.process.channel import Channel
from gateway.process.merged_metrics import Wire
from gateway.server.sockets.listen import SharedAddress
from gateway.tasks import go_on_after, spawn

#: How long a worker may take to answer the supervisor, in seconds.
WORKER_ANSWER_SECONDS = 1.0

#: How long what an ended process had sent may take to be read, in seconds.
_LAST_WORDS_SECONDS = 1.0


class WorkerProcess:
    """A worker process, which stands by until the supervisor lets it begin.

    Attributes:
        pid: its process id.
        loaded: it has been heard of: nothing is left to load before it can begin.
        listening: it accepts connections.
        served: it has done so.
        metrics: what it had counted when it was last asked, or when it ended in order.
    """

    def __init__(self, process: asyncio.subprocess.Process, channel: Channel) -> None:
        self.pid = process.pid
        self.loaded = self.listening = self.served = False
        self.metrics: Wire = []
        self._process = process
        self._channel = channel
        self._questions = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._on_listening: Callable[[], None] = lambda: None
        self._reader = spawn(self._read(), f"channel of process {process.pid}")

    @classmethod
    async def start(cls, shared: Sequence[SharedAddress], listed: str) -> WorkerProcess:
        """Start a process.

        Settings go over its channel: every user of the machine can read the command line.

        Args:
            shared: the addresses that it will listen on.
            listed: where the list of its features stands, as "module:name".

        Raises:
            OSError: the system does not permit another process.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            inherited = [theirs.fileno(), *(one.fileno for one in shared if one.fileno >= 0)]
            try:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, *_flags(), "-m", "gateway.process.worker", str(theirs.fileno()), listed),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=inherited,
                    start_new_session=True,  # Ctrl-C is for the supervisor, which passes it on
                )
            except BaseException:
                ours.close()
                raise
        return cls(process, await Channel.open(ours))

    @property
    def alive(self) -> bool:
        """Whether the process has not ended; its channel may report the end before the system does."""
        return self._process.returncode is None and not self._reader.done()

    def begin(self, plan: dict[str, Any], on_listening: Callable[[], None]) -> None:
        """Tell it what to be; ``on_listening`` is called once it accepts connections."""
        self._on_listening = on_listening
        self._channel.send(plan)

    async def ask(self, page: str, *given: str) -> Any:
        """Return what it knows for a page; None when it does not answer in time, or is gone, or not there yet.

        Args:
            page: what is asked for.
            given: what the page needs to know.
        """
        if not self.listening or not self.alive:
            return None
        self._questions += 1
        number = self._questions
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._channel.send({"id": number, "page": page, "given": given})
        try:
            async with asyncio.timeout(WORKER_ANSWER_SECONDS):
                return await answer
        except TimeoutError:
            return None
        finally:
            del self._waiting[number]

    async def ended(self) -> int:
        """Wait for its end; return the exit code, or the number of the signal that ended it, negative."""
        code = await self._process.wait()
        self.listening = False
        await asyncio.wait({self._reader}, timeout=_LAST_WORDS_SECONDS)
        self._reader.cancel()
        await self._channel.close()
        return code

    async def kill(self) -> None:
        """End it at once."""
        self.signal(signal.SIGKILL)
        await self.ended()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def _read(self) -> None:
        try:
            while not await self._heard():
                pass
        finally:
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_result(None)

    async def _heard(self) -> bool:
        """Hear one message; return whether there will be no other. One that makes no sense is passed over."""
        try:
            self._hear(await self._channel.receive())
        except EOFError:
            return True
        except BaseException as error:
            await go_on_after(error, "channel of a worker")
        return False

    def _hear(self, message: dict[str, Any]) -> None:
        self.loaded = True
        if "listening" in message:
            self.listening = self.served = True
            self._on_listening()
        if message.get("page") == "metrics" and message["answer"] is not None:
            self.metrics = message["answer"]
        answer = self._waiting.get(message.get("id", 0))
        if answer is not None and not answer.done():
            answer.set_result(message["answer"])


def _flags() -> list[str]:
    """Let the worker import this very package, and not one that happens to lie in the current directory."""
    with suppress(OSError):
        if Path(__file__).parents[2].samefile(os.curdir):
            return []
    return ["-P"]
