"""The API keys in force: who shows which, until when, and the file that is read again."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import math
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError, Reason, Reasons
from gateway.features.api_keys import keys as api_keys
from gateway.features.api_keys.key_file import KeyFileError, read_keys
from gateway.features.api_keys.keys import ApiKeys, hash_of, new_key
from gateway.features.api_keys.options import ApiKey
from gateway.features.api_keys.reasons import API_KEY_TOO_LONG, EXPIRED_API_KEY, NO_API_KEYS, UNKNOWN_API_KEY
from gateway.jwt.claims.issuer_policy import compile_policy
from gateway.jwt.claims.rules import make_identity
from gateway.jwt.jose.compact import Unverified
from tests.support.clock import FakeClock, eventually, settle
from tests.support.composed import Route, Tokens
from tests.support.issuers.identity_provider import gateway_settings, issuer_settings
from tests.support.tokens.api_keys import FOREIGN, KEY, OTHER, entry, write_keys
from tests.support.tokens.api_keys import hash_of as expected_hash

ROUTES = [Route(path="/", upstream="default", credentials=["api_key"], claims={"role": "x", "sub": "y"})]
IDENTITY: dict[str, Any] = {"x-user-id": "sub", "x-client": "$client", "x-scope": "$scopes", "x-iss": "$issuer"}


def keys(*entries: dict[str, Any], clock: FakeClock | None = None, file: Path | str = "", **tokens: Any) -> ApiKeys:
    settings = gateway_settings(
        routes=ROUTES,
        identity=IDENTITY,
        api_keys=[ApiKey.model_validate(one) for one in entries],
        tokens=Tokens(api_keys_file=str(file), **tokens),
    )
    return ApiKeys(settings, clock or FakeClock())


def reason(known: ApiKeys, key: bytes) -> Reason | None:
    """Return why a key is refused; None when it is accepted. Any other exception fails the test."""
    try:
        known.identify(key)
    except GatewayError as error:
        return error.reason
    return None


@pytest.mark.rule("R347")
def test_identity_is_that_of_a_token_with_the_same_claims() -> None:
    """One way from claims to headers, scopes and rules; but no issuer."""
    given = entry(owner="Ångström", scopes=["a", "b"], claims={"role": ["x", "y"], "level": 1})
    found = keys(given).identify(KEY)
    policy = compile_policy(issuer_settings(), gateway_settings(routes=ROUTES, identity=IDENTITY))
    claims = {"sub": "Ångström", "client_id": "partner", "scope": "a b", "role": ["x", "y"], "level": 1}
    token = make_identity(Unverified("RS256", None, None, claims, None, b"", b""), policy)
    assert found == token._replace(issuer_name="", credential="api_key", has_issuer=False)
    assert (found.credential, token.credential) == ("api_key", "jwt")
    assert dict(found.headers) == {b"x-user-id": b"%C3%85ngstr%C3%B6m", b"x-client": b"partner", b"x-scope": b"a b"}
    assert dict(found.claims) == {"role": ("x", "y"), "sub": "Ångström"}
    assert (found.expires_at, found.issuer, found.token_id) == (math.inf, "", None)


def test_scopes_of_a_key_do_not_depend_on_where_issuers_put_theirs() -> None:
    assert keys(entry(scopes=["a"]), scope_claims=["scp"]).identify(KEY).scopes == ("a",)
    assert keys(entry(claims={"scp": "admin"}), scope_claims=["scp"]).identify(KEY).scopes == ()


@pytest.mark.rule("R097")
def test_any_key_whose_hash_is_stored_works_and_no_other() -> None:
    """Looked up by its SHA-256, so how much of a key is right cannot be measured."""
    known = keys(entry(), entry(FOREIGN, "foreign"))
    assert known.identify(FOREIGN).subject == "foreign"
    others = (b"", KEY[:-1], KEY + b"0", KEY.upper(), OTHER, entry()["hash"].encode(), hashlib.sha256(KEY).digest())
    assert {reason(known, key) for key in others} == {UNKNOWN_API_KEY}
    assert known.lookups == 1 + len(others)


@pytest.mark.rule("R097")
def test_digests_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the table says, the comparison has the last word."""
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return False

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert reason(keys(entry()), KEY) is UNKNOWN_API_KEY
    assert compared == [(hashlib.sha256(KEY).digest(),) * 2]


def test_key_is_good_until_the_second_that_its_entry_names() -> None:
    """No leeway: the end is the gateway's own word."""
    clock = FakeClock()
    known = keys(entry(expires="2027-01-15T08:00:10Z"), clock=clock)
    assert reason(known, KEY) is None
    clock.step_wall(9.999)
    assert reason(known, KEY) is None
    clock.step_wall(0.002)
    assert reason(known, KEY) is EXPIRED_API_KEY
    clock.step_wall(-10)
    assert reason(known, KEY) is None


