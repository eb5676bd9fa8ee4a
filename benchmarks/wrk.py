"""wrk, where it is installed: a Lua script made of the same ``Traffic``, and its outcome."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from benchmarks.affinity import pinned
from benchmarks.load import Outcome
from benchmarks.traffic import DIGITS, Traffic

_SAME = "wrk.format = function() return before .. after end\n"
_COUNTED = """\
local number = {first}
function request()
  number = number + 1
  return before .. string.format("%0{digits}d", number) .. after
end
"""
_POOL = """\
local requests = {{}}
for line in io.lines({pool}) do
  requests[#requests + 1] = before .. line .. after
  if #requests == {size} then break end
end
local number = {first} % #requests
function request()
  number = number + 1
  if number > #requests then number = 1 end
  return requests[number]
end
"""
_REQUESTS = """\
local befores, betweens, afters, number, following = {{}}, {{}}, {{}}, {first}, 0
local file = io.open({file}, "rb")
for message in file:read("*a"):gmatch("([^\\2]+)\\2") do
  local count = #befores + 1
  befores[count], betweens[count], afters[count] = message:match("^([^\\1]*)\\1([^\\1]*)\\1([^\\1]*)$")
end
file:close()
following = number % #befores
collectgarbage("setpause", 1000)
function request()
  following = following % #befores + 1
  local text = string.format("%0{digits}d", number)
  number = number + 1
  return befores[following] .. text .. betweens[following] .. text .. afters[following]
end
"""
_DONE = """\
function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\\n{{"answers":%d,"refusals":%d,"received":%.0f,"us":%d,"p50":%f,"p99":%f,"most":%f,' ..
    '"connect":%d,"read":%d,"write":%d,"timeout":%d}}\\n',
    summary.requests, e.status, summary.bytes, summary.duration,
    latency:percentile(50), latency:percentile(99), latency.max, e.connect, e.read, e.write, e.timeout))
end
"""


def found() -> str | None:
    """Return where wrk is, or None."""
    return shutil.which("wrk")


def version() -> str:
    """Return what wrk calls itself."""
    ended = subprocess.run([found() or "wrk", "-v"], capture_output=True, text=True, check=False)
    return ended.stdout.split("\n")[0].removeprefix("wrk ").partition(" [")[0]


def script(traffic: Traffic) -> str:
    """Return the Lua script that sends this traffic and prints the outcome as the last line."""
    text = f"local before, after = {_quoted(traffic.before)}, {_quoted(traffic.after)}\n"
    if traffic.requests is not None:
        file = _quoted(str(traffic.requests).encode())
        text += _REQUESTS.format(file=file, first=traffic.first, digits=DIGITS)
    elif traffic.counted:
        text += _COUNTED.format(first=traffic.first - 1, digits=DIGITS)
    elif traffic.pool is None:
        text += _SAME
    else:
        text += _POOL.format(pool=_quoted(str(traffic.pool).encode()), size=traffic.size, first=traffic.first)
    return text + _DONE.format()


def run(
    traffic: Traffic, port: int, *, tls: bool, connections: int, seconds: float, core: int | None, folder: Path
) -> Outcome:
    """Run wrk with one thread; ``seconds`` are whole ones.

    Raises:
        subprocess.CalledProcessError: wrk failed.
    """
    file = folder / "wrk.lua"
    file.write_text(script(traffic), "latin-1")
    url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/"
    command = [found() or "wrk", "-t1", f"-c{connections}", f"-d{int(seconds)}s", "-s", str(file), url]
    with pinned(core):
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
    return parse(ended.stdout)


def parse(output: str) -> Outcome:
    """Read the line that ``script`` prints at the end."""
    said = json.loads(output.rstrip().rpartition("\n")[2])
    return Outcome(
        answers=said["answers"],
        refusals=said["refusals"],
        received=said["received"],
        seconds=said["us"] / 1e6,
        failures={name: said[name] for name in ("connect", "read", "write", "timeout") if said[name]},
        latencies={name: said[name] / 1e3 for name in ("p50", "p99", "most")},
    )


def _quoted(data: bytes) -> str:
    """Return a Lua string literal of these bytes."""
    return (
        '"' + "".join(chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03}" for byte in data) + '"'
    )
