"""What a test may know of calls: their arguments, while everything runs as before."""

from __future__ import annotations

import importlib
from typing import Any

import pytest


def recorded_calls(monkeypatch: pytest.MonkeyPatch, target: str) -> list[tuple[Any, ...]]:
    """Return a list that gets the arguments of each call of a function from now on.

    Args:
        target: the name by which the module under test knows the function, with the module's own name before it.
    """
    module, _, name = target.rpartition(".")
    function = getattr(importlib.import_module(module), name)
    calls: list[tuple[Any, ...]] = []

    def recording(*arguments: Any) -> Any:
        calls.append(arguments)
        return function(*arguments)

    monkeypatch.setattr(target, recording)
    return calls
