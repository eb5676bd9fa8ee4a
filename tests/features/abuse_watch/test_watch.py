"""``gateway/features/abuse_watch/watch.py``: what is found and logged, and what is refused for how long."""

from __future__ import annotations

import hashlib
import logging
from types import MappingProxyType
from typing import Any

import pytest

from gateway.errors import GatewayError, Reason, Reasons
from gateway.features.abuse_watch.options import FINDERS, Watch
from gateway.features.abuse_watch.reasons import WATCHED_ADDRESS, WATCHED_SUBJECT, WATCHED_TOKEN
from gateway.features.abuse_watch.watch import MAX_LOGGED_FLAGS, AbuseWatch
from gateway.features.api_keys.reasons import UNKNOWN_API_KEY
from gateway.identity import Identity
from gateway.server.request.in_progress import Run
from gateway.server.request.request import Admitted
from gateway.server.seam.credential import Shown
from gateway.telemetry.counters import Record
from tests.support.clock import FakeClock

ONE, OTHER = "192.0.2.1", "192.0.2.2"


def watching(**options: Any) -> tuple[AbuseWatch, FakeClock]:
    clock = FakeClock()
    return AbuseWatch(Watch.model_validate({**dict.fromkeys(FINDERS, 0), **options}), clock), clock


def refusals(watch: AbuseWatch, reason: Reason, count: int, client: str = ONE, detail: str = "") -> None:
    for number in range(count):
        watch.finished(Record(started=0, client=client, reason=reason.code, detail=detail.format(number)))


def caller(subject: str | None = "alice", token_id: str | None = None, credential: str = "jwt") -> Identity:
    issuer = "main" if credential == "jwt" else ""
    return Identity(issuer, "https://idp.test/", subject, (), MappingProxyType({}), b"", 0.0, 0.0, token_id, credential)


def use(watch: AbuseWatch, client: str, identity: Identity | None, shown: bytes | None = b"token") -> None:
    """Use a credential once.

    Raises:
        GatewayError: it is refused.
    """
    run = Run(None, None, Record(started=0, client=client), b"id")  # type: ignore[arg-type]
    admitted = Admitted(None, None, "", None)  # type: ignore[arg-type]
    assert watch.before(run, admitted) is None
    assert watch.after(run, admitted, None if shown is None else Shown(shown), identity) is None


REASONS = [
    ("bad_signatures", Reasons.BAD_SIGNATURE, ""),
    ("unknown_api_keys", UNKNOWN_API_KEY, ""),
    ("unknown_kids", Reasons.UNKNOWN_KEY, "kid is '{}'"),
]


@pytest.mark.parametrize(("option", "reason", "detail"), REASONS)
def test_too_many_refusals_from_one_address_are_found(
    option: str, reason: Reason, detail: str, caplog: pytest.LogCaptureFixture
) -> None:
    watch, _ = watching(**{option: 5})
    refusals(watch, reason, 5, ONE, detail)
    refusals(watch, reason, 5, OTHER, detail)
    assert watch.flags[option] == 0
    refusals(watch, reason, 3, ONE, detail and detail + " and more")
    assert watch.flags == {**dict.fromkeys(FINDERS, 0), option: 1}
    (line,) = caplog.messages
    assert line == f"abuse: kind={option} most=5 window_seconds=60 refuse_seconds=0 untold=0 client={ONE}"
    assert not watch.bars(ONE)


@pytest.mark.parametrize(("option", "reason", "detail"), REASONS)
def test_what_is_not_watched_is_not_found(option: str, reason: Reason, detail: str) -> None:
    others = {name: 1 for name in FINDERS if name != option}
    watch, _ = watching(**others)
    refusals(watch, reason, 50, ONE, detail)
    assert watch.flags.total() == 0


def test_one_unknown_kid_again_and_again_is_no_sweep() -> None:
    """A client whose key was withdrawn, and who does not know yet."""
    watch, _ = watching(unknown_kids=3)
    refusals(watch, Reasons.UNKNOWN_KEY, 500, ONE, "kid is 'old'")
    assert watch.flags["unknown_kids"] == 0


def test_refusals_that_are_only_observed_count_too() -> None:
    watch, _ = watching(bad_signatures=2)
    for _ in range(3):
        watch.finished(Record(started=0, client=ONE, observed=Reasons.BAD_SIGNATURE.code))
    assert watch.flags["bad_signatures"] == 1


