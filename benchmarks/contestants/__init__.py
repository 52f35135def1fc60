"""Who walks: each module has one, and imports the one library that it is made of.

All deliver every item, one by one, to a loop that counts them.
"""

from collections.abc import Callable
from importlib import import_module
from typing import TypeAlias, cast

import attrs

METRICS = "/v3/touchpoint/metrics"
KEY = {"x-distinct-api-key": "key"}

Walk: TypeAlias = Callable[[str, int], int]
"""Walks the touchpoint at a base URL in pages of a size, and returns how many items it got."""


@attrs.frozen
class Contestant:
    """One way to get every item.

    Attributes:
        title: As tables show it.
        function: The module in this package, and the function in it, with a colon between.
        packages: What it is made of.
    """

    title: str
    function: str
    packages: tuple[str, ...]

    def load(self) -> Walk:
        """Import what it is made of."""
        module, name = self.function.split(":")
        return cast("Walk", getattr(import_module(f"{__name__}.{module}"), name))


_OWN = ("distinct-async", "aiohttp", "attrs", "msgspec")

OURS = "distinct_async, default settings"
SEQUENTIAL = "distinct_async, prefetch=1"
WIDE = "distinct_async, prefetch=16"
BARE = "bare aiohttp and orjson"
HTTPX = "httpx, a loop by hand"
OPENAI = "openai's AsyncAPIClient"
DLT = "dlt's RESTClient"
SINGER = "singer-sdk's RESTStream"

CONTESTANTS = {
    contestant.title: contestant
    for contestant in (
        Contestant(OURS, "ours:walk", _OWN),
        Contestant(SEQUENTIAL, "ours:walk_sequentially", _OWN),
        Contestant(WIDE, "ours:walk_wide", _OWN),
        Contestant(BARE, "bare:walk", ("aiohttp", "orjson")),
        Contestant(HTTPX, "httpx_loop:walk", ("httpx",)),
        Contestant(OPENAI, "openai_pages:walk", ("openai", "pydantic")),
        Contestant(DLT, "dlt_client:walk", ("dlt", "requests")),
        Contestant(SINGER, "singer_stream:walk", ("singer-sdk", "requests")),
    )
}
PEERS = (HTTPX, OPENAI, DLT, SINGER)
