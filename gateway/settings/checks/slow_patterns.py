"""What can be said of a regular expression without running it: whether some text makes it slow.

Analyses patterns. Python's ``re`` backtracks and cannot be interrupted: where
one text can be matched in two ways, over and over, each further character
doubles the work, and a path of forty characters stops a worker for hours
(CWE-1333). The pattern is read by ``re``'s own parser and turned into its
position automaton (Glushkov); it is exponential exactly when one of the
automaton's states has two ways back to itself for the same text (Weber and
Seidl 1991). Look-arounds are analysed by themselves, and references to groups
are taken for nothing.
"""

from __future__ import annotations

import importlib
import re
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

#: Most positions of a pattern that is analysed; longer ones are not judged.
MAX_POSITIONS = 150

#: Repetitions up to so many are written out; more count as endless.
_MAX_COPIES = 8

#: So many overlapping repetitions behind each other take seconds on the longest path that is compared.
_MAX_CHAIN = 2

_CATEGORIES = {
    "CATEGORY_DIGIT": r"\d",
    "CATEGORY_NOT_DIGIT": r"\D",
    "CATEGORY_SPACE": r"\s",
    "CATEGORY_NOT_SPACE": r"\S",
    "CATEGORY_WORD": r"\w",
    "CATEGORY_NOT_WORD": r"\W",
}
#: Characters that stand for all that no pattern tells apart; the first ones are taken for samples.
_COMMON = [*"x1a-/", *map(chr, range(0x20, 0x7F)), "é", "ß", "中", "\N{ARABIC-INDIC DIGIT THREE}", "\N{EM SPACE}"]

Characters = frozenset[str]


def slow_problem(pattern: str) -> str:
    """Say how a compiled pattern can be slow; empty when it cannot, or cannot be judged."""
    try:
        automata = list(_automata(pattern))
    except _NotJudgedError:
        return ""
    if any(automaton.is_exponential() for automaton in automata):
        return (
            "can be made to backtrack exponentially: a request with a path of forty characters stops the worker;"
            " let what is repeated begin with something that it cannot hold, as in (/[^/]+)+, or make the inner"
            " repetition possessive, as in ([a-z]++-?)+"
        )
    if any(automaton.longest_chain() > _MAX_CHAIN for automaton in automata):
        return (
            "has three or more repetitions behind each other that can hold the same text: a long path stops the worker"
            " for seconds; write [^/]* instead of .*"
        )
    return ""


def sample(pattern: str) -> str | None:
    """Return some text that the whole pattern matches; None where none was found."""
    try:
        reader = _Reader(pattern)
        text = reader.sample(reader.tree)
    except _NotJudgedError:
        return None
    return text if re.fullmatch(pattern, text) else None


class _NotJudgedError(Exception):
    """The pattern is too long, or written with something that is not known here."""


class _Reader:
    """A parsed pattern, and what its parts match one character of."""

    def __init__(self, pattern: str) -> None:
        try:
            parser = importlib.import_module("re._parser")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what could be read in two ways is a fault of its own
                self.tree: Any = parser.parse(pattern)
            self.flags = int(self.tree.state.flags)
        except (ImportError, AttributeError, RecursionError):
            raise _NotJudgedError from None
        named = {character for point in _points(self.tree) for character in map(chr, _around(point))}
        self.alphabet = list(dict.fromkeys([*_COMMON, *sorted(named)]))

    def characters(self, name: str, value: Any) -> Characters | None:
        """Return what one element matches; None for an element that does not match one character."""
        if name == "ANY":
            return frozenset(one for one in self.alphabet if one != "\n" or self.flags & re.DOTALL)
        if name == "LITERAL":
            return self._where(lambda one: ord(one) == value)
        if name == "NOT_LITERAL":
            return frozenset(self.alphabet) - self._where(lambda one: ord(one) == value)
        if name != "IN":
            return None
        items = [(str(kind), inner) for kind, inner in value]
        negated = items[:1] == [("NEGATE", None)]
        tests = [self._test(kind, inner) for kind, inner in items[negated:]]
        found = self._where(lambda one: any(test(one) for test in tests))
        return frozenset(self.alphabet) - found if negated else found

    def _where(self, test: Callable[[str], bool]) -> Characters:
        if not self.flags & re.IGNORECASE:
            return frozenset(filter(test, self.alphabet))
        return frozenset(
            one
            for one in self.alphabet
            if any(len(form) == 1 and test(form) for form in (one, one.lower(), one.upper()))
        )

    def _test(self, kind: str, value: Any) -> Callable[[str], bool]:
        if kind == "LITERAL":
            return lambda one: ord(one) == value
        if kind == "RANGE":
            return lambda one: value[0] <= ord(one) <= value[1]
        if kind == "CATEGORY" and str(value) in _CATEGORIES:
            matches = re.compile(_CATEGORIES[str(value)], self.flags & re.ASCII).match
            return lambda one: matches(one) is not None
        raise _NotJudgedError

    def sample(self, tree: Any) -> str:
        """Return a text by the first choice everywhere."""
        text = ""
        for operator, value in tree:
            name = str(operator)
            characters = self.characters(name, value)
            if characters is not None:
                if not characters:
                    raise _NotJudgedError
                text += next(one for one in self.alphabet if one in characters)
            elif name == "BRANCH":
                text += self.sample(value[1][0])
            elif name in _GROUPS:
                text += self.sample(_GROUPS[name](value))
            elif name in _REPEATS:
                least, most, body = value
                text += self.sample(body) * min(max(least, 1), int(most), 1000)
            elif name not in ("AT", "ASSERT", "ASSERT_NOT"):
                raise _NotJudgedError
        return text


