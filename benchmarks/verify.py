"""The cost of the verification path alone: ``python -m benchmarks.verify``.

Measured are a cache hit, and a miss for each kind of signature; and the three
common refusals. In the same interleaved run stand two yardsticks: the bare
signature check of ``cryptography``, below which nothing can go, and PyJWT's
``decode``. Machines differ, so what counts is the ratios. Nothing of the
network or of HTTP is in here.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.environment import describe
from benchmarks.yardsticks import Step, bare_check, pyjwt_decode
from gateway.clock import SystemClock
from gateway.errors import GatewayError, Reason, Reasons
from gateway.jwt.authenticator import Authenticator
from gateway.jwt.claims.issuer_policy import IssuerPolicy, compile_policy
from gateway.jwt.claims.rules import check_claims, check_header, make_identity
from gateway.jwt.issuers.key_sources import Fetched
from gateway.jwt.issuers.refresher import IssuerKeys
from gateway.jwt.jose.compact import parse_token, verify_signature
from gateway.jwt.jose.keys import KeySet, import_jwks
from gateway.settings.tables.issuers import Issuer
from gateway.settings.tables.root import Settings
from gateway.settings.tables.routes import RouteSettings
from gateway.settings.tables.upstreams import UpstreamSettings
from tests.support.tokens.minting import AUDIENCE, ISSUER, SigningKey, b64, good_claims, jwks, mint_raw

#: The aims that the run is held against: microseconds, and a multiple of the bare check.
HIT_AIM, MISS_AIM = 3.0, 2.5

SIGNERS = {
    "RS256": SigningKey.rsa("rsa"),
    "ES256": SigningKey.ec("ec"),
    "EdDSA": SigningKey.ed25519("ed"),
    "PS256": SigningKey.rsa("rsa"),
}


class MemorySource:
    """Keys that are already there, for the refresher."""

    url = "memory:"

    async def fetch(self, *, discover: bool) -> Fetched:
        return Fetched(key_set(), 86400)

    async def read(self, document: bytes) -> KeySet:
        return key_set()

    async def close(self) -> None:
        pass


@dataclass
class Measured:
    """Microseconds a call, one number for each round."""

    rounds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)


def key_set() -> KeySet:
    """Return the published keys of all signers."""
    return import_jwks(jwks(*dict.fromkeys(SIGNERS.values())))


def make_settings() -> Settings:
    """Return the configuration under which everything is measured: the defaults, and four algorithms."""
    issuer = Issuer(name="main", issuer=ISSUER, audience=[AUDIENCE], algorithms=["RS256", "ES256", "EdDSA", "PS256"])
    upstream = UpstreamSettings(name="orders", urls=["http://127.0.0.1:9000"])
    route = RouteSettings(path="/", upstream="orders", claims={"role": ["merchant"]})
    return Settings(issuers=[issuer], upstreams=[upstream], routes=[route])


def make_token(algorithm: str, **overrides: Any) -> bytes:
    """Return a token such as identity providers issue: compact JSON, a dozen claims."""
    key = SIGNERS[algorithm]
    claims = good_claims(
        time.time(), jti="0b6f4f0c-7a55-4e0c-9c0a-6f9a3f0c8a11", client_id="shop", role="merchant", **overrides
    )
    header = {"alg": algorithm, "typ": "at+jwt", "kid": key.kid}
    compact = (",", ":")
    return mint_raw(
        key,
        json.dumps(header, separators=compact).encode(),
        json.dumps(claims, separators=compact).encode(),
        algorithm,
    )


def miss(token: bytes, policy: IssuerPolicy, keys: KeySet) -> object:
    """Verify a token that no cache knows: every step, as the gateway takes them."""
    unverified = parse_token(token, 8192)
    check_header(unverified, policy)
    check_claims(unverified, policy, time.time())
    verify_signature(unverified, keys.candidates(unverified.key_id, unverified.algorithm))
    return make_identity(unverified, policy)


def refused(step: Step, reason: Reason) -> Step:
    """Return ``step`` with its refusal caught, after one proof that it is the expected one."""

    def run() -> None:
        try:
            step()
        except GatewayError as refusal:
            if refusal.reason is not reason:
                raise
        else:
            raise AssertionError("this token must not pass")

    run()
    return run


def run_to_end(work: Any) -> object:
    """Run a coroutine that waits for nothing, without a loop."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("a verification with keys at hand must not wait")


async def loaded_authenticator() -> Authenticator:
    """Return an authenticator whose issuer has its keys, and whose refresher has ended."""
    settings, clock = make_settings(), SystemClock()
    keys = IssuerKeys(settings.issuers[0], MemorySource(), clock)
    keys.start()
    await keys.wait_until_loaded()
    await keys.stop()
    return Authenticator(settings, {"main": keys}, clock)


