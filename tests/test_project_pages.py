"""What contributors read is complete and true: commands, hooks, decisions, glossary, changelog, version."""

from __future__ import annotations

import configparser
import importlib
import os
import re
import shlex
from importlib.metadata import version
from pathlib import Path
from textwrap import dedent

import pytest

import gateway.features
from gateway import __version__
from gateway.configuration import compose
from gateway.errors import GatewayError
from gateway.features.listed import FEATURES
from tests.support.clock import FakeClock
from tests.support.pipeline import core_of

ROOT = Path(__file__).parents[1]
RELEASE = re.match(r"\d+\.\d+\.\d+", __version__)
#: What the headings of a release are, in this order.
CHANGES = ["To do on upgrade", "Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
#: Terms that pages, help and messages rest on.
TERMS = (
    *(
        "route",
        "credential",
        "credential kind",
        "caller",
        "identity",
        "issuer",
        "tenant",
        "guard",
        "feature",
        "upstream",
    ),
    *("introspection request", "slot", "refused", "reason", "lane", "worker", "supervisor", "key set"),
    *("revocation entry", "rule", "proof", "used id", "service", "observe", "retry"),
)
#: What other products call such things.
FOREIGN = (
    *("consumer", "middleware", "plugin", "filter", "authorizer", "provider", "authenticator", "mutator", "handler"),
    *("policy", "service", "cluster", "listener", "backend", "finalizer", "router", "location", "principal"),
)


def _read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def test_every_script_is_explained_to_contributors() -> None:
    scripts = {file.name for file in (ROOT / "scripts").iterdir() if file.is_file() and os.access(file, os.X_OK)}
    rows = re.findall(r"^\| `scripts/(\w+)` \|", _read("CONTRIBUTING.md"), flags=re.MULTILINE)
    assert sorted(rows) == sorted(scripts)


def test_every_hook_runs_a_command_of_the_project() -> None:
    """Hooks that download or need a network would say something else than `./scripts/check`."""
    config = _read(".pre-commit-config.yaml")
    assert re.findall(r"- repo: (\S+)", config) == ["local"]
    assert set(re.findall(r"language: (\S+)", config)) == {"system"}
    entries = re.findall(r"entry: (.+)", config)
    assert len(entries) == len(re.findall(r"- id: ", config)) > 0
    for command, *options in map(shlex.split, entries):
        assert os.access(ROOT / command, os.X_OK), command
        code = "\n".join(line for line in _read(command).splitlines() if not line.startswith("#"))
        for option in options:
            assert option in code or '"$@"' in code, (command, option)


def test_editors_and_lint_agree_on_the_length_of_a_line() -> None:
    assert re.findall(r"max_line_length = (\d+)", _read(".editorconfig")) == re.findall(
        r"^line-length = (\d+)", _read("pyproject.toml"), flags=re.MULTILINE
    )


def test_every_decision_has_its_form_and_its_row() -> None:
    """A page opens with its title, date and status, which the index repeats, in the order of their dates."""
    pages = sorted(page for page in (ROOT / "docs/decisions").glob("*.md") if page.name != "index.md")
    expected = []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        head = re.match(r"# (.+)\n\nDate: (\d{4}-\d\d-\d\d) · Status: (.+)\n\n## Context\n", text)
        assert head is not None, page.name
        assert re.findall(r"^## (.+)$", text, flags=re.MULTILINE) == ["Context", "Decision", "Consequences"], page.name
        assert page.name.startswith(f"{head[2]}-"), page.name
        assert re.match(r"accepted|replaced by \[", head[3]), page.name
        expected.append((head[2], head[1], page.name, head[3]))
    rows = re.findall(
        r"^\| (\S+) \| \[(.+)\]\((\S+)\) \| (.+) \|$", _read("docs/decisions/index.md"), flags=re.MULTILINE
    )
    assert sorted(rows, key=lambda row: row[2]) == expected
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)


def test_the_pages_for_contributors_are_on_the_map() -> None:
    linked = re.findall(r"\]\(([^)#\s]+)\)", _read("docs/index.md"))
    assert {"glossary.md", "decisions/index.md", "../CONTRIBUTING.md", "../SECURITY.md"} <= set(linked)
    assert "](decisions/index.md)" in _read("docs/architecture.md")
    assert {"CONTRIBUTING.md", "SECURITY.md"} <= set(re.findall(r"\]\(([^)#\s]+)\)", _read("README.md")))


