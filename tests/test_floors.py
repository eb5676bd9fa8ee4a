"""The rules of the house: who may import whom, what stays pure, how much stands in one place, which tests there are.

Without this test the rules of the layout rot. What does not follow them yet stands in lists with names; each list is
compared in both directions, so it can only get shorter.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "gateway"

#: What stands at the top of the package imports only from lower floors; what shares a floor never imports each other.
FLOORS = {
    "__init__": 0,
    "errors": 0,
    "identity": 0,
    "clock": 0,
    "tasks": 0,
    "network_errors": 0,
    "paced_log": 0,
    "spare_memory": 0,
    "tls_contexts": 0,
    "turns": 0,
    "watched_file": 0,
    "http1": 1,
    "settings": 2,
    "outbound": 3,
    "store": 3,
    "telemetry": 3,
    "jwt": 4,
    "policy": 4,
    "upstream": 4,
    "server": 5,
    "features": 6,
    "app": 7,
    "configuration": 7,
    "importers": 7,
    "demo": 8,
    "process": 8,
    "cli": 9,
    "__main__": 10,
}
#: On the lowest floor everything may use everything.
GROUND = 0

#: What has its floor before it is there.
NOT_YET = {"importers"}

#: The list of features, and who reads it.
LIST = "features.listed"
READ_THE_LIST = {"configuration"}

#: How much stands in one place: modules of a folder, lines of a file and of a function.
MAX_MODULES, MAX_LINES, MAX_FUNCTION_LINES = 14, 500, 60

#: Functions that are longer, with how long they may be.
STILL_LONG: dict[str, int] = {}

#: Classes that are the only heir of a class in another file: one class cut in two.
STILL_CUT = {
    "server.express_lane.connection.ExpressConnection",
    "server.express_lane.exchange.ExpressExchange",
}
#: What a feature says of settings is declared below the server, and has one heir there.
NOT_CUT = {"server.seam.feature.Feature"}

#: Public names that several modules define: one for each feature, or for each program. Any other is found once by
#: ``git grep``.
ONE_FOR_EACH = {"REASONS", "main"}

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
    "server/request/challenges.py",
    "features/introspection/answer.py",
    "features/introspection/budget.py",
    "features/introspection/verdict_cache.py",
    "jwt/jose/keys.py",
    "jwt/jose/shape.py",
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

#: What of these places is not: it asks the machine which addresses are its own.
NOT_PURE = {"settings/checks/own_addresses.py"}

#: Modules without a test file of their own name, and what tests them instead.
TESTED_ELSEWHERE = {
    "__main__.py": "the entry of the process; tests/test_cli.py starts `python -m gateway`",
    "server/admin/worker_view.py": "a declaration; tests/server/admin/test_pages.py and test_collector.py read it",
    "server/request/request.py": "declarations; tests/server/pipeline/test_judge_steps.py uses them",
    "server/request/in_progress.py": "declarations; tests/server/aiohttp_lane/test_lane.py uses them",
    "server/request/in_use.py": "a declaration; tests/server/authentication/test_token_expiry.py uses it",
    "telemetry/record.py": "a declaration; tests/telemetry/test_log_line.py uses it",
    "server/request/endpoint.py": "a declaration; tests/features/resource_metadata/test_documents.py uses it",
    **dict.fromkeys(
        (f"features/{name}/options.py" for name in ("single_use", "abuse_watch")),
        "declarations; tests/test_configuration.py and the tests of their checks use them",
    ),
    **dict.fromkeys(
        (f"settings/tables/{name}.py" for name in ("issuers", "root", "routes", "server", "tokens", "upstreams")),
        "declarations; test_load.py, test_faults.py and test_reference.py use all of them",
    ),
}

#: The same for modules that each feature may have.
OF_EACH_FEATURE = {
    "feature.py": "a declaration; tests/features/test_listed.py looks at each",
    "reasons.py": "declarations; tests/test_errors.py and test_listed.py look at each",
}

#: Tests that name what begins with an underscore, where the gateway has such a name as well, and why.
REACH_INSIDE = {
    "e2e/connections/test_slow_clients.py": "aiohttp's: how many bytes of content wait for a reader",
    "test_tls_contexts.py": "redis-py's, which the gateway overrides: the TLS context of a connection",
}

#: Names of every object.
OF_TUPLES_AND_PROCESSES = {"_asdict", "_exit", "_fields", "_make", "_replace"}

#: What takes the name of an attribute as a text.
BY_TEXT = {"delattr", "getattr", "hasattr", "object", "patch", "setattr"}


# --- the files, and what they import ---


def _modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _name(file: Path) -> str:
    """Return the name of a module without that of the package; ``__init__`` for the package itself."""
    relative = file.relative_to(PACKAGE).with_suffix("")
    parts = relative.parts[:-1] if relative.name == "__init__" else relative.parts
    return ".".join(parts) or "__init__"


def _top(name: str) -> str:
    return name.partition(".")[0]


def _folder(name: str) -> str:
    """Return the folder that a module is in; what stands at the top of the package is one of its own."""
    return name if "." not in name or name in _folders() else name.rpartition(".")[0]


@functools.cache
def _names() -> dict[str, Path]:
    return {_name(file): file for file in _modules()}


@functools.cache
def _folders() -> frozenset[str]:
    return frozenset(name for name, file in _names().items() if file.name == "__init__.py")


def _imported(file: Path) -> Iterator[str]:
    """Return the names that a file imports, in full, as far as they can be known."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            assert node.module is not None
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole.removeprefix("gateway.") in _names() else node.module


