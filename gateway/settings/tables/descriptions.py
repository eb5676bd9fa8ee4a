"""What the declarations say about each option: the text that stands below it.

Reads these texts, for the reference, the JSON Schema and ``--help``. A gateway
that runs needs none of them, and to find them in the sources takes longer than
everything else about the declarations.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from functools import cache
from itertools import pairwise

from gateway.settings.tables.base import Section


@cache
def descriptions(table: type[Section]) -> dict[str, str]:
    """Return what is said about the options of a table, by name, where the sources are installed."""
    found: dict[str, str] = {}
    for declared in reversed(table.__mro__):
        if issubclass(declared, Section):
            found.update(_texts(declared))
    return found


def _texts(declared: type[Section]) -> Iterator[tuple[str, str]]:
    try:
        source = inspect.getsource(declared)
    except (OSError, TypeError):  # composed, or without its source
        return
    (definition,) = ast.parse(textwrap.dedent(source)).body
    assert isinstance(definition, ast.ClassDef)
    for option, below in pairwise(definition.body):
        if isinstance(option, ast.AnnAssign) and isinstance(option.target, ast.Name):
            match below:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    yield option.target.id, inspect.cleandoc(text)
