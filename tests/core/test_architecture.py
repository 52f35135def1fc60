"""Imports point strictly down the module map, wherever they stand in a file."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import distinct_async

PACKAGE = Path(distinct_async.__file__).parent
RANKS = {
    "_version": 0,
    "errors": 0,
    "models": 0,
    "config": 0.5,
    "wire": 1,
    "retry": 1,
    "session": 2,
    "pagination": 2,
    "fanout": 3,
    "client": 4,
    "": 5,
    "testing": 6,
    "export": 6,
    "pytest_plugin": 7,
    "cli": 7,
    "__main__": 8,
}
# Each of these is touched by one module of the client only.
ONLY_IN = {
    "aiohttp": {"session"},
    "tenacity": {"retry"},
    "cattrs": {"wire"},
    "msgspec": {"wire"},
}
LOW = {name for name, rank in RANKS.items() if rank < 5}


def module_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imports(source: str) -> Iterator[str]:
    """Yield the dotted names that a file imports, in TYPE_CHECKING and functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            modules = {alias.name for alias in node.names} & set(RANKS)
            if node.module == "distinct_async" and modules:
                yield from (f"distinct_async.{name}" for name in modules)
            if node.module != "distinct_async" or len(modules) < len(node.names):
                yield node.module or ""


def inner_targets(source: str) -> set[str]:
    """Return the package's own modules that a file imports; "" is the package itself."""
    parts = [name.split(".") for name in imports(source)]
    return {[*part, ""][1] for part in parts if part[0] == "distinct_async"}


FILES = sorted(PACKAGE.rglob("*.py"))


def test_the_map_is_complete() -> None:
    assert {module_of(path) for path in FILES} <= set(RANKS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_strictly_down(path: Path) -> None:
    module = module_of(path)
    upward = {
        target
        for target in inner_targets(path.read_text())
        if target != module and RANKS[target] >= RANKS[module]
    }
    assert upward == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_library_is_touched_in_one_place(path: Path) -> None:
    if module_of(path) in LOW:
        touched = {name.split(".")[0] for name in imports(path.read_text())} & set(ONLY_IN)
        assert not {name for name in touched if module_of(path) not in ONLY_IN[name]}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import os", set()),
        ("from distinct_async import wire", {"wire"}),
        ("from distinct_async import DistinctClient", {""}),
        ("from distinct_async import DistinctClient, wire", {"", "wire"}),
        ("from distinct_async.errors import X", {"errors"}),
        ("if TYPE_CHECKING:\n    from distinct_async.client import X", {"client"}),
        ("def f():\n    import distinct_async.session", {"session"}),
        ("from distinct_async.testing.data import X", {"testing"}),
        ("import distinct_async", {""}),
    ],
)
def test_the_check_sees_every_kind_of_import(source: str, found: set[str]) -> None:
    assert inner_targets(source) == found