_GROUPS: dict[str, Callable[[Any], Any]] = {"SUBPATTERN": lambda value: value[3], "ATOMIC_GROUP": lambda value: value}
_REPEATS = ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT")


def _points(tree: Any) -> Iterator[int]:
    """Yield the code points that a pattern names."""
    for operator, value in tree:
        name = str(operator)
        if name in ("LITERAL", "NOT_LITERAL"):
            yield value
        elif name == "RANGE":
            yield from value
        elif name == "IN":
            yield from _points(value)
        elif name == "BRANCH":
            for branch in value[1]:
                yield from _points(branch)
        elif name in _GROUPS:
            yield from _points(_GROUPS[name](value))
        elif name in _REPEATS:
            yield from _points(value[2])
        elif name in ("ASSERT", "ASSERT_NOT"):
            yield from _points(value[1])


def _around(point: int) -> list[int]:
    return [near for near in (point - 1, point, point + 1) if 0x20 <= near <= 0x10FFFF and not 0xD800 <= near <= 0xDFFF]


def _automata(pattern: str) -> Iterator[_Automaton]:
    """Yield the automaton of a pattern, and that of each look-around in it."""
    reader = _Reader(pattern)
    waiting = [reader.tree]
    while waiting:
        automaton = _Automaton(reader, waiting)
        automaton.last = automaton.build(waiting.pop()).last
        yield automaton


class _Part(NamedTuple):
    """A part of a pattern.

    Attributes:
        empty: in how many ways it matches nothing.
        first, last: the positions with which it begins and ends; more than once, where there are several ways.
    """

    empty: int
    first: list[int]
    last: list[int]


def _part(empty: int, first: list[int], last: list[int]) -> _Part:
    """Return a part with no more ways of anything than two: that is several."""
    return _Part(
        min(empty, 2),
        *([one for one, count in Counter(ends).items() for _ in range(min(count, 2))] for ends in (first, last)),
    )


