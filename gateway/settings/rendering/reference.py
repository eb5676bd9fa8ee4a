"""The configuration reference and the example file, made from the declarations.

``python -m gateway.configuration`` writes ``docs/configuration.md`` and
``conf/gateway.example.toml``; with ``--check`` it only says whether they are
stale. All that is said about one option or table comes from its declaration; the
texts here are about the whole.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from gateway.settings.loading import environment
from gateway.settings.tables.base import Section, listed_tables, single_tables
from gateway.settings.tables.descriptions import descriptions
from gateway.settings.tables.root import DEFAULT_IDENTITY, Settings
from gateway.settings.toml import key_text, value_text

#: Where the rendered files are, from the root of the project.
DOCUMENT, EXAMPLE = Path("docs/configuration.md"), Path("conf/gateway.example.toml")

_INTRODUCTION = f"""\
<!-- Rendered by scripts/docs from gateway/settings. Do not edit. -->
# Configuration

A TOML file (`--config FILE`, or the variable `{environment.CONFIG}`), environment variables and flags. For each
option the first of these that names it wins: **flag, environment, file, default**. Names are derived: `listen` in
`[server]` is the variable `GATEWAY_SERVER_LISTEN` and the flag `--server-listen`.

`gateway check` reads all of it and names every fault at once, each with the path of its key; the exit code is 2 then.
Unknown keys, variables and flags are faults, so that a misspelt option cannot go unnoticed. `gateway config` prints the
configuration in force and where each value came from, `gateway config --schema` its JSON Schema.

Durations are seconds, fractions allowed. Sizes are bytes. A route without `auth` requires a token, and a request that
no route matches gets 404.

## Without a file

Four variables set up one issuer and one upstream, both called `default`, and a route `/` that requires a token:

| variable | meaning |
|---|---|
| `{environment.SHORT_ISSUER}` | the exact `iss` of the tokens |
| `{environment.SHORT_AUDIENCE}` | accepted audiences, comma-separated |
| `{environment.SHORT_JWKS_URL}` | where the keys are; optional: by OIDC discovery otherwise |
| `{environment.SHORT_UPSTREAM}` | base URLs of the service, comma-separated |

They are refused together with issuers, upstreams or routes from a file or from the variables below. An empty one counts
as not set. All other options keep working beside them.

## Environment variables

- Lists are comma-separated words, or JSON: `GATEWAY_SERVER_TRUSTED_PROXIES=10.0.0.0/8,192.0.2.7`.
- Tables whose number or names are yours come whole, as JSON, instead of those of the file:
  {{tables}}.
- A variable that begins with `{environment.VARIABLE_PREFIX}` and is not listed on this page is a fault, except
  `GATEWAY_INTERFACE` (CGI) and what Kubernetes sets for a Service called `gateway` or `gateway-...`:
  `..._SERVICE_HOST`, `..._SERVICE_PORT...`, `..._PORT_<number>_<protocol>...`, and `..._PORT` when its value is an
  address such as `tcp://10.0.0.1:80`.

## Files that options name

Certificates, keys, `jwks_ca_file` and `api_keys_file` must be sound at the start. A missing `jwks_file` or
`jwks_token_file` is a warning only, because other software may write it later; until it is there, requests with tokens
of that issuer get 503.
"""

#: `[identity]` is no table of options, so there is no declaration to say this.
_IDENTITY_NOTE = """\
The keys are the headers that the upstream gets, the values say from which claim. These headers are removed from every
incoming request, in every spelling that a service could take for the same name, on every route; they are set only from
verified claims. Printable ASCII stands as it is, other text is percent-encoded UTF-8, numbers and booleans are JSON, a
list of plain strings is joined with `,`, anything else is JSON. An absent or null claim gives no header. A claim that
cannot be a header value (control characters, over 8 KiB) makes the token invalid.

