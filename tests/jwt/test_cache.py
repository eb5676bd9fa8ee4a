"""``gateway/jwt/cache.py``: what is remembered, for how long, and within which bounds."""

from __future__ import annotations

import hashlib
import math
import sys
from types import MappingProxyType
from typing import Any

import pytest

from gateway.errors import Reasons
from gateway.identity import Identity, freeze, identity_cost
from gateway.jwt.cache import BAD_SECONDS, BAD_SIZE, BYTES_PER_ENTRY, MIN_MEMORY_BYTES, CachedToken, TokenCache
from gateway.jwt.claims.issuer_policy import compile_policy
from gateway.jwt.issuers.key_sources import FileSource
from gateway.jwt.issuers.refresher import IssuerKeys
from gateway.jwt.jose.keys import KeySet, import_jwks
from tests.support.clock import FakeClock
from tests.support.issuers.identity_provider import gateway_settings, issuer_settings
from tests.support.tokens.minting import SigningKey, jwks

NOW, MONOTONIC = 1_800_000_000.0, 1000.0
KEYS = import_jwks(jwks(SigningKey.ec("a"), SigningKey.ec("b")))


def _digest(name: object) -> bytes:
    return hashlib.sha256(str(name).encode()).digest()


def _issuer(keys: KeySet = KEYS) -> IssuerKeys:
    settings = issuer_settings(jwks_file="/nonexistent")
    issuer = IssuerKeys(settings, FileSource(settings), FakeClock())
    issuer.keys = keys
    issuer.stale_at = math.inf
    return issuer


def _entry(
    issuer: IssuerKeys, *, key: int = 0, stored_at: float = MONOTONIC, leeway: float = 30, **fields: Any
) -> CachedToken:
    values: dict[str, Any] = {
        "issuer_name": "main",
        "issuer": "https://idp.test/",
        "subject": "alice",
        "scopes": ("read",),
        "claims": MappingProxyType({}),
        "lines": b"x-user-id: alice\r\n",
        "expires_at": NOW + 600,
        "not_before": -math.inf,
        "token_id": None,
    }
    settings = issuer_settings(jwks_file="/nonexistent", leeway_seconds=leeway)
    policy = compile_policy(settings, gateway_settings(settings))
    return CachedToken(Identity(**values | fields), KEYS.keys[key], issuer, policy, stored_at)


@pytest.mark.rule("R180")
def test_a_stored_token_is_found_and_counted() -> None:
    """By the digest of the whole token."""
    cache, entry = TokenCache(10, 300, FakeClock()), _entry(_issuer())
    cache.put(_digest(1), entry)
    assert cache.get(_digest(1)) is entry.identity
    assert cache.get(_digest(2)) is None
    assert (cache.hits, len(cache)) == (1, 1)


@pytest.mark.parametrize(("seconds", "found"), [(629.9, True), (630, False), (700, False), (math.inf, False)])
@pytest.mark.rule("R181", "C73")
def test_expiry_is_looked_at_on_every_hit(seconds: float, found: bool) -> None:
    """Until exp + leeway, and the entry is gone afterwards."""
    clock = FakeClock(NOW)
    cache = TokenCache(10, 10_000, clock)
    cache.put(_digest(1), _entry(_issuer()))
    assert cache.get(_digest(1)) is not None
    clock.step_wall(seconds)
    assert (cache.get(_digest(1)) is not None) is found
    assert len(cache) == int(found)
    assert (cache.bytes_used > 0) is found


@pytest.mark.rule("R182")
def test_not_before_is_looked_at_on_every_hit() -> None:
    """The wall clock was stepped back."""
    clock = FakeClock(NOW)
    cache = TokenCache(10, 300, clock)
    cache.put(_digest(1), _entry(_issuer(), not_before=NOW))
    clock.step_wall(-29)
    assert cache.get(_digest(1)) is not None
    clock.step_wall(-2)
    assert cache.get(_digest(1)) is None


