"""What holds for every test: the event loop, no task left behind, hypothesis, and what CI insists on."""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import hypothesis
import pytest
import uvloop

from gateway import tasks
from tests.support.kinds import kind_of

#: Under CI=true nothing may be skipped because something is missing.
CI = os.environ.get("CI", "").lower() == "true"

# The machine's own gateway is not tested here; where the vectors are is passed on under a name that no gateway reads.
for _name in [name for name in os.environ if name.startswith("GATEWAY_")]:
    _value = os.environ.pop(_name)
    if _name == "GATEWAY_TEST_VECTORS":
        os.environ["TEST_VECTORS"] = _value

# No deadline: a slow machine is no failure. Under CI the same examples in each run.
hypothesis.settings.register_profile("gateway", deadline=None, max_examples=100, derandomize=CI)
hypothesis.settings.load_profile("gateway")


def require(condition: bool, reason: str) -> None:
    """Skip the calling test when what it needs is missing; under CI=true fail it."""
    if condition:
        return
    if CI:
        pytest.fail(f"{reason}, and CI=true allows no gaps")
    pytest.skip(reason)


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run the tests on the loop that the gateway runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test its kind before ``-m`` chooses among them; a search through many inputs is slow."""
    for item in items:
        kind = kind_of(item)
        if item.get_closest_marker(kind) is None:
            item.add_marker(kind)
        if item.get_closest_marker("untraced") is not None:
            item.add_marker("slow")


@pytest.fixture(autouse=True)
def _untraced(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run a search without coverage, which would take half of its time.

    What it looks for is an answer that is wrong, not a line that runs: other tests see to those.
    """
    if request.node.get_closest_marker("untraced") is None:
        yield
        return
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)


@pytest.fixture(autouse=True)
def _only_ended_tasks(request: pytest.FixtureRequest) -> None:
    """Give every async test the check below, without giving the others an event loop."""
    if inspect.iscoroutinefunction(getattr(request, "function", None)):
        request.getfixturevalue("_no_task_left")


@pytest.fixture
async def _no_task_left() -> AsyncIterator[None]:
    """Fail a test that ends while a task of the gateway still runs.

    Made first, so that it looks after all other fixtures of the test are gone.
    """
    yield
    for _ in range(3):  # what ended in the last moment tells so in the loop's next turns
        await asyncio.sleep(0)
    left = [task for task in tasks.running() if task.get_loop() is asyncio.get_running_loop()]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    assert not left, f"still running: {sorted(task.get_name() for task in left)}"


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the processes of these tests share what they compile."""
    return tmp_path_factory.mktemp("pycache")


@pytest.fixture
def loading(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers of a supervisor in this process load what others have compiled."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(cache))
