"""Which options a check may look at: those without a fault of their own, at them, above them or below them."""

from __future__ import annotations

import pytest

from gateway.settings.faults import KeyPath
from gateway.settings.problems import Sound

SOUND = Sound({("routes", 0, "claims", "role"), ("issuers",)})


@pytest.mark.parametrize(
    ("path", "is_sound"),
    [
        (("routes", 0, "claims", "role"), False),
        (("routes", 0, "claims"), False),
        (("routes", 0), False),
        (("routes",), False),
        (("routes", 0, "claims", "role", "x"), False),
        (("routes", 0, "claims", "group"), True),
        (("routes", 1), True),
        (("issuers", 3, "name"), False),
        (("server",), True),
    ],
)
def test_a_fault_counts_for_what_holds_it_and_what_it_holds(path: KeyPath, is_sound: bool) -> None:
    assert SOUND(path) is is_sound
    assert SOUND(("server",), path) is is_sound


def test_a_table_as_such_is_sound_whatever_is_wrong_inside() -> None:
    assert SOUND.table("routes")
    assert not SOUND.table("issuers")


def test_options_of_one_table_are_asked_together() -> None:
    assert SOUND.options(("routes", 0), "path", "auth")
    assert not SOUND.options(("routes", 0), "path", "claims")


def test_without_a_fault_everything_is_sound() -> None:
    assert Sound(())(("routes",), ())