def test_long_keys_are_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the bound on tokens; the longest one that is read may be known."""
    longest = b"k" * 256
    known = keys(entry(longest), max_bytes=256)
    assert reason(known, longest) is None
    monkeypatch.setattr(api_keys, "sha256", None)
    assert reason(known, longest + b"k") is API_KEY_TOO_LONG


@pytest.mark.rule("R094", "R196")
def test_unforeseen_fault_is_a_refusal_that_quotes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(key: bytes) -> None:
        raise ValueError(f"about {key.decode()}")

    known = keys(entry())
    monkeypatch.setattr(api_keys, "sha256", fault)
    with pytest.raises(GatewayError) as caught:
        known.identify(KEY)
    assert (caught.value.reason, caught.value.detail) == (Reasons.VERIFICATION_FAILED, "ValueError")
    assert caught.value.__cause__ is None


@given(st.lists(st.binary(min_size=1, max_size=40), unique=True, max_size=6), st.binary(max_size=40))
def test_every_key_leads_to_its_own_entry(stored: list[bytes], shown: bytes) -> None:
    known = keys(*(entry(key, f"key{number}") for number, key in enumerate(stored)))
    for number, key in enumerate(stored):
        assert known.identify(key).subject == f"key{number}"
    assert (reason(known, shown) is None) == (shown in stored)


@given(st.sampled_from(["a", "A.b_c-d", "x" * 64]))
def test_new_keys_are_random_and_say_where_they_belong(name: str) -> None:
    """256 bits, and a form that scanners can find."""
    one, other = new_key(name), new_key(name)
    assert re.fullmatch(rf"gwk_{re.escape(name)}_[0-9a-f]{{64}}", one)
    assert one != other
    assert hash_of(one) == expected_hash(one.encode())


# --- held verdicts ---


@pytest.mark.rule("C65")
def test_held_verdict_ends_with_the_key() -> None:
    clock = FakeClock()
    known = keys(entry(expires="2027-01-15T08:00:10Z"), clock=clock)
    held = known.find(KEY)
    assert known.still_good(held) is None
    clock.step_wall(10)
    assert known.still_good(held) is EXPIRED_API_KEY
    with pytest.raises(GatewayError):
        known.find(KEY)
    with pytest.raises(GatewayError):
        known.find(OTHER)


CHANGES = [
    pytest.param({}, None, id="same"),
    pytest.param({"expires": "2028-01-01T00:00:00Z"}, None, id="later-end"),
    pytest.param({"expires": "2026-01-01T00:00:00Z"}, EXPIRED_API_KEY, id="earlier-end"),
    pytest.param({"id": "renamed"}, UNKNOWN_API_KEY, id="id-and-so-subject"),
    pytest.param({"owner": "bob"}, UNKNOWN_API_KEY, id="owner"),
    pytest.param({"scopes": ["a", "b"]}, UNKNOWN_API_KEY, id="scopes"),
    pytest.param({"claims": {"role": "y"}}, UNKNOWN_API_KEY, id="claim"),
    pytest.param({"claims": {"role": "x", "unread": 1}}, None, id="claim-that-no-rule-reads"),
]


@pytest.mark.parametrize(("change", "ended"), CHANGES)
async def test_held_verdict_ends_when_the_key_gets_other_rights(
    change: dict[str, Any], ended: Reason | None, tmp_path: Path
) -> None:
    file, before = tmp_path / "keys", entry(scopes=["a"], claims={"role": "x"})
    write_keys(file, before)
    async with watched(file) as (known, clock):
        held = known.find(KEY)
        write_keys(file, {**before, **change}, entry(OTHER, "other"))
        await look(known, clock)
        assert len(known) == 2
        assert known.still_good(held) is ended


# --- the file ---


@contextlib.asynccontextmanager
async def watched(file: Path, *entries: dict[str, Any]) -> AsyncIterator[tuple[ApiKeys, FakeClock]]:
    clock = FakeClock()
    known = keys(*entries, clock=clock, file=file)
    known.start()
    try:
        await settle()
        yield known, clock
    finally:
        await known.stop()


async def look(known: ApiKeys, clock: FakeClock, looks: int = 2) -> None:
    """Let some looks pass, and whatever reading they begin."""
    for _ in range(looks):
        await clock.advance(1)
        await eventually(lambda: clock.naps)


async def test_changed_file_is_taken_when_it_has_stood_still_for_a_look(tmp_path: Path) -> None:
    """A file that is being written has too few keys for a moment."""
    file = tmp_path / "keys"
    write_keys(file, entry())
    async with watched(file) as (known, clock):
        file.write_text("")
        await look(known, clock, 1)
        assert reason(known, KEY) is None
        write_keys(file, entry(), entry(OTHER, "other"))
        await look(known, clock, 1)
        assert reason(known, OTHER) is UNKNOWN_API_KEY
        await look(known, clock, 1)
        assert [reason(known, key) for key in (KEY, OTHER)] == [None, None]
    assert known.status() == {
        "keys": 2,
        "file": str(file),
        "complete": True,
        "last_error": "",
        "reload_failures": 0,
    }


async def test_file_that_never_stands_still_is_taken_all_the_same(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    write_keys(file)
    async with watched(file) as (known, clock):
        for number in range(7):
            write_keys(file, entry(owner=f"owner{number}"))
            await look(known, clock, 1)
        assert reason(known, KEY) is None


async def test_unchanged_file_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keys"
    write_keys(file, entry())
    async with watched(file) as (known, clock):
        monkeypatch.setattr(api_keys, "read_keys", None)
        await look(known, clock, 5)
        assert known.reload_failures == 0
        os.utime(file)
        await look(known, clock, 3)
        assert (known.reload_failures, known.last_error) == (1, "internal: TypeError")
        assert reason(known, KEY) is None


@pytest.mark.rule("R406")
async def test_file_that_could_not_be_read_for_now_is_read_as_the_same_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As when memory or files ran out, or no thread could be had; logged once each."""
    file = tmp_path / "keys"
    write_keys(file, entry())
    real, faults = read_keys, [MemoryError(), MemoryError(), KeyFileError(["unreadable"], for_now=True)]

    def read(*arguments: Any) -> Any:
        if faults:
            raise faults.pop(0)
        return real(*arguments)

    async with watched(file) as (known, clock):
        monkeypatch.setattr(api_keys, "read_keys", read)
        write_keys(file, entry(), entry(OTHER, "other"))
        await look(known, clock, 4)
        assert (known.reload_failures, reason(known, KEY)) == (2, None)
        await look(known, clock, 2)
        assert (known.last_error, reason(known, OTHER)) == ("", None)
    assert len(caplog.records) == 2