@pytest.mark.parametrize("expires_at", [NOW + 10 * 365 * 86400, math.inf])
@pytest.mark.rule("R183", "C73")
def test_an_entry_is_verified_anew_after_its_age(expires_at: float) -> None:
    """Whatever exp says, also without one."""
    clock = FakeClock(NOW)
    cache = TokenCache(10, 300, clock)
    cache.put(_digest(1), _entry(_issuer(), expires_at=expires_at))
    clock.jump(299.9)
    assert cache.get(_digest(1)) is not None
    clock.jump(0.1)
    assert cache.get(_digest(1)) is None


@pytest.mark.rule("R183")
def test_an_entry_rests_while_its_keys_are_too_old_and_is_good_again_with_them() -> None:
    """Keys that cannot be believed decide nothing, also about an entry that was found good before."""
    issuer, clock = _issuer(), FakeClock(NOW)
    cache = TokenCache(10, 300, clock)
    cache.put(_digest(1), _entry(issuer))
    issuer.stale_at = MONOTONIC + 10
    assert cache.get(_digest(1)) is not None
    clock.jump(10.1)
    assert (cache.get(_digest(1)), len(cache)) == (None, 1)
    issuer.stale_at = MONOTONIC + 1000
    assert cache.get(_digest(1)) is not None
    clock.jump(290)
    assert (cache.get(_digest(1)), len(cache)) == (None, 0)


@pytest.mark.rule("R185", "C78")
def test_an_entry_goes_when_its_key_goes_and_others_stay() -> None:
    """At the first look after the swap; no sweep is needed."""
    issuer, cache = _issuer(), TokenCache(10, 300, FakeClock())
    cache.put(_digest("a"), _entry(issuer, key=0))
    cache.put(_digest("b"), _entry(issuer, key=1))
    assert cache.get(_digest("a")) is not None
    issuer.keys = import_jwks(jwks(SigningKey.ec("b")))
    assert cache.get(_digest("a")) is None
    assert cache.get(_digest("b")) is not None
    assert len(cache) == 1


@pytest.mark.rule("R185")
def test_an_entry_stored_after_the_swap_is_judged_by_the_new_set() -> None:
    """Also when the key left between verification and storing."""
    issuer, cache = _issuer(), TokenCache(10, 300, FakeClock())
    entry = _entry(issuer, key=0)
    issuer.keys = import_jwks(jwks(SigningKey.ec("b")))
    cache.put(_digest("a"), entry)
    assert cache.get(_digest("a")) is None


@pytest.mark.rule("R170", "C78")
def test_same_name_with_new_material_is_another_key() -> None:
    issuer, cache = _issuer(), TokenCache(10, 300, FakeClock())
    cache.put(_digest(1), _entry(issuer, key=0))
    issuer.keys = import_jwks(jwks(SigningKey.ec("a", variant=1)))
    assert cache.get(_digest(1)) is None


@pytest.mark.rule("C81", "R191")
def test_size_is_bounded_and_the_least_recently_used_goes() -> None:
    cache, issuer = TokenCache(3, 300, FakeClock()), _issuer()
    for name in range(3):
        cache.put(_digest(name), _entry(issuer))
    assert cache.get(_digest(0)) is not None
    cache.put(_digest(3), _entry(issuer))
    assert [cache.get(_digest(name)) is not None for name in range(4)] == [True, False, True, True]
    assert (len(cache), cache.evictions) == (3, 1)


@pytest.mark.rule("C81")
def test_putting_a_token_again_replaces_it() -> None:
    """The count of bytes stays right."""
    cache, issuer = TokenCache(3, 300, FakeClock()), _issuer()
    cache.put(_digest(1), _entry(issuer))
    used = cache.bytes_used
    cache.put(_digest(1), _entry(issuer, stored_at=MONOTONIC + 5))
    assert (len(cache), cache.bytes_used, cache.evictions) == (1, used, 0)


@pytest.mark.rule("R191")
def test_memory_is_bounded_in_bytes() -> None:
    """Big identities push out sooner; one that exceeds the bound alone is not kept."""
    cache, issuer = TokenCache(1000, 300, FakeClock(), max_total_bytes=50_000), _issuer()
    for name in range(50):
        cache.put(_digest(name), _entry(issuer, lines=b"r" * 5000))
        assert cache.bytes_used <= 50_000
    assert 5 <= len(cache) <= 10
    before = len(cache)
    cache.put(_digest("huge"), _entry(issuer, lines=b"r" * 60_000))
    assert len(cache) == before
    assert cache.get(_digest("huge")) is None


