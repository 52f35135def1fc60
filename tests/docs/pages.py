"""The README and the guides as text, and their code blocks as programs."""

import ast
import asyncio
import inspect
import re
from pathlib import Path
from typing import Any

import distinct_async

ROOT = Path(__file__).parents[2]
PACKAGE = Path(distinct_async.__file__).parent
README = ROOT / "README.md"
GUIDES = {guide.parent.name: guide for guide in sorted(PACKAGE.glob("*/README.md"))}
PAGES = {"README": README, **GUIDES}
TEXTS = {name: page.read_text(encoding="utf-8") for name, page in PAGES.items()}
Names = dict[str, Any]


def blocks_of(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXTS[page], re.DOTALL | re.MULTILINE)


def block_of(page: str, text: str, language: str = "python") -> str:
    (block,) = (block for block in blocks_of(page, language) if text in block)
    return block


def commands_of(page: str) -> list[str]:
    lines = "".join(blocks_of(page, "console")).splitlines()
    return [line for line in lines if line.startswith("distinct-async ")]


async def execute(source: str, **names: Any) -> Names:
    """Run a block as `python -m asyncio` would, or in a thread if it starts its own loop."""
    code = compile(source, "<guide>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if "asyncio.run" in source:
        await asyncio.to_thread(exec, code, names)
    elif inspect.CO_COROUTINE & code.co_flags:
        await eval(code, names)
    else:
        exec(code, names)
    return names
