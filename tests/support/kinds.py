"""What kind of test a test is, by what it can reach: a part alone, a whole gateway, or programs of others beside it.

A test may say it itself, with ``@pytest.mark.e2e`` or ``pytestmark``; otherwise its code is followed through helpers,
fixtures and parameters to what starts a gateway, a process, or a program of another project.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

import pytest

#: Each test is of exactly one.
KINDS = ("unit", "e2e", "peers")

#: Whose code is followed.
_OURS = ("tests", "benchmarks")
#: What starts a whole gateway or its processes, by module and name.
_WHOLE = {
    ("gateway.app", "GatewayApp"),
    ("gateway.process.supervisor", "Supervisor"),
    ("gateway.process.worker_process", "WorkerProcess"),
}
#: What starts any process: modules, as soon as something of them is used, and functions.
_STARTERS = {"subprocess", "multiprocessing"}
_STARTS = {"create_subprocess_exec", "create_subprocess_shell", "fork", "posix_spawn"}
#: What looks for the program of another project.
_OTHERS = ("tests.peers.programs", "program")

#: Folders whose tests are about the whole or about others, whatever they reach.
_FOLDERS = {"e2e": "e2e", "lanes": "e2e", "chaos": "e2e", "peers": "peers"}


def kind_of(item: pytest.Item) -> str:
    """Return the kind of a test: its own word, or the furthest of its folder's and of what it reaches."""
    said = {mark.name for mark in item.iter_markers() if mark.name in KINDS}
    if len(said) > 1:
        raise pytest.UsageError(f"{item.nodeid} says that it is {' and '.join(sorted(said))}")
    if said:
        return said.pop()
    folders = Path(item.nodeid.partition("::")[0]).parts[:-1]
    kinds = reached(*_begins(item)) | {_FOLDERS[folder] for folder in folders if folder in _FOLDERS}
    return next((kind for kind in ("peers", "e2e") if kind in kinds), "unit")


@functools.cache
def reached(*functions: FunctionType) -> frozenset[str]:
    """Return the kinds beyond ``unit`` that some functions make of a test."""
    found: set[str] = set()
    unread, seen = list(functions), set(functions)
    while unread:
        function = unread.pop()
        for name, value in _used(function):
            where = (getattr(value, "__module__", ""), getattr(value, "__name__", ""))
            if name in _STARTS or where in _WHOLE or (isinstance(value, ModuleType) and value.__name__ in _STARTERS):
                found.add("e2e")
            elif where == _OTHERS:
                found.add("peers")
            new = [one for one in _functions(value) if one not in seen]
            seen.update(new)
            unread += new
    return frozenset(found)


def _begins(item: pytest.Item) -> Iterator[FunctionType]:
    """Yield the functions that a test consists of: its own, its fixtures', and those among its parameters."""
    yield from _functions(getattr(item, "function", None))
    info = getattr(item, "_fixtureinfo", None)
    for definitions in info.name2fixturedefs.values() if info else ():
        yield from _functions(definitions[-1].func)
    callspec = getattr(item, "callspec", None)
    for value in callspec.params.values() if callspec else ():
        yield from _functions(value)


def _used(function: FunctionType) -> Iterator[tuple[str, object]]:
    """Yield what a function looks up among its module's names, and of our modules that it has as a whole."""
    names = set(_names(function.__code__))
    for name in names:
        value = function.__globals__.get(name)
        yield name, value
        if isinstance(value, ModuleType) and _is_ours(value.__name__):
            yield from ((member, vars(value)[member]) for member in names & vars(value).keys())


def _names(code: CodeType) -> Iterator[str]:
    """Yield every global name and attribute that some code looks up."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _functions(value: object, depth: int = 2) -> Iterator[FunctionType]:
    """Yield the functions of ours that using a value may call."""
    if isinstance(value, functools.partial):
        yield from _functions(value.func)
    elif isinstance(value, type):
        for base in value.__mro__:
            if _is_ours(base.__module__):
                for member in vars(base).values():
                    yield from _methods(member)
    elif isinstance(value, FunctionType):
        property_test = getattr(value, "hypothesis", None)
        inner = inspect.unwrap(property_test.inner_test if property_test else value)
        if isinstance(inner, FunctionType) and _is_ours(inner.__module__):
            yield inner
    elif isinstance(value, Mapping | tuple | list | set | frozenset):
        each: Iterable[object] = value.values() if isinstance(value, Mapping) else value
        for one in each if depth else ():
            yield from _functions(one, depth - 1)
    elif _is_ours(type(value).__module__):
        yield from _functions(type(value))


def _methods(member: object) -> Iterator[FunctionType]:
    if isinstance(member, property):
        member = member.fget
    elif isinstance(member, staticmethod | classmethod):
        member = member.__func__
    if isinstance(member, FunctionType):
        yield from _functions(member)


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in _OURS