class _Automaton:
    """The positions of a pattern, and which may follow which.

    Attributes:
        sets: what each position matches.
        edges: how many ways there are from one position to the next, and what the next may match then.
        last: the positions with which a match may end.
    """

    def __init__(self, reader: _Reader, look_arounds: list[Any]) -> None:
        self.sets: list[Characters] = []
        self.edges: Counter[tuple[int, int]] = Counter()
        self.labels: dict[tuple[int, int], Characters] = {}
        self.last: Sequence[int] = ()
        self._reader = reader
        self._look_arounds = look_arounds
        self._taken: dict[int, Characters] = {}  # what a position in a group without backtracking goes on with

    def build(self, tree: Any) -> _Part:
        """Add a sequence."""
        whole = _Part(1, [], [])
        for operator, value in tree:
            whole = self._joined(whole, self._part(str(operator), value))
        return whole

    def _joined(self, one: _Part, other: _Part) -> _Part:
        self._connect(one.last, other.first)
        return _part(one.empty * other.empty, one.first + other.first * one.empty, one.last * other.empty + other.last)

    def _part(self, name: str, value: Any) -> _Part:
        characters = self._reader.characters(name, value)
        if characters is not None:
            if len(self.sets) >= MAX_POSITIONS:
                raise _NotJudgedError
            self.sets.append(characters)
            return _Part(0, [len(self.sets) - 1], [len(self.sets) - 1])
        if name == "BRANCH":
            branches = [self.build(branch) for branch in value[1]]
            return _part(
                sum(branch.empty for branch in branches),
                [position for branch in branches for position in branch.first],
                [position for branch in branches for position in branch.last],
            )
        if name == "SUBPATTERN":
            return self.build(value[3])
        if name == "ATOMIC_GROUP":
            return self._atomic(lambda: self.build(value))
        if name == "POSSESSIVE_REPEAT":
            return self._atomic(lambda: self._repeat(*value))
        if name in _REPEATS:
            return self._repeat(*value)
        if name in ("ASSERT", "ASSERT_NOT"):
            self._look_arounds.insert(0, value[1])
        return _Part(1, [], [])

    def _repeat(self, least: int, most: int, body: Any) -> _Part:
        if most == 0:
            return _Part(1, [], [])
        if most > _MAX_COPIES:
            whole = self.build(body)
            self._connect(whole.last, whole.first)
        else:
            whole = self.build(body)
            for number in range(1, int(most)):
                copy = self.build(body)
                whole = self._joined(whole, copy if number < least else copy._replace(empty=1))
        return whole._replace(empty=1) if least == 0 else whole

    def _atomic(self, build: Callable[[], _Part]) -> _Part:
        """Add what is matched in one way only: what it could go on with, it goes on with."""
        before = len(self.sets)
        whole = build()
        inside = [edge for edge in self.edges if edge[0] >= before]
        for edge in inside:
            self.edges[edge] = 1
        for position in set(whole.last):
            ahead = [self.sets[after] for start, after in inside if start == position]
            self._taken[position] = self._taken.get(position, frozenset()).union(*ahead)
        return _Part(min(whole.empty, 1), [*dict.fromkeys(whole.first)], [*dict.fromkeys(whole.last)])

    def _connect(self, ends: Iterable[int], beginnings: Collection[int]) -> None:
        for end in ends:
            for beginning in beginnings:
                label = self.sets[beginning] - self._taken.get(end, frozenset())
                if label:
                    self.edges[end, beginning] += 1
                    self.labels[end, beginning] = label | self.labels.get((end, beginning), frozenset())

    def is_exponential(self) -> bool:
        """Tell whether a position has two ways back to itself for one text."""
        following = self._following()
        for component in _components(range(len(self.sets)), following.__getitem__):
            inside = set(component)
            if any(
                count > 1 and start in inside and end in inside for (start, end), count in self.edges.items()
            ) or self._is_ambiguous(inside, following):
                return True
        return False

    def _is_ambiguous(self, inside: set[int], following: list[list[int]]) -> bool:
        def step(pair: tuple[int, int]) -> Iterator[tuple[int, int]]:
            for one in following[pair[0]]:
                for other in following[pair[1]]:
                    if one in inside and other in inside:
                        label = self.labels[pair[0], one]
                        if not label.isdisjoint(self.labels[pair[1], other]):
                            yield (one, other) if one <= other else (other, one)

        for component in _components([(one, one) for one in inside], step):
            same = sum(one == other for one, other in component)
            if 0 < same < len(component):
                return True
        return False

    def longest_chain(self) -> int:
        """Return how many repetitions of one character stand behind each other that can hold the same text."""
        following = self._following()
        everything = frozenset(self._reader.alphabet) - {"\n"}
        # The last one of a pattern that takes whatever comes gives nothing back.
        loops = [
            one
            for one in range(len(self.sets))
            if one in following[one] and not (one in self.last and self.sets[one] >= everything)
        ]
        behind = {
            one: [other for other in loops if other != one and self._leads(one, other, following)] for one in loops
        }
        lengths: dict[int, int] = {}
        for one in reversed(loops):  # positions are numbered in the order in which they stand
            lengths[one] = 1 + max((lengths[other] for other in behind[one] if other in lengths), default=0)
        return max(lengths.values(), default=0)

    def _leads(self, one: int, other: int, following: list[list[int]]) -> bool:
        shared = self.sets[one] & self.sets[other]
        seen, waiting = {one}, [one] if shared else []
        while waiting:
            for after in following[waiting.pop()]:
                if after == other:
                    return True
                if after not in seen and not self.sets[after].isdisjoint(shared):
                    seen.add(after)
                    waiting.append(after)
        return False

    def _following(self) -> list[list[int]]:
        following: list[list[int]] = [[] for _ in self.sets]
        for start, end in self.edges:
            following[start].append(end)
        return following


def _components(starts: Iterable[Any], step: Callable[[Any], Iterable[Any]]) -> Iterator[list[Any]]:
    """Yield the strongly connected components of a graph (Tarjan 1972), without recursion."""
    numbers: dict[Any, int] = {}
    lowest: dict[Any, int] = {}
    stack: list[Any] = []
    on_stack: set[Any] = set()
    for start in starts:
        if start in numbers:
            continue
        path = [(start, iter(list(step(start))))]
        numbers[start] = lowest[start] = len(numbers)
        stack.append(start)
        on_stack.add(start)
        while path:
            node, successors = path[-1]
            for after in successors:
                if after not in numbers:
                    numbers[after] = lowest[after] = len(numbers)
                    stack.append(after)
                    on_stack.add(after)
                    path.append((after, iter(list(step(after)))))
                    break
                if after in on_stack:
                    lowest[node] = min(lowest[node], numbers[after])
            else:
                path.pop()
                if path:
                    lowest[path[-1][0]] = min(lowest[path[-1][0]], lowest[node])
                if lowest[node] == numbers[node]:
                    component = []
                    while True:
                        member = stack.pop()
                        on_stack.discard(member)
                        component.append(member)
                        if member == node:
                            break
                    yield component
