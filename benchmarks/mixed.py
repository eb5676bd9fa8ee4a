"""Real traffic: requests of many clients, as they come over the kept connections of a load balancer.

Makes the requests. Each client has its own token, browser or
library, language, cookies and address; what it sends varies in names, values and
order of its 10 to 14 header fields as such clients do, and each request has an
X-Request-Id or a traceparent, or both, that never comes again. The danger of this file
is traffic that some gateway likes: nothing in it depends on who is measured.

A file holds finished requests with two places each for a running number.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

#: Paths of the routes that it is spread over; the service answers below them with heads that vary.
PATHS = ("/orders", "/users", "/catalog", "/payments", "/search")

#: Clients, each with its token, and requests of each before the first one comes again.
CLIENTS, VISITS = 4_000, 3

#: In a file of requests: the place of the running number, and the end of a request.
MARK, END = b"\x01", b"\x02"

_BROWSERS = (
    (
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{} Safari/537.36",
        "Windows",
    ),
    (
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 Chrome/{} Safari/537.36",
        "macOS",
    ),
    ("Mozilla/5.0 (X11; Linux x86_64; rv:{0}) Gecko/20100101 Firefox/{0}", ""),
    (
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_6 like Mac OS X) AppleWebKit/605.1.15 Version/{} Safari/604.1",
        "",
    ),
)
_LIBRARIES = (
    "okhttp/{}",
    "python-requests/{}",
    "axios/{}",
    "Go-http-client/{}",
    "Dart/{} (dart:io)",
    "ShopApp/{} (Android 14)",
)
_LANGUAGES = ("en-US,en;q=0.9", "de-DE,de;q=0.9,en;q=0.8", "fr-FR,fr;q=0.9", "ja", "pt-BR,pt;q=0.8", "en-GB,en;q=0.7")
_ACCEPTED = ("application/json", "application/json, text/plain, */*", "*/*")

#: Names and values in the order in which they are sent.
Fields = list[tuple[str, str]]


class Client:
    """Someone who sends requests: what stays the same from one request to the next.

    Args:
        number: who it is; the same number is the same client in every run.
    """

    def __init__(self, number: int, token: str) -> None:
        self._choice = choice = random.Random(number)
        self._token = token
        self.address = f"203.{choice.randrange(256)}.{choice.randrange(256)}.{choice.randrange(1, 255)}"
        self._browser = choice.random() < 0.5
        pattern, self._platform = choice.choice(_BROWSERS) if self._browser else (choice.choice(_LIBRARIES), "")
        self._version = f"{choice.randrange(90, 140)}.0.{choice.randrange(7000)}.{choice.randrange(200)}"
        self._agent = pattern.format(self._version)
        self._language = choice.choice(_LANGUAGES)
        self._cookie = f"session={choice.getrandbits(128):032x}; theme={choice.choice(('light', 'dark'))}"
        self._rest = choice.sample(self._further(), 6)

    def _further(self) -> Fields:
        """Return fields of which each client has some."""
        choice, version = self._choice, self._version.partition(".")[0]
        if self._browser:
            return [
                ("Sec-Fetch-Mode", "cors"),
                ("Sec-Fetch-Site", "same-site"),
                ("Sec-Fetch-Dest", "empty"),
                ("sec-ch-ua-platform", f'"{self._platform or "Linux"}"'),
                ("sec-ch-ua", f'"Chromium";v="{version}", "Not.A/Brand";v="24"'),
                ("sec-ch-ua-mobile", choice.choice(("?0", "?1"))),
                ("DNT", "1"),
                ("Priority", "u=1, i"),
                ("Cookie", self._cookie),
                ("Origin", "https://shop.example.test"),
                ("Referer", f"https://shop.example.test/p/{choice.randrange(9000)}"),
            ]
        return [
            ("X-Client-Version", self._version),
            ("X-Device-Id", f"{choice.getrandbits(64):016x}"),
            ("X-Tenant", f"tenant-{choice.randrange(500)}"),
            ("X-Platform", choice.choice(("ios", "android", "server"))),
            ("X-Idempotency-Scope", choice.choice(("cart", "account"))),
            ("Cookie", self._cookie),
            ("Cache-Control", "no-cache"),
            ("Connection", "keep-alive"),
            ("X-Timezone", choice.choice(("UTC", "Europe/Berlin", "Asia/Tokyo"))),
        ]

    def request(self, *, body: int, proxied: bool) -> bytes:
        """Return a request with two places for a running number.

        Args:
            body: bytes of content of a POST; 0 = a GET.
            proxied: it comes through a proxy, which says so.
        """
        choice = self._choice
        fields: Fields = [
            ("Host", "api.example.test"),
            *self._usual(),
            *self._rest[: choice.randrange(3 if self._browser else 4, 7)],
        ]
        fields += self._traces()
        if body:
            fields.append(("Content-Type", "application/json"))
        tail = fields[2:]
        choice.shuffle(tail)
        fields[2:] = tail
        if body:
            fields.append(("Content-Length", str(body)))
        if proxied:
            fields += [("X-Forwarded-For", self.address), ("X-Forwarded-Proto", "https")]
        lines = [
            f"{'POST' if body else 'GET'} {self._target()} HTTP/1.1",
            *(f"{name}: {value}" for name, value in fields),
        ]
        return "\r\n".join([*lines, "", ""]).encode() + content(body)

    def _usual(self) -> Fields:
        """Return what every request of this client has."""
        usual = [("User-Agent", self._agent), ("Accept", self._choice.choice(_ACCEPTED))]
        usual += [("Accept-Encoding", "gzip, deflate, br"), ("Authorization", f"Bearer {self._token}")]
        return [*usual, ("Accept-Language", self._language)] if self._browser else usual

    def _traces(self) -> Fields:
        """Return the fields with the running number: two places, in one field or in two."""
        mark, choice = MARK.decode(), self._choice
        alone, trace = f"{choice.getrandbits(64):016x}", f"{choice.getrandbits(96):024x}"
        match choice.randrange(3):
            case 0:
                return [("X-Request-Id", f"{alone}{mark}{mark}")]
            case 1:
                return [("traceparent", f"00-{trace}{mark}-00f067aa{mark}-01")]
            case _:
                span = f"{choice.getrandbits(64):016x}"
                return [("X-Request-Id", f"{alone}{mark}"), ("traceparent", f"00-{trace}{mark}-{span}-01")]

    def _target(self) -> str:
        choice = self._choice
        path = f"{choice.choice(PATHS)}/{choice.randrange(100_000)}"
        match choice.randrange(4):
            case 0:
                return f"{path}/items?page={choice.randrange(50)}&sort=name"
            case 1:
                return f"{path}?fields=id,name"
            case _:
                return path


def content(size: int) -> bytes:
    """Return JSON of so many bytes."""
    return b'{"note":"' + b"x" * (size - 11) + b'"}' if size > 10 else b"x" * size


def requests(tokens: list[str], *, body: int, proxied: bool) -> Iterator[bytes]:
    """Yield the requests of as many clients as there are tokens, in an order in which none follows itself."""
    clients = [Client(number, token) for number, token in enumerate(tokens)]
    order = random.Random(len(tokens))
    for _ in range(VISITS):
        order.shuffle(clients)
        for client in clients:
            yield client.request(body=body, proxied=proxied)


def pool(tokens: Path, clients: int, *, body: int, proxied: bool) -> Path:
    """Return a file of requests beside a file of tokens; it is made when it is missing or out of date."""
    file = tokens.with_name(f"mixed-{clients}-{body}{'-proxied' if proxied else ''}.requests")
    made_of = max(source.stat().st_mtime for source in (tokens, Path(__file__)))
    if file.exists() and file.stat().st_mtime > made_of:
        return file
    with tokens.open("r", encoding="ascii") as lines:
        some = [line.rstrip("\n") for _, line in zip(range(clients), lines, strict=False)]
    unfinished = file.with_suffix(".part")
    unfinished.write_bytes(b"".join(each + END for each in requests(some, body=body, proxied=proxied)))
    unfinished.replace(file)
    return file


def read(file: Path) -> list[list[bytes]]:
    """Return each request of a file as the three pieces around its running numbers."""
    return [message.split(MARK) for message in file.read_bytes().split(END)[:-1]]


def numbered(file: Path, first: int, digits: int) -> Callable[[], bytes]:
    """Return a function that gives one request after the other, from the first one on, and then again.

    Args:
        first: how many were sent before: the running number goes on.
    """
    pieces = read(file)
    count, number = len(pieces), first

    def following() -> bytes:
        nonlocal number
        before, between, after = pieces[number % count]
        text = b"%0*d" % (digits, number)
        number += 1
        return before + text + between + text + after

    return following