def test_every_term_has_one_meaning_and_one_page() -> None:
    ours = _read("docs/glossary.md").partition("## Words of other products")[0]
    rows = re.findall(r"^\| \*\*(.+)\*\* \| (.+) \| (.+) \|$", ours, flags=re.MULTILINE)
    terms = [term for cell, _, _ in rows for term in cell.split(", ")]
    assert len(terms) == len(set(terms))
    assert set(TERMS) - set(terms) == set()
    for cell, meaning, link in rows:
        assert re.fullmatch(r"\[.+\]\(\S+\.md\S*\)", link), cell
        assert len(meaning) > 15, cell


def test_words_of_other_products_lead_to_ours() -> None:
    theirs = _read("docs/glossary.md").partition("## Words of other products")[2]
    rows = re.findall(r"^\| (.+) \| (.+) \| (.+) \|$", theirs, flags=re.MULTILINE)[1:]
    words = {word for row in rows for cell in row[0].split(", ") for word in [cell, *cell.split()]}
    assert set(FOREIGN) - words == set()
    assert [row[0].lower() for row in rows] == sorted(row[0].lower() for row in rows)


def test_the_version_has_one_source() -> None:
    """`gateway/__init__.py` states it; nothing else of the package, its settings or its examples repeats it."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    assert setup["metadata"]["version"] == "attr: gateway.__version__"
    assert version("jwt-gateway") == __version__
    assert RELEASE is not None
    stated = re.compile(rf"(?<![\d.]){re.escape(RELEASE[0])}(?!\.?\d)")
    files = [file for folder in ("gateway", "conf", "scripts") for file in (ROOT / folder).rglob("*") if file.is_file()]
    files += [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "setup.cfg", "pyproject.toml")]
    repeated = [
        str(file.relative_to(ROOT))
        for file in files
        if file.suffix != ".pyc" and stated.search(file.read_text(encoding="utf-8"))
    ]
    assert repeated == ["gateway/__init__.py"]


def test_the_changelog_begins_with_the_version_that_is_being_made() -> None:
    """An open release is one heading above closed ones, and its version ends in .dev."""
    headings = re.findall(r"^## (.+)$", _read("CHANGELOG.md"), flags=re.MULTILINE)
    assert RELEASE is not None
    is_open = ".dev" in __version__
    assert headings[0].partition(" (")[0] == (f"Unreleased: {RELEASE[0]}" if is_open else RELEASE[0])
    assert [heading for heading in headings[1:] if not re.match(r"\d+\.\d+\.\d+( |$)", heading)] == []


def test_the_changelog_sorts_changes_by_kind() -> None:
    for release in _read("CHANGELOG.md").split("\n## ")[1:]:
        kinds = re.findall(r"^### (.+)$", release, flags=re.MULTILINE)
        assert kinds == [kind for kind in CHANGES if kind in kinds], release.partition("\n")[0]
        assert kinds


def _write_worked_example(folder: Path) -> None:
    """Write the files that the example in CONTRIBUTING.md shows."""
    section = _read("CONTRIBUTING.md").partition("\n## Add a feature\n")[2]
    folder.mkdir()
    for block in re.findall(r"^   ```python\n(.*?)^   ```$", section, flags=re.MULTILINE | re.DOTALL):
        parts = re.split(r"^# (\w+\.py)\n", dedent(block), flags=re.MULTILINE)
        for name, text in zip(parts[1::2], parts[2::2], strict=True):
            (folder / name).write_text(text, encoding="utf-8")


def test_the_worked_example_works_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write_worked_example(tmp_path / "maintenance")
    monkeypatch.setattr(gateway.features, "__path__", [*gateway.features.__path__, str(tmp_path)])
    feature = importlib.import_module("gateway.features.maintenance.feature").MaintenanceFeature()

    model = compose((*FEATURES, feature))
    settings = model.model_validate(
        {
            "issuers": [{"name": "main", "issuer": "https://id.test", "audience": ["api"]}],
            "upstreams": [{"name": "orders", "urls": ["http://127.0.0.1:9000"]}],
            "routes": [{"path": "/", "upstream": "orders"}, {"path": "/x", "upstream": "orders", "maintenance": True}],
        }
    )
    core = core_of(settings, FakeClock())
    part = feature.build(core)
    (guard,) = part.guards
    assert [(route.name, route.express_serves) for route in core.routes if guard.covers(route)] == [("/x", False)]
    with pytest.raises(GatewayError) as refused:
        guard.before(*[None] * 2)  # it looks at nothing of the request
    assert refused.value.reason in feature.reasons
    assert part.status() == {"maintenance": {"refusals": 1}}
    assert [sample.value for family in part.metrics() for sample in family.samples] == [1]
