"""The checklist: every rule and case has a test, or a line in docs/conformance.md that says why not.

A test names the rules (R) and cases (C) that it proves in its marker:
``@pytest.mark.rule("R181", "C73")``. A rule that loses its last test is found
here, and so is an unknown number.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: What this version must know about: its rules and its cases.
RULES = (
    *((1, 38), (40, 54), (60, 65), (70, 97), (100, 143), (150, 175), (180, 199), (200, 218)),
    *((220, 244), (250, 277), (280, 302), (310, 334), (340, 359)),
    *((370, 373), (378, 391), (393, 394), (400, 418), (423, 445)),
)
CASES = (
    *((1, 6), (8, 10), (12, 14), 16, 18, 20, 21, (23, 30), (32, 35), 38, 40, 43, 45, 46, 48, 49, 51, 52),
    *((54, 57), 60, 61, (63, 65), 69, 72, 73, 75, (77, 79), 81, 82, (85, 88), 90, 92, 94, 95, 97, 98, (100, 123)),
)
WANTED = frozenset(
    [f"R{number:03}" for first, last in RULES for number in range(first, last + 1)]
    + [
        f"C{number:02}"
        for item in CASES
        for number in (range(item[0], item[1] + 1) if isinstance(item, tuple) else (item,))
    ]
)


class Unreadable(Exception):
    """A marker whose numbers cannot be read without running the test."""


def named_in(tree: ast.Module) -> list[str]:
    """Return what the markers of a test file name; ``marks=`` of a parameter counts too."""
    named: list[str] = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr != "rule":
            continue
        for number in node.args:
            if not isinstance(number, ast.Constant) or not isinstance(number.value, str):
                raise Unreadable(ast.unparse(node))
            named.append(number.value)
        if not node.args or node.keywords:
            raise Unreadable(ast.unparse(node))
    return named


@functools.cache
def files() -> Mapping[Path, ast.Module]:
    """Return every test file but this one."""
    found = sorted((ROOT / "tests").rglob("test_*.py"))
    return {file: ast.parse(file.read_text(encoding="utf-8")) for file in found if file != Path(__file__)}


@functools.cache
def proved() -> set[str]:
    """Return every rule and case that a test names."""
    return {number for tree in files().values() for number in named_in(tree)}


def entries(heading: str) -> dict[str, str]:
    """Return the lines of one section of docs/conformance.md, by rule."""
    page = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^- \*\*([RC]\d{2,3})\*\*: (\S.*)$", section, flags=re.MULTILINE))


def test_markers_are_read_wherever_they_stand() -> None:
    text = """
@pytest.mark.parametrize("a", [pytest.param(1, marks=pytest.mark.rule("C08"))])
@pytest.mark.rule("R001", "C04")
def test_one(a): ...
"""
    assert sorted(named_in(ast.parse(text))) == ["C04", "C08", "R001"]


@pytest.mark.parametrize("marker", ["rule()", "rule(NUMBER)", "rule(*NUMBERS)", "rule(181)", "rule('R1', why='x')"])
def test_marker_that_names_nothing_plainly_is_refused(marker: str) -> None:
    """A number can be found with grep."""
    with pytest.raises(Unreadable):
        named_in(ast.parse(f"@pytest.mark.{marker}\ndef test_one(): ..."))


def test_every_rule_and_case_has_a_test_or_a_reason_why_not() -> None:
    assert sorted(WANTED - proved() - entries("Not offered").keys()) == []


def test_no_marker_names_a_number_that_nobody_knows() -> None:
    assert sorted(proved() - WANTED) == []


def test_numbers_stand_in_markers_and_not_in_docstrings() -> None:
    """There they would count for nothing."""
    found = [
        f"{file.relative_to(ROOT)}: {node.name}"
        for file, tree in files().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        if re.search(r"\b(R\d{3}|C\d{2,3})\b", ast.get_docstring(node) or "")
    ]
    assert found == []


def test_every_number_is_in_a_row_of_the_page() -> None:
    """So that a reader finds what it is about, and the folder of its tests."""
    page = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([RC]\d.*?) \|", page, flags=re.MULTILINE)
    ranges = [re.findall(r"([RC])(\d+)(?:\u2013[RC](\d+))?", row) for row in rows]
    covered = {
        f"{kind}{number:0{3 if kind == 'R' else 2}}"
        for row in ranges
        for kind, first, last in row
        for number in range(int(first), int(last or first) + 1)
    }
    assert sorted(WANTED - covered) == []


def test_nothing_that_is_not_offered_has_a_test() -> None:
    """A line there is an excuse; with a test it would be a lie, one way or the other."""
    assert sorted(proved() & entries("Not offered").keys()) == []


def test_every_choice_is_held_by_a_test() -> None:
    """What no standard settles is settled by a line in the page, and the line by a test."""
    chosen = entries("Chosen here").keys()
    assert chosen
    assert sorted(chosen - proved()) == []
    assert chosen <= WANTED


def test_every_line_of_the_page_is_read_by_these_tests() -> None:
    page = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
    lines = re.findall(r"^- \*\*([RC]\d+)", page, flags=re.MULTILINE)
    assert sorted(lines) == sorted([*entries("Chosen here"), *entries("Not offered")])
    assert len(lines) == len(set(lines))
