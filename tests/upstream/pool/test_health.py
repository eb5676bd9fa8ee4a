"""The judgement of a URL's health: ejection, back-off, the one trial, and the answers to health checks."""

from __future__ import annotations

from gateway.upstream.pool.health import Health


def ejected(now: float = 100.0) -> Health:
    """A URL that was ejected at ``now``."""
    health = Health(3, 60)
    assert [health.connect_failed(now) for _ in range(3)] == [0, 0, 1]
    return health


def test_failures_in_a_row_eject_and_a_connection_in_between_starts_the_count_anew() -> None:
    health = Health(3, 60)
    for _ in range(2):
        assert (health.connect_failed(0), health.connect_failed(0)) == (0, 0)
        assert health.sound
        assert not health.connected()
    assert [health.connect_failed(0) for _ in range(3)] == [0, 0, 1]
    assert (health.sound, health.state, health.ejections) == (False, "ejected", 1)


def test_no_number_of_failures_ejects_when_it_is_switched_off() -> None:
    health = Health(0, 60)
    assert {health.connect_failed(0) for _ in range(1000)} == {0}
    assert health.sound


def test_back_off_doubles_with_each_failed_trial_up_to_its_limit() -> None:
    health, now, back_offs = ejected(), 100.0, []
    for _ in range(8):
        now = health.back_off_ends
        assert health.begin_trial(now)
        back_offs.append(health.connect_failed(now))
        health.end_trial()
    assert back_offs == [2, 4, 8, 16, 32, 60, 60, 60]
    assert health.ejections == 1
    assert Health(1, 0.25).connect_failed(0) == 0.25


def test_only_one_request_tries_and_only_after_the_back_off() -> None:
    health = ejected(100)
    assert not health.begin_trial(100.9)
    assert health.begin_trial(101)
    assert not health.due(101)
    assert not health.begin_trial(200)
    health.end_trial()  # it left without a verdict: the next one may
    assert health.begin_trial(200)


def test_failure_that_was_under_way_before_the_ejection_does_not_lengthen_it() -> None:
    """Ten connections refused at once are one ejection of 1 s, not of 60 s."""
    health = ejected(100)
    assert {health.connect_failed(100.5) for _ in range(10)} == {0}
    assert health.back_off_ends == 101


def test_trials_that_fail_together_count_once() -> None:
    """A request for which no other URL was left may fail beside the trial."""
    health = ejected(100)
    health.begin_trial(101)
    assert health.connect_failed(101) == 2
    assert health.connect_failed(101) == 0


def test_connection_ends_the_ejection_and_the_next_one_begins_with_the_first_back_off() -> None:
    health = ejected(100)
    health.begin_trial(101)
    health.connect_failed(101)
    health.end_trial()
    assert health.connected()
    assert (health.sound, health.state, health.back_off_ends) == (True, "healthy", 0)
    assert not health.due(1000)
    assert [health.connect_failed(200) for _ in range(3)] == [0, 0, 1]
    assert health.ejections == 2


def test_two_bad_checks_take_a_url_out_and_one_good_one_puts_it_back() -> None:
    health = Health(3, 60)
    assert not health.checked(False)
    assert health.sound
    assert not health.checked(True)
    assert not health.checked(False)
    assert health.checked(False)
    assert (health.sound, health.state, health.last_check) == (False, "unhealthy", False)
    assert not health.checked(False)
    assert health.checked(True)
    assert (health.sound, health.state, health.last_check) == (True, "healthy", True)


def test_connection_does_not_overrule_bad_checks() -> None:
    """A service that accepts and answers its checks with 500 stays out, and no trial is wasted on it."""
    health = ejected(100)
    for _ in range(2):
        health.checked(False)
    assert not health.due(1000)
    health.connected()
    assert (health.sound, health.state) == (False, "unhealthy")


def test_good_check_ends_an_ejection_because_it_has_connected() -> None:
    health = ejected(100)
    assert health.checked(True)
    assert (health.sound, health.connect_failures) == (True, 0)