A list is a path into nested claims: `"x-roles" = ["realm_access", "roles"]`.
"""
_PLURALS = {"string": "strings", "table": "tables"}
_GENERATED = "# Rendered by scripts/docs from gateway/settings. Do not edit; copy it.\n"


def document(model: type[Settings]) -> str:
    """Return the configuration reference as Markdown."""
    tables = ", ".join(f"`{environment.variable_name(name)}`" for name in environment.table_names(model))
    return _INTRODUCTION.format(tables=tables) + "\n" + "\n".join(_sections(model)) + "\n"


def example(model: type[Settings]) -> str:
    """Return a TOML file with every option: required ones with an example, the others with their default."""
    return _GENERATED + "\n" + "\n".join(_example_tables(model))


def describe(node: Mapping[str, Any]) -> str:
    """Say in words what values a node of the JSON Schema allows."""
    if "$ref" in node:
        return "table"
    if "const" in node or "enum" in node:
        words = [f"`{value_text(word)}`" for word in node.get("enum", [node.get("const")])]
        return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
    if "anyOf" in node:
        kinds = [describe(kind) for kind in node["anyOf"]]
        if "number" in kinds and "whole number" in kinds:
            kinds.remove("whole number")
        return " or ".join(kinds)
    if node["type"] == "array":
        kind = describe(node["items"])
        return f"list of {_PLURALS.get(kind, kind)}" + (", not empty" if node.get("minItems") else "")
    if node["type"] == "object":
        return f"table of {describe(node['additionalProperties'])}"
    bounds = {"minimum": "from {}", "exclusiveMinimum": "more than {}", "maximum": "to {}"}
    limits = " ".join(text.format(f"{node[name]:.15g}") for name, text in bounds.items() if name in node)
    name = {"integer": "whole number", "boolean": "`true` or `false`"}.get(node["type"], node["type"])
    return f"{name}, {limits}" if limits else str(name)


def stale(root: Path, model: type[Settings]) -> list[Path]:
    """Return the rendered files under ``root`` that are not what they would be now."""
    return [path for path, text in _files(model).items() if not _is(root / path, text)]


def main(arguments: list[str], model: type[Settings]) -> int:
    """Write the files of a composed configuration, or with ``--check`` return 1 when one is stale."""
    root = Path(__file__).parents[3]
    if arguments == ["--check"]:
        for path in stale(root, model):
            print(f"{path} is stale: run scripts/docs", file=sys.stderr)
        return 1 if stale(root, model) else 0
    if arguments:
        print("usage: python -m gateway.configuration [--check]", file=sys.stderr)
        return 2
    for path, text in _files(model).items():
        (root / path).write_text(text, encoding="utf-8")
    return 0


def json_schema(model: type[Settings]) -> str:
    """Return the JSON Schema of a composed configuration."""
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **_schema(model)}, indent=2)


class _WithDescriptions(GenerateJsonSchema):
    """Adds what the declarations say about each option."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        made = super().model_schema(schema)
        table: type[Section] = schema["cls"]
        for name, text in descriptions(table).items():
            made["properties"][name]["description"] = text
        return made


def _schema(model: type[Settings]) -> dict[str, Any]:
    return model.model_json_schema(schema_generator=_WithDescriptions)


def _files(model: type[Settings]) -> dict[Path, str]:
    return {DOCUMENT: document(model), EXAMPLE: example(model)}


def _is(file: Path, text: str) -> bool:
    return file.is_file() and file.read_text(encoding="utf-8") == text


def _tables(model: type[Settings]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Return each table's name, its heading in TOML, and its node of the JSON Schema."""
    schema = _schema(model)
    for name, node in schema["properties"].items():
        is_list = "items" in node
        reference = (node["items"] if is_list else node).get("$ref", "")
        yield name, f"[[{name}]]" if is_list else f"[{name}]", schema["$defs"].get(reference.rpartition("/")[2], node)


def _sections(model: type[Settings]) -> Iterator[str]:
    options = {(option.section, option.name): option for option in environment.options(model)}
    declared = {**single_tables(model), **listed_tables(model)}
    for name, heading, table in _tables(model):
        yield f"## `{heading}`\n"
        yield _flat(table["description"]) + "\n"
        if note := declared[name].note if name in declared else _IDENTITY_NOTE:
            yield note
        if name in environment.table_names(model):
            yield f"Environment: `{environment.variable_name(name)}`, as JSON.\n"
        if name == "identity":
            yield f"Default: `{value_text(DEFAULT_IDENTITY)}`"
        for key, node in table.get("properties", {}).items():
            option = options.get((name, key))
            names = f" · `{option.variable}` · `{option.flag}`" if option else ""
            default = f"default `{value_text(node['default'])}`" if "default" in node else "required"
            yield f"### `{name}.{key}`\n"
            yield f"{describe(node)} · {default}{names}\n"
            yield _flat(node["description"]) + "\n"
            yield from _inner_options(node, model)


def _inner_options(node: Mapping[str, Any], model: type[Settings]) -> Iterator[str]:
    """Return a list of the options of the table that an option is, if it is one."""
    reference = next((kind["$ref"] for kind in node.get("anyOf", ()) if "$ref" in kind), None)
    if reference is not None:
        inner = _schema(model)["$defs"][reference.rpartition("/")[2]]
        for key, option in inner["properties"].items():
            default = f"default `{value_text(option['default'])}`" if "default" in option else "required"
            yield f"- `{key}`: {describe(option)} · {default}. {_flat(option['description'])}"
        yield ""


def _example_tables(model: type[Settings]) -> Iterator[str]:
    listed = listed_tables(model)
    for name, heading, table in _tables(model):
        yield f"# {_flat(table['description'])}"
        sign = "#" if name in listed and listed[name].commented else ""
        yield sign + heading
        if name == "identity":
            yield from (f"{key_text(key)} = {value_text(source)}" for key, source in DEFAULT_IDENTITY.items())
        for key, node in table.get("properties", {}).items():
            yield f"# {_flat(node['description'])}"
            if "default" in node:
                yield f"#{key} = {value_text(node['default'])}"
            else:
                yield f"{sign}{key} = {value_text(node['examples'][0])}"
        yield ""


def _flat(text: str) -> str:
    return " ".join(text.split())
