"""Reading ranges of a list, whatever page sizes the server allows. Each letter is an item."""

import asyncio

import pytest

from distinct_async._reading import Reader, Source
from tests.support.list_server import LetterPage, letters


@pytest.mark.parametrize(
    ("later", "expected"),
    [
        ("abcdefgh", "cd"),
        # What stands before the range has changed, so the two items are no neighbours.
        ("bcdefgh", "d"),
        ("xabcdefgh", "b"),
    ],
)
async def test_single_items_are_joined_only_if_the_list_stood_still(
    later: str, expected: str
) -> None:
    requests: list[int] = []

    async def fetch(offset: int, _: int | None) -> LetterPage:
        requests.append(offset)
        # The list changes before the third request, which reads the shared item again.
        now = "abcdefgh" if len(requests) < 3 else later
        return letters(offset, now[offset : offset + 1], len(now))

    source: Source[LetterPage] = Source(fetch=fetch, spawn=asyncio.create_task)
    run = await Reader(source, None).read(3, 4, overlap=1, stop=9, again=True)

    assert ["".join(page.items) for page in run.pages] == [expected]
    assert requests == [2, 3, 2]