@functools.cache
def _graph() -> dict[str, frozenset[str]]:
    """Return what of the package each module imports, by name."""
    found = {}
    for name, file in _names().items():
        own = (one for one in _imported(file) if one == "gateway" or one.startswith("gateway."))
        found[name] = frozenset(one.removeprefix("gateway.") if one != "gateway" else "__init__" for one in own)
        assert found[name] <= set(_names()), name
    return found


def _arrows() -> Iterator[tuple[str, str]]:
    for name, imported in _graph().items():
        yield from ((name, other) for other in sorted(imported))


def _feature(name: str) -> str:
    """Return the feature that a module is of; empty for none."""
    parts = name.split(".")
    return parts[1] if parts[0] == "features" and len(parts) > 1 and name != LIST else ""


# --- floors ---


def test_every_part_has_its_floor() -> None:
    assert {_top(name) for name in _names()} == set(FLOORS) - NOT_YET


def test_a_module_imports_only_from_below() -> None:
    up = set()
    for name, other in _arrows():
        own, others = FLOORS[_top(name)], FLOORS[_top(other)]
        if _top(name) == _top(other) or own > others or own == others == GROUND:
            continue
        if _top(other) != "features":  # that is the next test's
            up.add((name, other))
    assert up == set()


def test_the_core_knows_no_feature() -> None:
    """What knows the list knows no more than that."""
    known: dict[str, set[str]] = {}
    for name, other in _arrows():
        if _top(name) != "features" and _top(other) == "features":
            if other in (LIST, "features"):
                assert name in READ_THE_LIST, f"{name} reads the list of features"
            else:
                known.setdefault(name, set()).add(_feature(other))
    assert known == {}


def test_features_do_not_know_each_other() -> None:
    """What two of them need belongs to the core."""
    across = {
        (name, other)
        for name, other in _arrows()
        if (own := _feature(name)) and _top(other) == "features" and _feature(other) != own
    }
    assert across == set()


def test_a_feature_is_imported_by_its_declaration_alone() -> None:
    """What the list imports is what every gateway imports, whatever it is configured for."""
    declarations = {f"features.{_feature(name)}.feature" for name in _names() if "." in name and _feature(name)}
    assert _graph()[LIST] & {name for name in _names() if _feature(name)} == declarations


def test_no_files_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter(_graph()).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def _circles(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """Return the sets of nodes each of which can be reached from every other one of its set."""

    def reached(start: str) -> set[str]:
        found, ahead = set[str](), [start]
        while ahead:
            for node in graph[ahead.pop()] - found:
                found.add(node)
                ahead.append(node)
        return found

    all_reached = {node: reached(node) for node in graph}
    return {
        frozenset({node, *(other for other in all_reached[node] if node in all_reached[other])})
        for node in graph
        if node in all_reached[node]
    }


def test_no_folders_import_each_other_in_a_circle() -> None:
    """A folder and what is in it are no two folders in this sense."""
    graph: dict[str, set[str]] = {_folder(name): set() for name in _names()}
    for name, other in _arrows():
        one, two = _folder(name), _folder(other)
        if f"{one}.".startswith(f"{two}.") is f"{two}.".startswith(f"{one}.") is False:
            graph[one].add(two)
    assert _circles(graph) == set()


# --- how much stands in one place ---

#: Where every file is short enough to be read whole. Tests are read one at a time, so their files may be longer.
SHORT = ("gateway", "benchmarks", "scripts")


def _sources(*folders: str) -> list[Path]:
    return sorted(
        file for folder in folders for file in (ROOT / folder).rglob("*.py") if "node_modules" not in file.parts
    )


def test_no_folder_has_too_many_modules_to_be_surveyed() -> None:
    counts: dict[str, int] = {}
    for file in _modules():
        if file.name != "__init__.py":
            folder = str(file.parent.relative_to(ROOT))
            counts[folder] = counts.get(folder, 0) + 1
    assert {folder: count for folder, count in counts.items() if count > MAX_MODULES} == {}


def test_no_file_is_too_long_to_be_read() -> None:
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in _sources(*SHORT)}
    assert {str(file): length for file, length in lengths.items() if length > MAX_LINES} == {}


