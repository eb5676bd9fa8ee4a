"""The rendered reference and example: not stale, complete, and what they say is true."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from gateway.settings.loading.environment import options
from gateway.settings.rendering import reference as render
from tests.support.composed import Settings, load

ROOT = Path(__file__).parents[3]


def test_the_rendered_files_are_those_of_the_code() -> None:
    """Run scripts/docs when this fails."""
    assert render.stale(ROOT, Settings) == []


def test_a_changed_or_missing_file_is_stale(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / render.DOCUMENT).write_text(render.document(Settings) + "x", encoding="utf-8")
    assert render.stale(tmp_path, Settings) == [render.DOCUMENT, render.EXAMPLE]


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty project for the command to write into."""
    for folder in ("docs", "conf"):
        (tmp_path / folder).mkdir()
    monkeypatch.setattr(render, "__file__", str(tmp_path / "gateway/settings/rendering/reference.py"))
    return tmp_path


def test_the_command_names_what_is_stale_and_writes_it(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert render.main(["--check"], Settings) == 1
    assert capsys.readouterr().err.count("is stale: run scripts/docs") == 2
    assert render.main([], Settings) == 0
    assert render.stale(project, Settings) == []
    assert render.main(["--check"], Settings) == 0


def test_the_command_refuses_other_arguments(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert render.main(["--chek"], Settings) == 2
    assert "usage:" in capsys.readouterr().err
    assert render.stale(project, Settings) == [render.DOCUMENT, render.EXAMPLE]


def test_the_example_is_valid_as_it_stands() -> None:
    """It passes `gateway check` without a warning."""
    loaded = load(ROOT / render.EXAMPLE, {}, {})
    assert loaded.warnings == ()


def test_the_examples_commented_lines_are_the_defaults(tmp_path: Path) -> None:
    """Removing every comment sign before an option changes nothing."""
    text = re.sub(r"^#(?=\w+ = |\[\[)", "", render.example(Settings), flags=re.MULTILINE)
    file = tmp_path / "all.toml"
    file.write_text(text, encoding="utf-8")
    # The one table that is a comment as a whole: a key that no gateway has.
    found = load(file, {}, {}).settings
    assert len(found.api_keys) == 1
    assert found.model_copy(update={"api_keys": []}) == load(ROOT / render.EXAMPLE, {}, {}).settings
    tables = tomllib.loads(text)
    definitions = Settings.model_json_schema()["$defs"]
    del definitions["RateLimit"]  # a table within an option: the reference tells its keys
    for model, info in definitions.items():
        name = model.removesuffix("Settings")
        table = tables[{"ApiKey": "api_keys"}.get(name, name.lower() if name.lower() in tables else name.lower() + "s")]
        assert set(table[0] if isinstance(table, list) else table) == set(info["properties"])


def test_the_reference_names_variable_flag_and_default_of_each_option() -> None:
    text = render.document(Settings)
    for option in options(Settings):
        assert f"`{option.variable}` · `{option.flag}`" in text
    assert "number, from 0 to 300 · default `30`" in text
    assert "whole number, from 1024 to 1048576 · default `65536`" in text
    assert '`"prefix"`, `"exact"` or `"regex"` · default `"prefix"`' in text
    assert "table of string or number or boolean" not in text
    assert "### `routes.rate_limit`\n\ntable or list of tables · default `[]`\n" in text
    assert "\n- `requests`: whole number, from 1 to 1000000000 · required. How many requests are let" in text


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({"const": 1, "type": "integer"}, "`1`"),
        (
            {"anyOf": [{"minimum": 1, "type": "integer"}, {"const": "auto", "type": "string"}]},
            'whole number, from 1 or `"auto"`',
        ),
        ({"anyOf": [{"type": "integer"}, {"type": "number"}]}, "number"),
        ({"type": "array", "items": {"type": "string"}, "minItems": 1}, "list of strings, not empty"),
        ({"type": "array", "items": {"enum": ["a", "b"]}}, 'list of `"a"` or `"b"`'),
        ({"type": "object", "additionalProperties": {"type": "boolean"}}, "table of `true` or `false`"),
        ({"exclusiveMinimum": 0.1, "maximum": 10_000_000, "type": "number"}, "number, more than 0.1 to 10000000"),
    ],
)
def test_types_are_described_in_words(node: dict[str, object], words: str) -> None:
    assert render.describe(node) == words


def test_the_json_schema_describes_every_table() -> None:
    schema = json.loads(render.json_schema(Settings))
    assert schema["$schema"].endswith("2020-12/schema")
    assert set(schema["properties"]) == set(Settings.model_fields)
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["Issuer"]["properties"]["leeway_seconds"]["maximum"] == 300
