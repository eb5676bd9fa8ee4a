"""The scenarios: what is sent to whom, and what must come out. Only declarations live here."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.mixed import PATHS
from benchmarks.model import (
    ANSWERED,
    BESIDE,
    BYTES,
    LAG,
    OFFERED,
    P50,
    P99,
    PER_CONNECTION,
    PER_TOKEN,
    RATE,
    READY,
    RESIDENT,
    Contender,
    Goal,
    Scenario,
)
from benchmarks.peers import PEERS
from benchmarks.peers.base import Setup
from benchmarks.traffic import Sends

HOT, NEW, NONE, FORGED = Sends(), Sends("new"), Sends("none"), Sends("forged")

#: What kept connections of a load balancer carry, and the routes that it goes to.
MIXED, ROUTED = Sends(mixed=True), Setup(paths=PATHS)

#: Refused requests that are offered each second beside good callers, and those on connections of their own.
FLOOD_RATE, CONNECTING_RATE = 10_000, 2_000

#: Tokens with bad signatures that are offered each second beside hot ones.
ATTACK_RATE = 500

#: Client connections at once.
CONNECTIONS = (1, 100, 1_000, 5_000)


def everyone(sends: Sends, *names: str, setup: Setup | None = None) -> dict[str, Contender]:
    """Return a row for each of these peers, all with the same traffic."""
    return {name: Contender(name, sends, setup or Setup()) for name in names}


def unlogged(sends: Sends, *names: str, setup: Setup | None = None) -> dict[str, Contender]:
    """Return a row for each of these peers without an access log; its name and title say so."""
    return {
        f"{name}-no-log": Contender(
            name, sends, replace(setup or Setup(), log=False), f"{PEERS[name].title}, access log off"
        )
        for name in names
    }


def attacked(name: str, title: str) -> Contender:
    """Return a row of hot tokens beside bad ones."""
    return Contender(name, HOT, title=title, beside=FORGED, beside_rate=ATTACK_RATE)


def flooded(beside: Sends, title: str) -> Contender:
    """Return a row of hot JWTs beside a flood of what is refused."""
    return Contender("gateway", _EITHER, _OPAQUE, title, 32, beside, FLOOD_RATE, 64)


def beside(flood: Sends, title: str, rate: int = FLOOD_RATE, *, unread: bool = False) -> Contender:
    """Return a row of real traffic beside 64 connections of what is refused."""
    return Contender("gateway", MIXED, ROUTED, f"this gateway, {title}", 32, flood, rate, 64, unread)


def response(name: str, title: str, *goals: Goal) -> Scenario:
    """Return a scenario of a response of some size."""
    rows = everyone(Sends(target=f"/{name}"), "gateway", "envoy-cache", "haproxy", "nginx", "naive")
    about = "One good token; the service answers from a file with sendfile."
    return Scenario(f"response-{name}", title, about, rows, metrics=(BYTES, RATE), goals=goals)


def new_tokens(algorithm: str, *goals: Goal) -> Scenario:
    """Return the scenario in which no cache can help."""
    names = ("gateway", "gateway-3.14", "envoy", "envoy-cache", "haproxy", "naive", "node")
    about = (
        "A pool of 40,000 tokens in turn, all signed by one key. No cache here holds more than 10,000, so none has "
        "seen a token that comes again."
    )
    rows = everyone(NEW, *names, setup=Setup(algorithm=algorithm))
    return Scenario(f"new-{algorithm.lower()}", f"every token new, {algorithm}", about, rows, goals=goals)


def routes(count: int) -> Contender:
    """Return a row of a gateway with so many routes, of which the last one matches."""
    setup, title = Setup(routes=count), f"this gateway, {count:,} routes"
    return Contender("gateway", Sends(target=f"/r{count - 2}/1"), setup, title)


_ROTATING = Setup(cache_size=20_000)
_OPAQUE, _EITHER = Setup(opaque=True), Sends(target="/either/1")
_MADE_UP = replace(_EITHER, credential="made-up")
_TWO = Setup(workers=2, pinned=False)
_MEMORY_ROWS = ("gateway", "envoy-cache", "haproxy", "naive")  # the last one needs a quarter of an hour for a million
_CLOSING = Sends(close=True)
_SOMEONE = "the tokens of 4,000 clients in turn, browsers and libraries, each with its own 10 to 14 header fields"

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "mixed",
        "real traffic: many clients over kept connections",
        f"32 connections such as a load balancer keeps, and over them {_SOMEONE}; several routes, ids that never come "
        "again, and answers whose length, ETag and Set-Cookie vary. All tokens are in the caches.",
        {
            **everyone(MIXED, "gateway", setup=ROUTED),
            **unlogged(MIXED, "gateway", setup=ROUTED),
            **everyone(MIXED, "gateway-full-lane", "gateway-3.14", "envoy-cache", "haproxy", setup=ROUTED),
            **everyone(MIXED, "naive", "node", "sketch", "plain", "nginx", "direct", setup=ROUTED),
        },
        goals=(
            Goal("gateway", "envoy-cache", 1.8, 2.1),
            Goal("gateway", "haproxy", 1.2, 1.4),
            Goal("gateway", "sketch", 0.7, 0.85),
            Goal("gateway", "gateway-no-log", 0.8, 0.88),
            Goal("gateway-full-lane", "naive", None, 2.0),
        ),
    ),
    Scenario(
        "mixed-proxied",
        "real traffic behind a trusted proxy",
        "The same, and every gateway believes the proxy before it: X-Forwarded-For names the client of each request.",
        {
            "mixed": Contender("gateway", MIXED, ROUTED, "this gateway, no proxy before it"),
            **everyone(
                replace(MIXED, proxied=True),
                *("gateway", "envoy-cache", "haproxy", "nginx"),
                setup=replace(ROUTED, trusted=True),
            ),
        },
        goals=(Goal("gateway", "mixed", 0.85, 0.95),),
    ),
    Scenario(
        "mixed-chunked",
        "real traffic, answers in chunks",
        "The same, and the service answers in chunks, as most frameworks do.",
        everyone(
            MIXED,
            *("gateway", "gateway-full-lane", "envoy-cache", "haproxy", "naive", "node", "plain", "nginx", "direct"),
            setup=replace(ROUTED, chunked=True),
        ),
        goals=(Goal("gateway", "envoy-cache", 1.2, 1.8),),
    ),
    Scenario(
        "mixed-latency",
        "real traffic: latency at half of this gateway's maximum",
        "The same, open loop: requests are due at fixed times, the same for every row, and a latency counts from the "
        "time when the request was due.",
        everyone(MIXED, "gateway", "envoy-cache", "haproxy", "nginx", setup=ROUTED),
        kind="latency",
        metrics=(P99, P50, OFFERED, ANSWERED, LAG),
        goals=(Goal("gateway", "envoy-cache", 1.0, 0.5, P99), Goal("gateway", "haproxy", 1.0, 0.5, P99)),
    ),
    Scenario(
        "hot",
        "hot token GET",
        "One good token in every request, an answer of 123 bytes of JSON: the best case of every cache.",
        {
            **everyone(HOT, "gateway", "gateway-full-lane", "gateway-3.14", "envoy-cache", "envoy", "haproxy"),
            **everyone(HOT, "naive", "node", "sketch", "plain", "nginx", "direct"),
            **unlogged(HOT, "gateway", "envoy-cache", "haproxy", "nginx"),
        },
        goals=(
            Goal("gateway", "envoy-cache", 2.0, 2.4),
            Goal("gateway", "haproxy", 1.8, 2.1),
            Goal("gateway", "gateway-no-log", 0.8, 0.88),
            Goal("gateway-no-log", "envoy-cache-no-log", 2.3, 2.7),
            Goal("gateway-no-log", "nginx-no-log", 0.45, 0.5),
            Goal("gateway", "naive", 5.0),
            Goal("gateway-full-lane", "naive", 1.5),
        ),
    ),
    Scenario(
        "rotating",
        "10,000 rotating tokens",
        "10,000 good tokens in turn; the caches of this gateway, of Envoy and of the naive proxy hold 20,000.",
        {
            "hot": Contender("gateway", HOT, _ROTATING, "this gateway, one token"),
            **everyone(Sends("rotating"), "gateway", "envoy-cache", "haproxy", "naive", setup=_ROTATING),
        },
        goals=(Goal("gateway", "hot", 0.9, 1.0),),
    ),
    new_tokens("RS256", Goal("gateway", "envoy", 1.5, 1.8), Goal("gateway", "haproxy", 0.7, 0.85)),
    new_tokens("ES256", Goal("gateway", "envoy", 1.3, 1.5)),
    Scenario(
        "new-connections",
        "a new connection for each request",
        "One good token; each request on a client connection of its own.",
        everyone(_CLOSING, "gateway", "envoy-cache", "haproxy", "naive", "node", "sketch", "plain", "nginx", "direct"),
        goals=(Goal("gateway", "envoy-cache", 1.5, 2.0), Goal("gateway", "haproxy", 0.9, 1.2)),
    ),
    Scenario(
        "connections",
        "1, 100, 1,000, 5,000 connections",
        "One good token on so many client connections, one request at a time on each.",
        {
            f"{name}-{count}": Contender(name, HOT, connections=count, title=f"{PEERS[name].title}, {count:,}")
            for count in CONNECTIONS
            for name in ("gateway", "envoy-cache", "haproxy")
        },
        goals=(
            Goal("gateway-1000", "envoy-cache-1000", 2.0, 4.0),
            Goal("gateway-1000", "haproxy-1000", 1.0, 2.0),
            Goal("gateway-1000", "gateway-100", 0.6),
        ),
    ),
    Scenario(
        "post-1k",
        "POST 1 KiB",
        f"1,024 bytes of JSON with a Content-Length, {_SOMEONE}.",
        everyone(
            replace(MIXED, body=1 << 10),
            *("gateway", "envoy-cache", "haproxy", "naive", "node", "plain", "nginx", "direct"),
            setup=ROUTED,
        ),
        goals=(Goal("gateway", "envoy-cache", 1.6, 2.0),),
    ),
    Scenario(
        "post-64k",
        "POST 64 KiB",
        "One good token; the content has 65,536 bytes and a Content-Length; the answer has 123.",
        everyone(Sends(body=64 << 10), "gateway", "envoy-cache", "haproxy", "nginx", "naive", "node"),
    ),
    response("10k", "response 10 KiB"),
    response("1m", "response 1 MiB", Goal("gateway", "envoy-cache", 0.8, 1.0, BYTES)),
    Scenario(
        "routes",
        "10, 1,000, 10,000 routes",
        "One good token; the path matches the last route.",
        {f"{count}": routes(count) for count in (10, 1_000, 10_000)},
        goals=(Goal("10000", "10", 0.95),),
    ),
    Scenario(
        "no-token",
        "refused: no token",
        "No Authorization; every answer is 401.",
        {
            "hot": Contender("gateway", HOT, title="this gateway, hot token served"),
            **everyone(NONE, "gateway", "envoy-cache", "haproxy", "naive", "node"),
        },
        goals=(Goal("gateway", "hot", 1.5), Goal("gateway", "envoy-cache", 1.0, 1.4)),
    ),
    Scenario(
        "bad-signature",
        "refused: bad signature",
        "A known kid and each time another signature that is wrong, so that no answer can be remembered; 401.",
        {
            "new": Contender("gateway", NEW, title="this gateway, every token new and good"),
            **everyone(FORGED, "gateway", "envoy", "haproxy", "naive", "node"),
        },
        goals=(Goal("gateway", "new", 1.0), Goal("gateway", "envoy", 1.2, 1.6)),
    ),
    Scenario(
        "floods",
        "good callers beside floods of refused requests",
        f"Real traffic as fast as it goes; beside it 64 connections offer {FLOOD_RATE:,} requests a second that are "
        f"refused, or {CONNECTING_RATE:,} on connections of their own. To offer them takes time from clients and "
        "service, which share the generator's core, so the rates are compared with those beside the same load offered "
        "to a socket that is not read.",
        {
            "alone": Contender("gateway", MIXED, ROUTED, "this gateway, nothing beside it"),
            "unread": beside(NONE, "the flood sent elsewhere", unread=True),
            "forged": beside(FORGED, "bad signatures"),
            "nominating": beside(replace(FORGED, nominates=True), "bad signatures that name a field in Connection"),
            "no-token": beside(NONE, "no token"),
            "bad-paths": beside(Sends(target="/orders/..%2f1", misplaced=True), "bad paths with a good token"),
            "unread-slow": beside(NONE, "the slower flood sent elsewhere", CONNECTING_RATE, unread=True),
            "connecting": beside(replace(NONE, close=True), "no token, new connections", CONNECTING_RATE),
            "malformed": beside(
                Sends(close=True, malformed=True), "heads that cannot be read, new connections", CONNECTING_RATE
            ),
        },
        metrics=(RATE, BESIDE),
        goals=(
            *(Goal(kind, "unread", 0.8, 0.95) for kind in ("forged", "nominating", "no-token", "bad-paths")),
            *(Goal(kind, "unread-slow", 0.8, 0.95) for kind in ("connecting", "malformed")),
        ),
    ),
    Scenario(
        "attack",
        f"hot tokens while {ATTACK_RATE} bad signatures a second arrive",
        "One good token as fast as it goes; in the rows under attack, other connections offer tokens with bad "
        "signatures at a fixed rate. What is counted are the good requests.",
        {
            "gateway": Contender("gateway", HOT),
            "gateway-attacked": attacked("gateway", "this gateway, under attack"),
            "envoy-cache": Contender("envoy-cache", HOT),
            "envoy-attacked": attacked("envoy-cache", "Envoy with token cache, under attack"),
        },
        goals=(Goal("gateway-attacked", "gateway", 0.9),),
    ),
    Scenario(
        "opaque-flood",
        f"hot JWTs while {FLOOD_RATE:,} made-up opaque tokens a second arrive",
        "One good JWT as fast as it goes, on a route that takes opaque tokens, too; beside it other connections offer "
        "requests at a fixed rate. In one row they have no token; in another each has another opaque token, about "
        "which the issuer would have to be asked. To offer them takes time from clients and service, which share the "
        "generator's core: in one row the same load is offered to a socket that is not read.",
        {
            "alone": Contender("gateway", _EITHER, _OPAQUE, "this gateway, JWTs alone"),
            "unread": replace(
                flooded(_MADE_UP, "this gateway, JWTs alone, the load sent elsewhere"), beside_unread=True
            ),
            "no-token": flooded(replace(_EITHER, credential="none"), "this gateway, beside requests without a token"),
            "made-up": flooded(_MADE_UP, "this gateway, beside made-up tokens"),
        },
        metrics=(RATE, BESIDE),
        goals=(Goal("made-up", "unread", 0.9),),
    ),
    Scenario(
        "unique-header",
        "a unique header in every request",
        "One good token, and a header field whose value never comes again: nothing can be remembered by bytes.",
        {
            "hot": Contender("gateway", HOT, title="this gateway, equal requests"),
            **everyone(Sends(unique_header=True), "gateway", "envoy-cache", "haproxy", "nginx"),
        },
    ),
    Scenario(
        "tls",
        "TLS to the client",
        "One good token over kept connections with TLS, an ECDSA P-256 certificate; the service speaks plain HTTP.",
        everyone(HOT, "gateway", "envoy-cache", "haproxy", "nginx", "naive", "node", setup=Setup(tls=True)),
        goals=(Goal("gateway", "envoy-cache", 1.3, 1.6), Goal("gateway", "haproxy", 1.0)),
    ),
    Scenario(
        "latency",
        "latency at half of this gateway's maximum",
        "One good token, open loop: requests are due at fixed times, the same for every row, and a latency counts "
        "from the time when the request was due.",
        everyone(HOT, "gateway", "envoy-cache", "haproxy", "nginx"),
        kind="latency",
        metrics=(P99, P50, OFFERED, ANSWERED, LAG),
        goals=(Goal("gateway", "envoy-cache", 1.0, 0.5, P99),),
    ),
    Scenario(
        "workers",
        "two workers on both cores against one",
        "One good token; nothing is pinned: gateway, load and service share all cores.",
        {
            "one": Contender("gateway", HOT, replace(_TWO, workers=1), "this gateway, 1 worker", 64),
            "two": Contender("gateway", HOT, _TWO, "this gateway, 2 workers", 64),
        },
        goals=(Goal("two", "one", 1.4, 1.6),),
    ),
    Scenario(
        "memory",
        "memory after 10,000 tokens",
        "A fresh process gets 10,000 RS256 tokens once each; caches hold 10,000. Then its resident memory is read.",
        everyone(Sends("new", tokens=10_000), *_MEMORY_ROWS),
        kind="memory",
        metrics=(RESIDENT,),
        goals=(Goal("gateway", "", 70, 55, RESIDENT),),
    ),
    Scenario(
        "memory-million",
        "memory after 1,000,000 tokens",
        "A fresh process gets 1,000,000 ES256 tokens once each; caches hold 10,000. Then its resident memory is read.",
        everyone(Sends("new", tokens=1_000_000), *_MEMORY_ROWS[:3], setup=Setup(algorithm="ES256")),
        kind="memory",
        metrics=(RESIDENT,),
        optional=True,
    ),
    Scenario(
        "footprint",
        "memory of a kept connection and of a token",
        "Resident memory of a process with 4,500 kept connections over that with 500, each of which has had an answer; "
        "and after 24,000 RS256 tokens over that after 4,000, all of which its cache holds.",
        everyone(HOT, "gateway", "envoy-cache", setup=Setup(cache_size=30_000)),
        kind="footprint",
        metrics=(PER_CONNECTION, PER_TOKEN),
        goals=(Goal("gateway", "", 8.0, 5.0, PER_CONNECTION), Goal("gateway", "", 0.81, 0.7, PER_TOKEN)),
    ),
    Scenario(
        "startup",
        "start-up time",
        "From the start of the process to its first 200 for a good token.",
        everyone(HOT, "gateway", "envoy-cache", "haproxy", "nginx", "naive", "node"),
        kind="startup",
        metrics=(READY,),
        goals=(Goal("gateway", "", 0.6, 0.4, READY),),
    ),
)

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}

#: Small and whole: for the test that keeps the suite alive.
SELF_TEST = Scenario(
    "self-test",
    "this gateway, the naive and the plainest proxy, briefly",
    "Real traffic.",
    everyone(MIXED, "gateway", "naive", "plain", "direct", setup=ROUTED),
    metrics=(RATE,),
    goals=(Goal("gateway", "naive", 1.0),),
)