def test_no_function_is_too_long_to_be_read() -> None:
    long = {}
    for name, file in _names().items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                if (length := node.end_lineno - node.lineno + 1) > MAX_FUNCTION_LINES:
                    long[f"{name}.{node.name}"] = length
    assert long == STILL_LONG


def test_no_class_is_cut_over_several_files() -> None:
    """A class with one heir, in another file, is half a class; a protocol is not."""
    heirs: dict[tuple[str, str], list[str]] = {}
    protocols = set()
    for module, file in _names().items():
        tree = ast.parse(file.read_text(encoding="utf-8"))
        origin = {
            alias.asname or alias.name: (node.module.removeprefix("gateway."), alias.name)
            for node in tree.body
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("gateway.")
            for alias in node.names
        }
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                bases = [ast.unparse(base).partition("[")[0] for base in node.bases]
                if "Protocol" in bases:
                    protocols.add((module, node.name))
                for base in bases:
                    heirs.setdefault(origin.get(base, (module, base)), []).append(f"{module}.{node.name}")
    cut = {
        found[0]
        for (module, name), found in heirs.items()
        if len(found) == 1 and module in _names() and (module, name) not in protocols
        if found[0].rpartition(".")[0] != module
    }
    assert cut - NOT_CUT == STILL_CUT


def _defined(tree: ast.Module) -> Iterator[str]:
    """Return the names that a module defines at its top, and does not keep to itself."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            targets: list[ast.expr] = [ast.Name(node.name)]
        elif isinstance(node, ast.Assign):
            targets = node.targets
        else:
            targets = [node.target] if isinstance(node, ast.AnnAssign) else []
        for target in targets:
            names = target.elts if isinstance(target, ast.Tuple) else [target]
            yield from (name.id for name in names if isinstance(name, ast.Name) and not name.id.startswith("_"))


def test_each_public_name_is_defined_once() -> None:
    places: dict[str, list[str]] = {}
    for module, file in _names().items():
        for name in _defined(ast.parse(file.read_text(encoding="utf-8"))):
            places.setdefault(name, []).append(module)
    assert {name: found for name, found in places.items() if len(found) > 1 and name not in ONE_FOR_EACH} == {}


def test_every_file_says_what_may_live_in_it() -> None:
    silent = []
    for file in _sources(*SHORT, "tests"):
        text = file.read_text(encoding="utf-8")
        if text.strip() and not ast.get_docstring(ast.parse(text)):
            silent.append(str(file.relative_to(ROOT)))
    assert silent == []


def test_every_folder_says_in_three_sentences_what_lives_there() -> None:
    found = {}
    for name in _folders():
        text = ast.get_docstring(ast.parse(_names()[name].read_text(encoding="utf-8"))) or ""
        found[name] = len(re.findall(r"\.(?=\s|$)", text))
    assert {name: count for name, count in found.items() if count != 3} == {}


def _is_found(name: str, at: Path) -> bool:
    """Return whether a file that a text of the package names is found by that name."""
    if (at.parent / name).exists():
        return True
    files = [file.relative_to(PACKAGE) for file in _names().values()]
    places = [file for file in files if f"/{file}".endswith(f"/{name}")]
    if "/" in name or len(places) == 1 or at.suffix == ".md":  # a page says the folder beside it
        return bool(places) or (ROOT / name).exists()
    return {file.parts[0] for file in places} == {"features"}  # what several features have, as a kind


def test_the_files_that_a_text_names_are_there() -> None:
    """Moving a file shows what still speaks of its old place."""
    lost = []
    for file in [*_modules(), ROOT / "docs" / "architecture.md", ROOT / "CONTRIBUTING.md"]:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            names = re.findall(r"``?((?:\w+/)*[a-z_0-9]+\.py)``?", line)
            lost += [f"{file.relative_to(ROOT)}:{number}: {name}" for name in names if not _is_found(name, file)]
    assert lost == []


# --- what is pure ---


def _pure_files() -> list[Path]:
    places = [PACKAGE / place for place in PURE]
    files = [file for place in places for file in (sorted(place.rglob("*.py")) if place.is_dir() else [place])]
    return [file for file in files if str(file.relative_to(PACKAGE)) not in NOT_PURE]


@pytest.mark.parametrize("file", _pure_files(), ids=_name)
def test_what_is_pure_waits_for_nothing_and_asks_no_clock(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        assert not isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith), node.lineno
    imported = {name for module in _imported(file) for name in (module, module.partition(".")[0])}
    assert not imported & IMPURE_IMPORTS


def test_one_file_reads_the_clock() -> None:
    """Time is an argument everywhere else, so that tests can let it pass."""
    assert [_name(file) for file in _modules() if "time" in set(_imported(file))] == ["clock"]


# --- what tests may touch ---


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in OF_TUPLES_AND_PROCESSES | {"_"}


def _named(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Return the names of functions, classes and variables that these define."""
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name))