def test_an_ipv6_client_is_its_network() -> None:
    watch, _ = watching(bad_signatures=5, refuse_seconds=60)
    for number in range(6):
        refusals(watch, Reasons.BAD_SIGNATURE, 1, f"2001:db8::{number}:1")
    assert watch.bars("2001:db8::ffff")
    assert not watch.bars("2001:db8:0:1::1")


def test_exempt_addresses_and_those_without_one_are_never_found() -> None:
    watch, _ = watching(
        bad_signatures=1, subject_addresses=1, refuse_seconds=60, exempt=["::ffff:192.0.2.0/120", "2001:db8::/32"]
    )
    for client in (ONE, "2001:db8::1", "unknown"):
        refusals(watch, Reasons.BAD_SIGNATURE, 50, client)
        assert not watch.bars(client)
        use(watch, client, caller())
    assert watch.flags.total() == 0
    refusals(watch, Reasons.BAD_SIGNATURE, 2, "198.51.100.1")
    assert watch.bars("198.51.100.1")


@pytest.mark.parametrize("exempt", [[], ["unix"]])
@pytest.mark.rule("R411")
def test_all_clients_of_a_unix_socket_are_one_address(exempt: list[str]) -> None:
    """Found like any other, and exempt by its name."""
    watch, _ = watching(bad_signatures=1, refuse_seconds=60, exempt=exempt)
    refusals(watch, Reasons.BAD_SIGNATURE, 3, "unix")
    assert watch.bars("unix") is not bool(exempt)


def test_whoever_was_found_is_refused_for_so_long(caplog: pytest.LogCaptureFixture) -> None:
    watch, clock = watching(bad_signatures=2, refuse_seconds=30)
    watch.demand_unbarred(ONE)
    assert not watch.barring
    refusals(watch, Reasons.BAD_SIGNATURE, 3)
    assert watch.barring
    assert "refuse_seconds=30" in caplog.text
    clock.jump(10.5)
    with pytest.raises(GatewayError) as caught:
        watch.demand_unbarred(ONE)
    assert (caught.value.reason, caught.value.retry_after) == (WATCHED_ADDRESS, 20)
    assert (caught.value.reason.kind.status, caught.value.detail) == (429, "")
    watch.demand_unbarred(OTHER)
    assert watch.status()["refused"] == {"addresses": 1, "tokens": 0, "subjects": 0}
    clock.jump(19.5)
    watch.demand_unbarred(ONE)
    assert not watch.barring  # so that no client is looked up any more


def test_whoever_goes_on_is_refused_again_at_once_but_told_once_in_a_window(caplog: pytest.LogCaptureFixture) -> None:
    watch, clock = watching(bad_signatures=60, refuse_seconds=5, window_seconds=60)
    refusals(watch, Reasons.BAD_SIGNATURE, 61)
    for _ in range(3):
        assert watch.bars(ONE)
        clock.jump(5)
        assert not watch.bars(ONE)
        refusals(watch, Reasons.BAD_SIGNATURE, 7)
    assert (watch.flags["bad_signatures"], len(caplog.messages)) == (1, 1)
    clock.jump(60)
    refusals(watch, Reasons.BAD_SIGNATURE, 61)
    assert (watch.flags["bad_signatures"], len(caplog.messages)) == (2, 2)


def test_nobody_can_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """CWE-779: many addresses, each of them found; the metric counts all."""
    watch, clock = watching(bad_signatures=1)
    for number in range(1000):
        refusals(watch, Reasons.BAD_SIGNATURE, 2, f"10.0.{number // 250}.{number % 250}")
    assert watch.flags["bad_signatures"] == 1000
    assert len(caplog.messages) == MAX_LOGGED_FLAGS
    clock.jump(6)
    refusals(watch, Reasons.BAD_SIGNATURE, 2)
    assert f"untold={1000 - MAX_LOGGED_FLAGS} " in caplog.messages[-1]
    clock.jump(60)
    refusals(watch, Reasons.BAD_SIGNATURE, 2, OTHER)
    assert "untold=0 " in caplog.messages[-1]


