"""The pages of docs/providers: what each has, and that all of it is run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.features.listed import reasons
from tests.providers.recipes import PAGES

HERE = Path(__file__).parent
NAMES = sorted(page.stem for page in PAGES.glob("*.md") if page.stem != "index")


def read(name: str) -> str:
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_page_says_what_to_set_on_both_sides_and_what_refusals_mean(name: str) -> None:
    headings = re.findall(r"^## (.+)$", read(name), flags=re.MULTILINE)
    assert headings[0] == "What to set there"
    assert headings[1].startswith("The gateway")
    assert headings[-1] == "Typical refusals"


@pytest.mark.parametrize("name", NAMES)
def test_every_block_of_a_page_is_run_by_its_test(name: str) -> None:
    """A configuration that is not run is a guess."""
    blocks = len(re.findall(r"^```toml$", read(name), flags=re.MULTILINE))
    text = (HERE / f"test_{name.replace('-', '_')}.py").read_text(encoding="utf-8")
    run = {int(number) for number in re.findall(r"\bnumber=(\d)", text)}
    assert f'recipe(tmp_path, "{name}", ' in text
    assert run | {0} == set(range(blocks))


@pytest.mark.parametrize("name", NAMES)
def test_every_reason_of_a_page_is_one_and_is_seen_in_its_test(name: str) -> None:
    """The tables say what the gateway says."""
    table = read(name).partition("## Typical refusals\n")[2]
    cells = re.findall(r"^\| (`.+?) \|", table, flags=re.MULTILINE)
    named = {code for cell in cells for code in re.findall(r"`(\w+)`", cell)}
    assert named
    assert named <= {reason.code for reason in reasons()}
    text = (HERE / f"test_{name.replace('-', '_')}.py").read_text(encoding="utf-8")
    assert {code for code in named if f'"{code}"' not in text} == set()
