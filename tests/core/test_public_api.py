import ast
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import get_type_hints

import pytest

import distinct_async
from distinct_async import client, config, errors, export, models, pagination, testing
from distinct_async._options import ClientOptions

FACES = [distinct_async, export, testing]
TESTS = Path(__file__).parents[1]
SOURCES = sorted(Path(distinct_async.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.__name__)
def test_all_is_sorted_and_every_name_exists(face: ModuleType) -> None:
    assert face.__all__ == sorted(face.__all__)
    assert all(getattr(face, name) is not None for name in face.__all__)


def test_every_public_name_is_defined_in_one_public_module() -> None:
    homes = [client, config, errors, models, pagination]
    for name in distinct_async.__all__:
        if name != "__version__":
            (home,) = (home for home in homes if getattr(home, name, None) and defines(home, name))
            assert getattr(distinct_async, name) is getattr(home, name)
    assert dir(distinct_async) == distinct_async.__all__


def defines(module: ModuleType, name: str) -> bool:
    return bool(getattr(module, name).__module__ == module.__name__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = distinct_async.Nothing  # type: ignore[attr-defined]


def test_every_public_name_is_used_in_a_test() -> None:
    tests = "\n".join(path.read_text() for path in Path(__file__).parents[1].rglob("test_*.py"))
    own = Path(__file__).read_text()
    words = set(ast_names(tests.replace(own, "")))

    assert not [name for face in FACES for name in face.__all__ if name not in words]


def ast_names(source: str) -> list[str]:
    nodes = list(ast.walk(ast.parse(source)))
    names = [node.id for node in nodes if isinstance(node, ast.Name)]
    return names + [node.attr for node in nodes if isinstance(node, ast.Attribute)]


def test_every_public_object_is_documented() -> None:
    undocumented = [
        f"{name}.{member}" if member else name
        for face in FACES
        for name in face.__all__
        if inspect.isclass(value := getattr(face, name))
        for member, thing in {"": value, **vars(value)}.items()
        if not member.startswith("_") and (inspect.isroutine(thing) or not member)
        if not inspect.getdoc(thing)
    ]
    assert undocumented == []


def test_function_bodies_are_short() -> None:
    long = [
        f"{path.name}:{node.name}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and body_lines(node) > 27
    ]
    assert long == []


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[1 if ast.get_docstring(node) and len(node.body) > 1 else 0]
    return (node.end_lineno or 0) - first.lineno + 1


@pytest.mark.parametrize(
    ("module", "unneeded"),
    [
        ("distinct_async", ("aiohttp", "cattrs", "msgspec")),
        ("distinct_async.pytest_plugin", ("aiohttp", "cattrs", "msgspec")),
        ("distinct_async.client", ("cattrs", "pyarrow", "rich")),
    ],
)
def test_an_import_loads_no_library_it_does_not_need(
    module: str, unneeded: tuple[str, ...]
) -> None:
    code = f"import sys, {module}; print([m for m in {unneeded} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert shown.stdout == "[]\n"


def test_client_options_are_the_clients_own() -> None:
    signature = inspect.signature(client.DistinctClient)

    assert list(signature.parameters) == list(get_type_hints(ClientOptions))


async def test_a_misspelt_option_is_an_error_for_type_checkers_and_at_run_time() -> None:
    async with testing.FakeDistinct() as fake:
        with pytest.raises(TypeError, match="retries"):
            # Type checkers report an unused ignore if they accept the option.
            fake.client(retries=3)  # type: ignore[call-arg]