def make_steps() -> dict[str, Step]:
    """Return what is measured, by name; the yardsticks of an algorithm stand behind its own row."""
    settings, keys = make_settings(), key_set()
    policy = compile_policy(settings.issuers[0], settings)
    authenticator = asyncio.run(loaded_authenticator())
    warm = make_token("RS256")
    run_to_end(authenticator.authenticate(warm))
    steps: dict[str, Step] = {"cache hit": partial(authenticator.cached, warm)}
    if authenticator.cached(warm) is None:
        raise AssertionError("the cache does not know the token")
    for algorithm in SIGNERS:
        token = make_token(algorithm)
        steps[f"miss {algorithm}"] = partial(miss, token, policy, keys)
        steps[f"bare {algorithm}"] = bare_check(SIGNERS[algorithm], algorithm, parse_token(token, 8192))
        steps[f"PyJWT {algorithm}"] = pyjwt_decode(SIGNERS[algorithm], algorithm, token)
    good = make_token("RS256")
    body, _, _ = good.rpartition(b".")
    forged = body + b"." + b64(SIGNERS["RS256"].sign(b"something else", "RS256"))
    expired = make_token("RS256", exp=int(time.time()) - 3600, iat=int(time.time()) - 7200)
    steps["bad signature"] = refused(partial(miss, forged, policy, keys), Reasons.BAD_SIGNATURE)
    steps["malformed"] = refused(partial(miss, good + b"=", policy, keys), Reasons.BAD_ENCODING)
    steps["expired"] = refused(partial(miss, expired, policy, keys), Reasons.EXPIRED)
    return steps


@contextlib.contextmanager
def no_collector() -> Iterator[None]:
    """Keep the garbage collector from landing in one row by chance."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def time_one(step: Step, calls: int) -> float:
    """Return microseconds of this thread a call: what other processes take of the machine is not counted."""
    started = time.thread_time()
    for _ in range(calls):
        step()
    return (time.thread_time() - started) / calls * 1e6


def measure(rounds: int, seconds: float) -> dict[str, Measured]:
    """Measure every row in every round, so that a slow moment of the machine meets all of them.

    Args:
        rounds: how often each row is measured.
        seconds: for the whole run, about.
    """
    steps = make_steps()
    results = {name: Measured([]) for name in steps}
    share = seconds / rounds / len(steps) * 1e6
    # The first calls also fill caches and make values that are made lazily.
    calls = {name: max(5, int(share / time_one(step, 100))) for name, step in steps.items()}
    for _ in range(rounds):
        for name, step in steps.items():
            with no_collector():
                results[name].rounds.append(time_one(step, calls[name]))
    return results


def ratios(results: dict[str, Measured]) -> dict[str, float]:
    """Return each row as a multiple of the bare check of its algorithm (RS256 where it names none)."""
    multiples = {}
    for name, result in results.items():
        algorithm = name.rpartition(" ")[2]
        bare = results[f"bare {algorithm if algorithm in SIGNERS else 'RS256'}"]
        # Round by round: what slowed one row down slowed its neighbours down too.
        multiples[name] = statistics.median(row / base for row, base in zip(result.rounds, bare.rounds, strict=True))
    return multiples


def report(results: dict[str, Measured], arguments: Sequence[str]) -> dict[str, Any]:
    """Return the result file's content: numbers, and what is needed to judge them."""
    multiples = ratios(results)
    return {
        "benchmark": "verify",
        **describe("benchmarks.verify", arguments, ("cryptography", "joserfc", "orjson", "PyJWT")),
        "method": "interleaved rounds; microseconds of processor time a call; ratio to the same round's bare check",
        "results": {
            name: {
                "median": round(result.median, 2),
                "least": round(min(result.rounds), 2),
                "most": round(max(result.rounds), 2),
                "ratio": round(multiples[name], 3),
            }
            for name, result in results.items()
        },
        "aims": {
            f"cache hit <= {HIT_AIM} us": results["cache hit"].median <= HIT_AIM,
            f"miss RS256 <= {MISS_AIM} x bare": multiples["miss RS256"] <= MISS_AIM,
        },
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table and which aims were met, write the result file."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verify", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="how often each row is measured")
    parser.add_argument("--seconds", type=float, default=15.0, help="for the whole run, about")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("results") / "verify.json")
    options = parser.parse_args(arguments)
    content = report(measure(options.rounds, options.seconds), arguments)
    print(f"{'':16}{'us':>9}{'x bare':>9}")
    for name, row in content["results"].items():
        print(f"{name:16}{row['median']:9.2f}{row['ratio']:9.2f}")
    for aim, met in content["aims"].items():
        print(f"{'met' if met else 'MISSED'}: {aim}")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
