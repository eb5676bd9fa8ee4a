"""The worker's side: what it receives and answers, and how it writes where others write. Its life: test_workers."""

from __future__ import annotations

import os
import select
import socket
import threading
from pathlib import Path

import pytest

from gateway.process import worker
from gateway.process.channel import Channel
from gateway.process.worker import whole_lines
from gateway.tasks import cancelled, failures, spawn


def test_lines_of_several_writers_stay_whole_in_a_pipe() -> None:
    """A late reader makes long writes go in parts; the parts are lines."""
    reading, writing = os.pipe()
    writers, lines, length = 4, 400, 300

    def write(letter: str) -> None:
        out = whole_lines(writing)
        for _ in range(lines // 40):
            out.write(40 * (letter * length + "\n"))  # 12 kB: three times what a pipe keeps together
            out.flush()

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    data = b""
    while len(data) < writers * lines * (length + 1):
        data += os.read(reading, 1000)
    for thread in threads:
        thread.join()
    os.close(reading)
    os.close(writing)
    found = data.decode().splitlines()
    assert len(found) == writers * lines
    assert all(line == line[0] * length for line in found)


@pytest.mark.parametrize("text", ["", "a\n", "x" * 10_000 + "\n", "no end", "a\n" * 5000 + "x" * 9000 + "\nb\n"])
def test_everything_is_written(text: str, tmp_path: Path) -> None:
    file = tmp_path / "log"
    with file.open("wb") as out:
        lines = whole_lines(out.fileno())
        assert lines.write(text) == len(text)
        lines.flush()
        assert file.read_text() == text  # nothing waits in memory


def test_each_write_ends_with_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """POSIX write: up to PIPE_BUF bytes are kept together."""
    written: list[bytes] = []

    def write(descriptor: int, data: memoryview) -> int:
        written.append(bytes(data[:3000]))  # and not all at once
        return len(written[-1])

    monkeypatch.setattr(os, "write", write)
    whole_lines(1).write(20 * ("x" * 999 + "\n"))
    assert b"".join(written) == 20 * (b"x" * 999 + b"\n")
    assert all(len(piece) <= select.PIPE_BUF and piece.endswith(b"\n") for piece in written)


def test_reader_that_is_gone_is_an_error_for_the_log_to_count() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(BrokenPipeError):
        whole_lines(writing).write("a\n")
    os.close(writing)


async def test_page_that_fails_is_no_answer_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> object:
        raise ValueError("s3cret")

    ours, theirs = socket.socketpair()
    supervisor, channel = await Channel.open(ours), await Channel.open(theirs)
    answering = spawn(worker.answer_supervisor(channel, {"status": fails, "metrics": lambda: [1]}), "answers")
    for number, page in enumerate(("status", "metrics", "nonsense", "metrics")):
        supervisor.send({"id": number, "page": page})
    answers = [await supervisor.receive() for _ in range(4)]
    assert [answer["answer"] for answer in answers] == [None, [1], None, [1]]
    assert [answer["id"] for answer in answers] == [0, 1, 2, 3]
    assert "page status: ValueError" in caplog.text
    assert "s3cret" not in caplog.text
    await cancelled(answering)
    await supervisor.close()
    await channel.close()


@pytest.mark.rule("R406")
async def test_a_question_that_makes_no_sense_is_passed_over() -> None:
    """The answers go on, or the worker would pass for dead."""
    before = failures["answers to the supervisor"]
    ours, theirs = socket.socketpair()
    ours.sendall((4).to_bytes(4, "big") + b"none")
    supervisor, channel = await Channel.open(ours), await Channel.open(theirs)
    answering = spawn(worker.answer_supervisor(channel, {"odd": object, "metrics": lambda: [1]}), "answers")
    supervisor.send({"page": "metrics"})
    supervisor.send({"id": 0, "page": "odd"})  # an answer that cannot be sent
    supervisor.send({"id": 1, "page": "metrics"})
    assert await supervisor.receive() == {"id": 1, "page": "metrics", "answer": [1]}
    assert failures["answers to the supervisor"] == before + 3
    await cancelled(answering)
    await supervisor.close()
    await channel.close()


async def test_end_of_the_supervisor_is_the_end_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    channel = await Channel.open(theirs)
    ours.close()

    def end(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", end)
    with pytest.raises(SystemExit, match="1"):
        await worker.answer_supervisor(channel, {})
    await channel.close()