@pytest.mark.parametrize(("size", "bound"), [(2, MIN_MEMORY_BYTES), (1000, 1000 * BYTES_PER_ENTRY)])
@pytest.mark.rule("R191")
def test_default_byte_bound_follows_the_size(size: int, bound: int) -> None:
    """A small cache still has room for a few large identities."""
    cache, issuer = TokenCache(size, 300, FakeClock()), _issuer()
    fits = bound // 2 - 5000
    cache.put(_digest(1), _entry(issuer, lines=b"r" * fits))
    cache.put(_digest(2), _entry(issuer, lines=b"r" * fits))
    assert (len(cache), cache.evictions) == (2, 0)
    assert bound - 12_000 < cache.bytes_used <= bound
    if size > 2:
        cache.put(_digest(3), _entry(issuer, lines=b"r" * 12_000))
        assert (len(cache), cache.evictions) == (2, 1)


@pytest.mark.rule("R191")
def test_estimated_cost_covers_what_claims_really_take() -> None:
    """Nested claims count with their containers."""

    def real(value: Any) -> int:
        size = sys.getsizeof(value)
        if isinstance(value, MappingProxyType):
            table = dict(value)
            return size + sys.getsizeof(table) + sum(real(key) + real(item) for key, item in table.items())
        return size + sum(map(real, value)) if isinstance(value, tuple) else size

    claims = freeze(
        {"groups": [f"group-{number}" for number in range(200)], "tree": {"a": [{}] * 50, "b": {"c": "d" * 999}}}
    )
    bare, full = _entry(_issuer()).identity, _entry(_issuer(), claims=claims).identity
    assert identity_cost(full) - identity_cost(bare) >= real(claims)
    assert identity_cost(_entry(_issuer(), scopes=("s" * 50,) * 100).identity) > identity_cost(bare) + 5000


def test_size_zero_switches_everything_off() -> None:
    """Contract: cache_size = 0."""
    cache = TokenCache(0, 300, FakeClock())
    cache.put(_digest(1), _entry(_issuer()))
    cache.put_bad(_digest(2), Reasons.NOT_A_JWS)
    assert (len(cache), cache.get(_digest(1)), cache.bad(_digest(2))) == (0, None, None)


@pytest.mark.rule("R188")
def test_bad_tokens_are_remembered_briefly() -> None:
    clock = FakeClock(NOW)
    cache = TokenCache(10, 300, clock)
    cache.put_bad(_digest(1), Reasons.NOT_A_JWS)
    clock.jump(BAD_SECONDS - 0.1)
    assert cache.bad(_digest(1)) is Reasons.NOT_A_JWS
    clock.jump(0.1)
    assert cache.bad(_digest(1)) is None
    clock.jump(-1)
    assert cache.bad(_digest(1)) is None
    assert cache.bad_hits == 1


@pytest.mark.rule("R188", "R170")
def test_a_verdict_by_keys_ends_with_these_keys() -> None:
    """A new key may have signed the token that the old one did not."""
    cache, issuer = TokenCache(10, 300, FakeClock()), _issuer()
    cache.put_bad(_digest(1), Reasons.BAD_SIGNATURE, issuer)
    assert cache.bad(_digest(1)) is Reasons.BAD_SIGNATURE
    issuer.keys = import_jwks(jwks(SigningKey.ec("c")))
    assert cache.bad(_digest(1)) is None


@pytest.mark.rule("R190", "C81")
def test_bad_tokens_have_their_own_bound_and_never_push_out_good_ones() -> None:
    cache, issuer = TokenCache(10, 300, FakeClock()), _issuer()
    for name in range(10):
        cache.put(_digest(name), _entry(issuer))
    for name in range(3 * BAD_SIZE):
        cache.put_bad(_digest(f"bad {name}"), Reasons.NOT_A_JWS)
    assert all(cache.get(_digest(name)) for name in range(10))
    remembered = sum(cache.bad(_digest(f"bad {name}")) is not None for name in range(3 * BAD_SIZE))
    assert remembered == BAD_SIZE
    assert cache.evictions == 0
