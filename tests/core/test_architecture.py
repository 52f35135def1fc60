"""Imports point strictly down the map of rooms, wherever they stand in a file."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import distinct_async

PACKAGE = Path(distinct_async.__file__).parent
# The face of the package is "". A module inherits the rank of its folder unless it has its own.
RANKS = {
    "_version": 0,
    "errors": 0,
    "models": 0,
    "_checks": 1,
    "_redaction": 0,
    "_secrets": 1,
    "config": 2,
    "_wire": 3,
    "_wire.protocol": 3.1,
    "_wire.structuring": 3.2,
    "_wire.touchpoint_metrics": 3.3,
    "_retry": 3,
    "_evidence": 2,
    "_pace": 3,
    "_crowding": 3,
    "_health": 3.1,
    "_deadlines": 3,
    "_lifetime": 4,
    "_gate": 4,
    "_transport": 4,
    "_session": 5,
    "_seam": 3,
    "_place": 4,
    "_search": 4.1,
    "_reading": 4.2,
    "_walk": 5,
    "_options": 5,
    "_sources": 7,
    "pagination": 6,
    "_fanout": 7,
    "client": 8,
    "": 9,
    "_rows": 10,
    "testing": 11,
    "export": 11,
    "pytest_plugin": 12,
    "cli": 12,
    "__main__": 13,
}
# The client's only modules that import each of these libraries.
ONLY_IN = {
    "aiohttp": {"_transport"},
    "tenacity": {"_retry"},
    "cattrs": {"_wire.structuring"},
    "msgspec": {"models", "_wire.protocol", "_wire.structuring", "_wire.touchpoint_metrics"},
}
CLIENT = {name for name, rank in RANKS.items() if rank < 9}
LONGEST_MODULE = 350

FILES = sorted(PACKAGE.rglob("*.py"))
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))


def module_of(path: Path) -> str:
    """Return a file's dotted name below the package; "" is the package's own __init__."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def room_of(module: str) -> str:
    """Return the entry of `RANKS` that a dotted name belongs to."""
    while module and module not in RANKS:
        module = module.rpartition(".")[0]
    return module


def imports(source: str) -> Iterator[str]:
    """Yield the dotted names a file imports, including those under TYPE_CHECKING and in functions.

    ``from distinct_async import x`` is the module x if there is one, and the face otherwise.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            for alias in node.names:
                full = f"{module}.{alias.name}"
                yield full if full.removeprefix("distinct_async.") in RANKS else module


def inner_targets(source: str) -> set[str]:
    """Return the rooms of this package that a file imports."""
    names = [name for name in imports(source) if name.split(".")[0] == "distinct_async"]
    return {room_of(name.removeprefix("distinct_async").removeprefix(".")) for name in names}


def test_the_map_names_every_module_of_the_client() -> None:
    unknown = [module for path in FILES if not room_of(module := module_of(path)) and module]

    assert unknown == []


@each_file
def test_imports_point_strictly_down(path: Path) -> None:
    room = room_of(module_of(path))
    targets = inner_targets(path.read_text()) - {room}

    assert {target for target in targets if RANKS[target] >= RANKS[room]} == set()


@each_file
def test_each_library_has_one_home_in_the_client(path: Path) -> None:
    module = module_of(path)
    if room_of(module) in CLIENT:
        libraries = {name.split(".")[0] for name in imports(path.read_text())} & set(ONLY_IN)
        assert {library for library in libraries if module not in ONLY_IN[library]} == set()


def test_one_file_of_the_client_knows_the_endpoint() -> None:
    client_files = [path for path in FILES if room_of(module_of(path)) in CLIENT]
    with_path = [module_of(path) for path in client_files if "/v3/" in strings_of(path)]
    importers = [
        module_of(path)
        for path in client_files
        if "_wire.touchpoint_metrics" in inner_targets(path.read_text())
    ]

    assert with_path == ["_wire.touchpoint_metrics"]
    assert importers == ["client"]


def strings_of(path: Path) -> str:
    """Return a file's string literals, without docstrings."""
    tree = ast.parse(path.read_text())
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return "\n".join(
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if id(node) not in docstrings
    )


@each_file
def test_modules_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_MODULE


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import os", set()),
        ("from distinct_async import errors", {"errors"}),
        ("from distinct_async import DistinctClient", {""}),
        ("from distinct_async import DistinctClient, errors", {"", "errors"}),
        ("from distinct_async.errors import X", {"errors"}),
        ("from distinct_async._wire import protocol", {"_wire.protocol"}),
        ("from distinct_async._wire.protocol import X", {"_wire.protocol"}),
        ("if TYPE_CHECKING:\n    from distinct_async.client import X", {"client"}),
        ("def f():\n    import distinct_async._session", {"_session"}),
        ("from distinct_async.testing.data import X", {"testing"}),
        ("import distinct_async", {""}),
    ],
)
def test_the_check_sees_every_kind_of_import(source: str, found: set[str]) -> None:
    assert inner_targets(source) == found