def test_a_token_used_from_too_many_addresses_is_found(caplog: pytest.LogCaptureFixture) -> None:
    watch, clock = watching(token_addresses=3)
    token = caller(token_id="secret-id")
    for number in range(3):
        use(watch, f"192.0.2.{number}", token)
        use(watch, f"192.0.2.{number}", token._replace(token_id="another"))
    clock.jump(59)
    use(watch, "192.0.2.1", token)
    assert watch.flags["token_addresses"] == 0
    use(watch, "192.0.2.9", token, b"the same token, coded otherwise")
    assert watch.flags["token_addresses"] == 1
    use(watch, "192.0.2.10", token)  # reported only
    (line,) = caplog.messages
    subject = hashlib.sha256(b"alice").hexdigest()[:16]
    assert line.startswith("abuse: kind=token_addresses most=3 window_seconds=60 refuse_seconds=0 untold=0 token_hash=")
    assert line.endswith(f" issuer=main subject_hash={subject} client=192.0.2.9")
    assert "secret-id" not in line
    assert "alice" not in line


def test_a_token_without_an_id_is_known_by_its_hash() -> None:
    watch, _ = watching(token_addresses=1)
    use(watch, ONE, caller(), b"one token")
    use(watch, OTHER, caller(), b"another token")
    assert watch.flags["token_addresses"] == 0
    use(watch, OTHER, caller(), b"one token")
    assert watch.flags["token_addresses"] == 1


def test_addresses_seen_before_the_window_do_not_count() -> None:
    watch, clock = watching(token_addresses=2, subject_addresses=2, window_seconds=60)
    for number in range(20):
        use(watch, f"192.0.2.{number}", caller(token_id="a"))
        clock.jump(31)
    assert watch.flags.total() == 0


def test_a_subject_at_too_many_addresses_is_found_and_refused(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever its tokens, and for the owner of API keys, too."""
    watch, clock = watching(subject_addresses=2, refuse_seconds=60)
    for number in range(2):
        use(watch, f"192.0.2.{number}", caller(token_id=str(number)), b"%d" % number)
    with pytest.raises(GatewayError) as caught:
        use(watch, "192.0.2.9", caller(token_id="9"), b"9")
    assert (caught.value.reason, caught.value.retry_after) == (WATCHED_SUBJECT, 60)
    clock.jump(30)
    with pytest.raises(GatewayError):
        use(watch, "192.0.2.0", caller())
    use(watch, "192.0.2.0", caller("bob"))
    use(watch, "192.0.2.0", caller(None))
    use(watch, "192.0.2.0", None, None)
    assert watch.flags["subject_addresses"] == 1
    clock.jump(30)
    use(watch, "192.0.2.0", caller())
    assert "token_hash" not in caplog.text


def test_api_keys_are_no_tokens_but_have_owners() -> None:
    """One key may be all that a fleet has."""
    watch, _ = watching(token_addresses=1, subject_addresses=3, refuse_seconds=60)
    key = caller("owner", credential="api_key")
    for number in range(3):
        use(watch, f"192.0.2.{number}", key)
    assert watch.flags.total() == 0
    with pytest.raises(GatewayError):
        use(watch, "192.0.2.9", key)
    assert watch.flags["subject_addresses"] == 1


def test_a_found_token_is_refused_from_everywhere() -> None:
    watch, clock = watching(token_addresses=1, refuse_seconds=10)
    use(watch, ONE, caller(token_id="a"))
    for _ in range(2):
        with pytest.raises(GatewayError) as caught:
            use(watch, OTHER, caller(token_id="a"))
        assert (caught.value.reason, caught.value.retry_after) == (WATCHED_TOKEN, 10)
    with pytest.raises(GatewayError):
        use(watch, ONE, caller(token_id="a"))
    use(watch, ONE, caller(token_id="b"))
    assert watch.status() == {
        "flags": {**dict.fromkeys(FINDERS, 0), "token_addresses": 1},
        "refused": {"addresses": 0, "tokens": 1, "subjects": 0},
    }
    assert not watch.barring
    clock.jump(10)
    use(watch, ONE, caller(token_id="a"))


def test_subjects_that_cannot_be_written_are_told_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    watch, _ = watching(subject_addresses=1)
    for client in (ONE, OTHER):
        use(watch, client, caller("lone \ud800"))
    assert watch.flags["subject_addresses"] == 1
    assert "subject_hash=" in caplog.text
    assert caplog.records[0].levelno == logging.WARNING