def _members(tree: ast.Module) -> Iterator[str]:
    """Return the names that the classes of a module give to methods and attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield from _named(node.body)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_own(node.value):
            yield node.attr


def _privates(files: Iterable[Path]) -> set[str]:
    """Return what begins with an underscore in modules, and in their objects."""
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    return {name for tree in trees for name in (*_named(tree.body), *_members(tree)) if _is_private(name)}


def _is_own(value: ast.expr) -> bool:
    """Return whether this is the object whose method it stands in."""
    if isinstance(value, ast.Call):
        value = value.func
    return isinstance(value, ast.Name) and value.id in ("self", "cls", "super")


def _reached(node: ast.AST) -> Iterator[str]:
    """Return the names that a piece of code takes from other objects and modules, as attributes or as texts."""
    if isinstance(node, ast.Attribute) and not _is_own(node.value):
        yield node.attr
    elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "gateway":
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in BY_TEXT:
        texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
        yield from (text.rpartition(".")[2] for text in texts if isinstance(text, str))


def test_tests_reach_the_gateway_by_its_public_names_only() -> None:
    """What begins with an underscore may be renamed without a test that fails.

    A name is taken for the gateway's if it has one that is spelled so, and the test has not made one itself.
    """
    known = _privates(_modules())
    inside: dict[str, list[str]] = {}
    for file in _sources("tests"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        foreign = known.difference(_members(tree))
        for node in ast.walk(tree):
            for name in foreign.intersection(_reached(node)):
                assert isinstance(node, ast.expr | ast.stmt)
                inside.setdefault(str(file.relative_to(ROOT / "tests")), []).append(f"{node.lineno}: {name}")
    assert {file: found for file, found in inside.items() if file not in REACH_INSIDE} == {}
    assert set(REACH_INSIDE) <= set(inside), "these no longer do"


@pytest.mark.parametrize(
    "code",
    [
        "source._epoch",
        "source.table._ends[0]",
        "found()._close()",
        "source._epoch = 1",
        "from gateway.tasks import _log",
        "monkeypatch.setattr(Supervisor, '_live', 1)",
        "monkeypatch.setattr('gateway.tasks._log', 1)",
        "getattr(source, '_epoch', 0)",
    ],
)
def test_each_way_to_reach_inside_is_noticed(code: str) -> None:
    names = {"_close", "_ends", "_epoch", "_live", "_log"}
    assert any(names.intersection(_reached(node)) for node in ast.walk(ast.parse(code)))


@pytest.mark.parametrize(
    "code", ["self._epoch", "super()._epoch()", "cls._epoch = 1", "from tests.a import _epoch", "say('_epoch')"]
)
def test_what_a_helper_has_of_its_own_is_none(code: str) -> None:
    assert not any("_epoch" in _reached(node) for node in ast.walk(ast.parse(code)))


# --- which tests there are ---


def _exempt(relative: Path) -> bool:
    of_feature = len(relative.parts) == 3 and relative.parts[0] == "features" and relative.name in OF_EACH_FEATURE
    return of_feature or str(relative) in TESTED_ELSEWHERE


def test_every_module_has_a_test_file_of_its_name() -> None:
    missing = []
    for file in _modules():
        relative = file.relative_to(PACKAGE)
        if file.name == "__init__.py" or _exempt(relative):
            continue
        if not (ROOT / "tests" / relative.parent / f"test_{file.name}").exists():
            missing.append(str(relative))
    assert missing == []


def test_no_exemption_is_out_of_date() -> None:
    for name in TESTED_ELSEWHERE:
        path = Path(name)
        assert (PACKAGE / path).exists(), name
        assert not (ROOT / "tests" / path.parent / f"test_{path.name}").exists(), name
    assert all((PACKAGE / name).exists() for name in NOT_PURE)
