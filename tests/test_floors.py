"""The building's floors: who may import whom, what stays pure, how long a file may be, and which tests there are.

Without this test the rules of the layout rot.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_LINES = 500

#: A part imports only parts of lower floors, and of its own; parts that share a floor never import each other.
FLOORS = {
    "__init__": 0,
    "errors": 0,
    "identity": 0,
    "own_addresses": 0,
    "clock": 0,
    "tasks": 0,
    "paced_log": 0,
    "turns": 0,
    "tls_contexts": 0,
    "telemetry": 0,
    "settings": 1,
    "store": 2,
    "tokens": 3,
    "policy": 3,
    "proxy": 3,
    "server": 4,
    "demo": 5,
    "cli": 6,
    "__main__": 7,
}
#: On the lowest floor everything may use everything.
GROUND = 0

#: What works on bytes and frozen values only: no await, no aiohttp, no clock of its own. Both lanes call it.
PURE = (
    "errors.py",
    "identity.py",
    "policy",
    "upstream/headers/rewrite.py",
    "upstream/headers/claimed_names.py",
    "upstream/headers/header_policy.py",
    "upstream/headers/forwarded.py",
    "http1/trusted_proxies.py",
    "settings",
    "jwt/jose/base64url.py",
    "jwt/cache.py",
    "jwt/claims/rules.py",
    "features/sender_constrained/client_certificate.py",
    "jwt/claims/confirmation.py",
    "features/sender_constrained/dpop.py",
    "server/authentication/credential_places.py",
    "features/introspection/answer.py",
    "features/introspection/budget.py",
    "features/introspection/verdict_cache.py",
    "jwt/jose/keys.py",
    "jwt/claims/issuer_policy.py",
    "features/sender_constrained/nonces.py",
    "jwt/jose/strict_json.py",
    "features/sender_constrained/target_uri.py",
    "jwt/jose/compact.py",
    "jwt/jose/weak_keys.py",
)
IMPURE_IMPORTS = {
    "aiohttp",
    "asyncio",
    "datetime",
    "requests",
    "socket",
    "threading",
    "time",
    "urllib.request",
    "uvloop",
}

#: Modules without a test file of their own name, and what tests them instead.
TESTED_ELSEWHERE = {
    "__main__.py": "two lines; tests/test_cli.py starts `python -m gateway`",
    "server/admin/parts.py": "declarations; tests/server/admin/test_pages.py and test_metrics.py read them",
    "server/request/request.py": "declarations; tests/server/pipeline/test_judge_steps.py and all end-to-end tests use them",
    "server/request/in_progress.py": "declarations; tests/server/aiohttp_lane/test_lane.py and all end-to-end tests use them",
    "jwt/examined.py": "a declaration; tests/jwt/test_authenticator.py and test_batch.py use it",
    **dict.fromkeys(
        (f"settings/{name}.py" for name in ("issuers", "routes", "schema", "server", "upstreams", "watch")),
        "declarations; test_load.py, test_faults.py and test_render.py use all of them",
    ),
}


def _modules() -> list[Path]:
    return sorted((ROOT / "gateway").rglob("*.py"))


def _part(name: str) -> str:
    """Return the part of the building that a module of the package is in."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def _name(file: Path) -> str:
    relative = file.relative_to(ROOT).with_suffix("")
    return ".".join(relative.parts[:-1] if relative.name == "__init__" else relative.parts)


def _imports(file: Path) -> Iterator[str]:
    """Return the names of the modules that a file imports, as far as they can be told."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            assert node.module is not None
            yield from (
                f"{node.module}.{alias.name}" if node.module == "gateway" else node.module for alias in node.names
            )


def _parts_imported(file: Path) -> set[str]:
    parts = {_part(name) for name in _imports(file) if name == "gateway" or name.startswith("gateway.")}
    return {part if part in FLOORS else "__init__" for part in parts}  # `from gateway import __version__`


@pytest.mark.parametrize("file", _modules(), ids=_name)
def test_a_module_imports_only_from_below(file: Path) -> None:
    own = _part(_name(file))
    for part in _parts_imported(file) - {own}:
        assert FLOORS[part] < FLOORS[own] or FLOORS[part] == FLOORS[own] == GROUND, f"{own} imports {part}"


def test_every_part_has_its_floor() -> None:
    assert {_part(_name(file)) for file in _modules()} == set(FLOORS)


def _pure_files() -> list[Path]:
    places = [ROOT / "gateway" / place for place in PURE]
    return [file for place in places for file in (sorted(place.rglob("*.py")) if place.is_dir() else [place])]


@pytest.mark.parametrize("file", _pure_files(), ids=_name)
def test_what_is_pure_waits_for_nothing_and_asks_no_clock(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        assert not isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith), node.lineno
    imported = {name for module in _imports(file) for name in (module, module.partition(".")[0])}
    assert not imported & IMPURE_IMPORTS


def test_one_file_reads_the_clock() -> None:
    """Time is an argument everywhere else, so that tests can let it pass."""
    readers = [_name(file) for file in _modules() if "time" in _imports(file)]
    assert readers == ["gateway.clock"]


#: Where every file is short enough to be read whole. Tests are read one at a time, so their files may be longer.
SHORT = ("gateway", "benchmarks", "scripts")


def _sources(*folders: str) -> list[Path]:
    return sorted(
        file for folder in folders for file in (ROOT / folder).rglob("*.py") if "node_modules" not in file.parts
    )


def test_no_file_is_too_long_to_be_read() -> None:
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in _sources(*SHORT)}
    assert {_name(file): length for file, length in lengths.items() if length > MAX_LINES} == {}


def test_every_file_says_what_may_live_in_it() -> None:
    silent = []
    for file in _sources(*SHORT, "tests"):
        text = file.read_text(encoding="utf-8")
        if text.strip() and not ast.get_docstring(ast.parse(text)):
            silent.append(_name(file))
    assert silent == []


def test_every_module_has_a_test_file_of_its_name() -> None:
    missing = []
    for file in _modules():
        relative = file.relative_to(ROOT / "gateway")
        if file.name == "__init__.py" or str(relative) in TESTED_ELSEWHERE:
            continue
        if not (ROOT / "tests" / relative.parent / f"test_{file.name}").exists():
            missing.append(str(relative))
    assert missing == []


def test_no_exemption_is_out_of_date() -> None:
    for name in TESTED_ELSEWHERE:
        path = Path(name)
        assert (ROOT / "gateway" / path).exists(), name
        assert not (ROOT / "tests" / path.parent / f"test_{path.name}").exists(), name