@pytest.mark.rule("R113", "R196")
async def test_bad_version_is_told_once_and_the_keys_stay(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is wrong; the next good version is taken, also when it is the old one."""
    file = tmp_path / "keys"
    write_keys(file, entry())
    async with watched(file, entry(FOREIGN, "foreign")) as (known, clock):
        faulty: list[str | dict[str, Any]] = [OTHER.decode(), entry(OTHER, "foreign"), entry(FOREIGN, "b")]
        for number, bad in enumerate(faulty, start=1):
            write_keys(file, bad)
            await look(known, clock, 6)
            assert known.reload_failures == number
            assert known.last_error.startswith(f"{file}, line 1")
            assert [reason(known, key) for key in (KEY, FOREIGN)] == [None, None]
        write_keys(file, entry())
        await look(known, clock)
        assert (known.reload_failures, known.last_error) == (3, "")
    assert [record.levelname for record in caplog.records].count("WARNING") == 3
    assert OTHER.decode()[:20] not in caplog.text


@pytest.mark.rule("R113")
async def test_file_that_could_not_be_read_at_first_leaves_open_who_is_known(tmp_path: Path) -> None:
    """ "no decision" is no 401; nor is it for keys that need no file."""
    file = tmp_path / "keys"
    async with watched(file, entry(FOREIGN, "foreign")) as (known, clock):
        assert [reason(known, key) for key in (KEY, FOREIGN)] == [NO_API_KEYS, None]
        assert known.status()["complete"] is False
        write_keys(file, entry())
        await look(known, clock)
        assert [reason(known, key) for key in (KEY, FOREIGN, OTHER)] == [None, None, UNKNOWN_API_KEY]
        file.unlink()
        await look(known, clock)
        assert [reason(known, key) for key in (KEY, OTHER)] == [None, UNKNOWN_API_KEY]
        assert known.last_error == "this file cannot be read: no such file or directory"


async def test_requests_never_meet_half_a_set(tmp_path: Path) -> None:
    """While another set is read in a thread, the one before is asked, whole."""
    file = tmp_path / "keys"
    many = [entry(b"key%d" % number, f"key{number}") for number in range(2000)]
    write_keys(file, entry(OTHER, "other"))
    async with watched(file) as (known, clock):
        write_keys(file, *many)
        await clock.advance(2)
        while len(known) == 1:
            assert reason(known, OTHER) is None
            await asyncio.sleep(0)
        assert len(known) == 2000
        assert (reason(known, b"key1999"), reason(known, OTHER)) == (None, UNKNOWN_API_KEY)
