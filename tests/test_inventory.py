"""The checklist: every rule and case has a test, or a line in docs/conformance.md that says why not.

A docstring of a test names the rules (R) and cases (C) that it proves, alone
or as ranges. A rule that loses its last test is found here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

#: What this version must know about: its rules and its cases.
RULES = (
    *((1, 38), (40, 54), (60, 65), (70, 97), (100, 143), (150, 175), (180, 199), (200, 218)),
    *((220, 244), (250, 277), (280, 302), (310, 334), (340, 359)),
    *((370, 373), (385, 385), (390, 390), (394, 394), (400, 403), (406, 418), (423, 445)),
)
CASES = (
    *((1, 6), (8, 10), (12, 14), 16, 18, 20, 21, (23, 27), 29, 30, (32, 35), 38, 40, 43, 45, 46, 48, 49, 51, 52),
    *((54, 57), 60, 64, 65, 73, 75, 77, 78, 79, 81, 82, 85, 87, 88, 90, 92, 94, 95, 97, 98, (100, 123)),
)
WANTED = frozenset(
    [f"R{number:03}" for first, last in RULES for number in range(first, last + 1)]
    + [
        f"C{number:02}"
        for item in CASES
        for number in (range(item[0], item[1] + 1) if isinstance(item, tuple) else (item,))
    ]
)

_NAMED = re.compile(r"\b([RC])(\d{2,3})(?:-\1(\d{2,3}))?\b")


def named_in(text: str) -> set[str]:
    """Return the rules and cases that a text names; ``R100-R103`` names four."""
    return {
        f"{kind}{number:0{len(first)}}"
        for kind, first, last in _NAMED.findall(text)
        for number in range(int(first), int(last or first) + 1)
    }


def docstrings() -> Iterator[str]:
    """Yield the docstring of every test."""
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield ast.get_docstring(node) or ""


def entries(heading: str) -> dict[str, str]:
    """Return the lines of one section of docs/conformance.md, by rule."""
    page = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^- \*\*([RC]\d{2,3})\*\*: (\S.*)$", section, flags=re.MULTILINE))


def test_ranges_and_single_numbers_are_read() -> None:
    assert named_in("R001, C04: D2; R098-R100, C08-C10. R12") == {
        *("R001", "R098", "R099", "R100", "C04", "C08", "C09", "C10", "R12"),
    }


def test_every_rule_and_case_has_a_test_or_a_reason_why_not() -> None:
    proved = set().union(*map(named_in, docstrings()))
    assert sorted(WANTED - proved - entries("Not offered").keys()) == []


def test_nothing_that_is_not_offered_has_a_test() -> None:
    """A line there is an excuse; with a test it would be a lie, one way or the other."""
    proved = set().union(*map(named_in, docstrings()))
    assert sorted(proved & entries("Not offered").keys()) == []


def test_every_choice_is_held_by_a_test() -> None:
    """What no standard settles is settled by a line in the page, and the line by a test."""
    proved = set().union(*map(named_in, docstrings()))
    chosen = entries("Chosen here").keys()
    assert chosen
    assert sorted(chosen - proved) == []
    assert chosen <= WANTED


def test_every_line_of_the_page_is_read_by_these_tests() -> None:
    page = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
    lines = re.findall(r"^- \*\*([RC]\d+)", page, flags=re.MULTILINE)
    assert sorted(lines) == sorted([*entries("Chosen here"), *entries("Not offered")])
    assert len(lines) == len(set(lines))
