"""The scenarios: what is sent to whom, and what must come out. Only declarations live here."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.model import (
    ANSWERED,
    BESIDE,
    BYTES,
    LAG,
    OFFERED,
    P50,
    P99,
    RATE,
    READY,
    RESIDENT,
    Contender,
    Goal,
    Scenario,
)
from benchmarks.peers.base import Setup
from benchmarks.traffic import Sends

HOT, NEW, NONE, FORGED = Sends(), Sends("new"), Sends("none"), Sends("forged")

#: Opaque tokens that nobody issued, offered each second beside hot JWTs.
FLOOD_RATE = 10_000

#: Tokens with bad signatures that are offered each second beside hot ones.
ATTACK_RATE = 500


def everyone(sends: Sends, *names: str, setup: Setup | None = None) -> dict[str, Contender]:
    """Return a row for each of these peers, all with the same traffic."""
    return {name: Contender(name, sends, setup or Setup()) for name in names}


def attacked(name: str, title: str) -> Contender:
    """Return a row of hot tokens beside bad ones."""
    return Contender(name, HOT, title=title, beside=FORGED, beside_rate=ATTACK_RATE)


def flooded(beside: Sends, title: str) -> Contender:
    """Return a row of hot JWTs beside a flood of what is refused."""
    return Contender("gateway", _EITHER, _OPAQUE, title, 32, beside, FLOOD_RATE, 64)


def response(name: str, title: str, *goals: Goal) -> Scenario:
    """Return a scenario of a response of some size."""
    rows = everyone(Sends(target=f"/{name}"), "gateway", "envoy-cache", "haproxy", "nginx", "naive")
    about = "One good token; the service answers from a file with sendfile."
    return Scenario(f"response-{name}", title, about, rows, metrics=(BYTES, RATE), goals=goals)


def post(name: str, size: int, *goals: Goal) -> Scenario:
    """Return a scenario of uploads of some size."""
    rows = everyone(Sends(body=size), "gateway", "envoy-cache", "haproxy", "nginx", "naive", "node")
    about = f"One good token; the content has {size:,} bytes and a Content-Length; the answer has 123."
    return Scenario(f"post-{name}", f"POST {size >> 10} KiB", about, rows, goals=goals)


def new_tokens(algorithm: str, *goals: Goal) -> Scenario:
    """Return the scenario in which no cache can help."""
    names = ("gateway", "envoy", "envoy-cache", "haproxy", "naive", "node")
    about = (
        "A pool of 40,000 tokens in turn, all signed by one key. No cache here holds more than 10,000, so none has "
        "seen a token that comes again."
    )
    rows = everyone(NEW, *names, setup=Setup(algorithm=algorithm))
    return Scenario(f"new-{algorithm.lower()}", f"every token new, {algorithm}", about, rows, goals=goals)


_ROTATING = Setup(cache_size=20_000)
_OPAQUE, _EITHER = Setup(opaque=True), Sends(target="/either/1")
_MADE_UP = replace(_EITHER, credential="made-up")
_TWO = Setup(workers=2, pinned=False)
_MEMORY_ROWS = ("gateway", "envoy-cache", "haproxy", "naive")  # the last one needs a quarter of an hour for a million

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        "hot",
        "hot token GET",
        "One good token in every request, an answer of 123 bytes of JSON.",
        everyone(HOT, "gateway", "gateway-full-lane", "envoy-cache", "envoy", "haproxy", "nginx", "naive", "node"),
        goals=(
            Goal("gateway", "envoy-cache", 1.5, 2.0),
            Goal("gateway", "haproxy", 1.4, 1.9),
            Goal("gateway", "naive", 5.0),
            Goal("gateway", "nginx", None, 0.7),
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
    new_tokens("RS256", Goal("gateway", "envoy", 1.2, 1.6), Goal("gateway", "haproxy", 0.55, 0.8)),
    new_tokens("ES256"),
    post("1k", 1 << 10, Goal("gateway", "envoy-cache", 1.3, 1.8)),
    post("64k", 64 << 10),
    response("10k", "response 10 KiB"),
    response("1m", "response 1 MiB", Goal("gateway", "envoy-cache", 0.8, 1.0, BYTES)),
    Scenario(
        "routes",
        "10, 100, 1,000 routes",
        "One good token; the path matches the last route.",
        {
            f"{count}": Contender(
                "gateway", Sends(target=f"/r{count - 2}/1"), Setup(routes=count), f"this gateway, {count:,} routes"
            )
            for count in (10, 100, 1000)
        },
        goals=(Goal("1000", "10", 0.95),),
    ),
    Scenario(
        "connections",
        "1, 100, 1,000 connections",
        "One good token on so many client connections, one request at a time on each.",
        {
            f"{name}-{count}": Contender(name, HOT, connections=count, title=f"{title}, {count:,}")
            for count in (1, 100, 1000)
            for name, title in (("gateway", "this gateway"), ("envoy-cache", "Envoy with token cache"))
        },
    ),
    Scenario(
        "no-token",
        "refused: no token",
        "No Authorization; every answer is 401.",
        {
            "hot": Contender("gateway", HOT, title="this gateway, hot token served"),
            **everyone(NONE, "gateway", "envoy-cache", "haproxy", "naive", "node"),
        },
        goals=(Goal("gateway", "hot", 1.5), Goal("gateway", "envoy-cache", 1.0, 1.3)),
    ),
    Scenario(
        "bad-signature",
        "refused: bad signature",
        "A known kid and each time another signature that is wrong, so that no answer can be remembered; 401.",
        {
            "new": Contender("gateway", NEW, title="this gateway, every token new and good"),
            **everyone(FORGED, "gateway", "envoy", "haproxy", "naive", "node"),
        },
        goals=(Goal("gateway", "new", 1.0),),
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
        "generator's core: in one row the same load is offered to a socket that nobody reads.",
        {
            "alone": Contender("gateway", _EITHER, _OPAQUE, "this gateway, JWTs alone"),
            "unread": replace(
                flooded(_MADE_UP, "this gateway, JWTs alone, the load offered to nobody"), beside_unread=True
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
        "no-keepalive",
        "keep-alive off",
        "One good token; each request on a client connection of its own.",
        everyone(Sends(close=True), "gateway", "envoy-cache", "haproxy", "nginx", "naive", "node"),
    ),
    Scenario(
        "tls",
        "TLS to the client",
        "One good token over kept connections with TLS, an ECDSA P-256 certificate; the service speaks plain HTTP.",
        everyone(HOT, "gateway", "envoy-cache", "haproxy", "nginx", "naive", "node", setup=Setup(tls=True)),
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
        goals=(Goal("two", "one", 1.2, 1.4),),
    ),
    Scenario(
        "memory",
        "memory after 10,000 tokens",
        "A fresh process gets 10,000 RS256 tokens once each; caches hold 10,000. Then its resident memory is read.",
        everyone(Sends("new", tokens=10_000), *_MEMORY_ROWS),
        kind="memory",
        metrics=(RESIDENT,),
        goals=(Goal("gateway", "", 80, 60, RESIDENT),),
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
        "startup",
        "start-up time",
        "From the start of the process to its first 200 for a good token.",
        everyone(HOT, "gateway", "envoy-cache", "haproxy", "nginx", "naive", "node"),
        kind="startup",
        metrics=(READY,),
    ),
)

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}

#: Small and whole: for the test that keeps the suite alive.
SELF_TEST = Scenario(
    "self-test",
    "this gateway and the naive proxy, briefly",
    "One good token.",
    everyone(HOT, "gateway", "naive"),
    metrics=(RATE,),
    goals=(Goal("gateway", "naive", 1.0),),
)
