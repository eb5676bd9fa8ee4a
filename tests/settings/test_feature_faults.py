"""What is said when a hook of a feature fails before the gateway runs."""

from __future__ import annotations

import asyncio

import pytest

from gateway.settings.feature_faults import MAX_PLACES, FeatureError, Hook


def _inner(depth: int, error: BaseException) -> None:
    if depth:
        _inner(depth - 1, error)
    raise error


def _said(error: BaseException, depth: int = 0) -> str:
    with pytest.raises(FeatureError) as caught, Hook("toy", "build"):
        _inner(depth, error)
    assert caught.value.__cause__ is error
    return str(caught.value)


@pytest.mark.parametrize("error", [OSError(2, "No such file", "/a"), ImportError("No module named 'a'")])
def test_what_an_operator_can_mend_is_said_in_its_own_words(error: Exception) -> None:
    assert _said(error) == f'feature "toy": build failed: {error}'


def test_a_programming_fault_is_its_type_and_the_places_that_it_came_through_without_its_text() -> None:
    """Its text may quote a secret."""
    text = _said(LookupError("s3cret"), depth=1)
    assert text.startswith('feature "toy": build failed: LookupError at _inner:')
    assert text.count(" > _inner:") == 1
    assert "s3cret" not in text
    assert _said(LookupError(), depth=50).count("_inner:") == MAX_PLACES


def test_it_is_one_line_and_says_something() -> None:
    assert _said(OSError("a\nb")) == 'feature "toy": build failed: a b'
    assert "OSError at _inner:" in _said(OSError())


def test_a_hook_that_cannot_be_called_is_the_hooks_fault() -> None:
    given: object = None
    with (
        pytest.raises(FeatureError, match='feature "toy": build failed: TypeError at test_a_hook_that'),
        Hook("toy", "build"),
    ):
        given()  # type: ignore[operator]


def test_a_feature_that_is_asked_by_another_is_the_one_that_is_named() -> None:
    with (
        pytest.raises(FeatureError, match=r'^feature "inner": claims failed'),
        Hook("outer", "check"),
        Hook("inner", "claims"),
    ):
        raise LookupError


@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(3)])
def test_an_end_is_no_fault(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, Hook("toy", "start"):
        raise error
    assert caught.value is error


def test_what_does_not_fail_is_left_alone() -> None:
    with Hook("toy", "build"):
        found = 1
    assert found == 1
