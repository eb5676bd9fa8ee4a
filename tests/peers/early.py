"""Services that answer an upload before they have read it, and a count of the answers that arrive.

The applications are what people write: each refuses, or accepts, before it
reads. Whether the connection is closed then, and how, is the server's doing.
Run as a module for the long form::

    python -m tests.peers.early --tries 100
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import uvloop

from tests.peers.services import NODE, Service, service
from tests.support.clients.uploads import Uploaded, upload
from tests.support.gateways.running import running_gateway

#: What every refusal says.
REFUSAL = b"too large\n"

_WSGI = """
def application(environ, start_response):
    start_response("413 Content Too Large", [("Content-Type", "text/plain"), ("Content-Length", "10")])
    return [b"too large\\n"]
"""

_ASGI = """
async def application(scope, receive, send):
    if scope["type"] != "http":
        return
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"10")]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": b"too large\\n"})
"""

_DJANGO = """
from django.http import HttpResponse
from django.urls import re_path

DEBUG = False
ALLOWED_HOSTS = ["*"]
SECRET_KEY = "for tests"
ROOT_URLCONF = "application"
MIDDLEWARE = []
urlpatterns = [re_path("", lambda request: HttpResponse("too large\\n", status=413))]
"""

_HTTP_SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Refusing(BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(413)
        self.send_header("Content-Length", "10")
        self.end_headers()
        self.wfile.write(b"too large\\n")

    def log_message(self, *args):
        pass

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Refusing).serve_forever()
"""

_TORNADO = """
import sys
import tornado.ioloop
import tornado.web

@tornado.web.stream_request_body
class Refusing(tornado.web.RequestHandler):
    def prepare(self):
        self.set_status(413)
        self.finish("too large\\n")

    def data_received(self, chunk):
        pass

tornado.web.Application([("/.*", Refusing)]).listen(int(sys.argv[1]), "127.0.0.1")
tornado.ioloop.IOLoop.current().start()
"""

_NODE = """
require("http").createServer((request, response) => {
  response.writeHead(413, {"Content-Length": 10, "Connection": "close"});
  response.end("too large\\n");
}).listen(Number(process.argv[2]), "127.0.0.1");
"""

_ACCEPTING_NODE = """
require("http").createServer((request, response) => {
  response.writeHead(202, {"Content-Length": 9});
  response.end("accepted\\n");
  let read = 0;
  request.on("data", (data) => { read += data.length; });
  request.on("end", () => { console.log("read " + read); });
}).listen(Number(process.argv[2]), "127.0.0.1");
"""

_ACCEPTING_HTTP_SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Accepting(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.send_response(202)
        self.send_header("Content-Length", "9")
        self.end_headers()
        self.wfile.write(b"accepted\\n")
        chunked, read = "Content-Length" not in self.headers, 0
        while size := int(self.rfile.readline(), 16) if chunked else int(self.headers["Content-Length"]):
            while size:
                size -= len(piece := self.rfile.read(min(size, 65536)))
                read += len(piece)
            if not chunked:
                break
            self.rfile.readline()
        print("read", read, flush=True)
        self.close_connection = True

    def log_message(self, *args):
        pass

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Accepting).serve_forever()
"""

#: Applications that answer 202 at the head, and then read and say how much, by the server that runs them.
ACCEPTING: Mapping[str, str] = {"http.server": _ACCEPTING_HTTP_SERVER, "node": _ACCEPTING_NODE}

#: Applications that refuse, by the server that runs them.
REFUSING: Mapping[str, str] = {
    "gunicorn-sync": _WSGI,
    "gunicorn-gthread": _WSGI,
    "hypercorn": _ASGI,
    "django": _DJANGO,
    "http.server": _HTTP_SERVER,
    "tornado": _TORNADO,
    "node": _NODE,
}

#: Content in bytes: less than the express lane collects, and from a little more to much more.
SMALL = 50_000
SIZES = (100_000, 1_000_000, 3_000_000)


def refusing(name: str, folder: Path) -> Service:
    """Return a service that refuses uploads, not started yet."""
    return service(name, folder, REFUSING[name])


def accepting(name: str, folder: Path) -> Service:
    """Return a service that accepts before it reads, not started yet."""
    return service(name, folder, ACCEPTING[name])


async def uploads(port: int, sizes: Sequence[int]) -> list[tuple[int, bool, Uploaded]]:
    """Upload each size with a length and in chunks, one after the other; return size, chunked and outcome."""
    return [
        (size, chunked, await asyncio.to_thread(upload, port, size, chunked=chunked))
        for size in sizes
        for chunked in (False, True)
    ]


def verdict(outcome: Uploaded) -> str:
    """Return what a client would say of an upload that was refused."""
    if outcome.status != 413:
        return str(outcome.status or "lost")
    return "answered" if outcome.body == REFUSAL else "head only"


async def _count(port: int, tries: int, sizes: Sequence[int]) -> list[str]:
    counts: dict[tuple[int, bool], Counter[str]] = {}
    for _ in range(tries):
        for size, chunked, outcome in await uploads(port, sizes):
            counts.setdefault((size, chunked), Counter())[verdict(outcome)] += 1
    return [
        f"{size:>10} {'chunked' if chunked else 'length':7}  {dict(count)}" for (size, chunked), count in counts.items()
    ]


async def _table(names: Sequence[str], tries: int, sizes: Sequence[int]) -> None:
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            async with refusing(name, Path(folder) / "service") as running:
                print(name, "directly", *await _count(running.port, tries, sizes), sep="\n", flush=True)
                for lane in ("express", "full"):
                    server = {"express": lane == "express"}
                    public = ({"path": "/", "auth": "public"},)
                    async with running_gateway(running.url, Path(folder), routes=public, server=server) as gateway:
                        lines = await _count(gateway.app.port, tries, sizes)
                        print(name, f"through the gateway, {lane} lane", *lines, sep="\n", flush=True)


def main() -> None:
    """Print, for each service, how many of its answers reached the client."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--tries", type=int, default=100)
    parser.add_argument("--services", nargs="*", default=[name for name in REFUSING if name != "node" or NODE])
    parser.add_argument("--sizes", type=int, nargs="*", default=[SMALL, *SIZES, 20_000_000])
    arguments = parser.parse_args()
    uvloop.run(_table(arguments.services, arguments.tries, arguments.sizes))


if __name__ == "__main__":
    main()
