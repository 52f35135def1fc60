"""Arbitrary responses."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from distinct_async import (
    DistinctClient,
    DistinctError,
    VisitsType,
)
from tests.support.faults import (
    DEFLATE,
    GZIP,
)
from tests.support.helpers import ONCE
from tests.support.raw_server import (
    RawServer,
    Script,
    reply,
    send,
)
from tests.support.survival.server import make_client, shows_key

_JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=10,
)


_TEXT: Final = st.text(max_size=20)
_COUNT: Final = st.integers(min_value=0, max_value=2**63)
_TIME: Final = st.datetimes().map(lambda moment: moment.isoformat() + "Z")
_DETAILS: Final = st.fixed_dictionaries(
    {
        "items": st.lists(
            st.fixed_dictionaries({"userId": _TEXT, "timestampUTC": _TIME}), max_size=3
        ),
        "pagination": st.fixed_dictionaries({"offset": _COUNT, "pageSize": _COUNT}),
    }
)
# The fields of every kind of touchpoint; the decoder ignores those of other kinds.
_TOUCHPOINT: Final = st.fixed_dictionaries(
    {
        **dict.fromkeys(("id", "name", "value"), _TEXT),
        **dict.fromkeys(("totalVisits", "uniqueVisits"), _COUNT),
        **dict.fromkeys(("totalVisitsDetails", "uniqueVisitsDetails"), _DETAILS),
        "timestampsUTC": st.lists(_TIME, max_size=3),
    }
)
_DATA: Final = st.fixed_dictionaries(
    {
        "totalTouchpoints": _COUNT,
        "touchpoints": _TOUCHPOINT | st.lists(_TOUCHPOINT, max_size=2),
    }
)
_DOCUMENT: Final = st.fixed_dictionaries({"statusCode": st.just(200), "data": _DATA})


def _places(container: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the container and key of every nested value."""
    for key in container if isinstance(container, dict) else range(len(container)):
        yield container, key
        if isinstance(container[key], dict | list):
            yield from _places(container[key])


@st.composite
def _damaged_document(draw: st.DrawFn) -> Any:
    """Draw a document with up to two values, at any depth, replaced or removed."""
    document = draw(_DOCUMENT)
    for _ in range(draw(st.integers(0, 2))):
        container, key = draw(st.sampled_from(list(_places(document))))
        if draw(st.booleans()):
            del container[key]
        else:
            container[key] = draw(_JSON)
    return document


_BODY: Final = st.one_of(
    (_damaged_document() | _DOCUMENT | _JSON).map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=300),
)
_FIELD: Final = st.binary(max_size=40).map(lambda value: b"X-Field: " + value)

# An arbitrary body in a valid response, or arbitrary bytes instead of one.
ARBITRARY_RESPONSE: Final = st.one_of(
    _BODY.map(reply),
    st.builds(reply, _BODY, _FIELD | st.sampled_from([GZIP, DEFLATE])),
    st.binary(max_size=300).map(lambda data: send(data, end="close")),
    st.binary(max_size=300).map(lambda data: send(b"HTTP/1.1 200 OK\r\n" + data, end="close")),
)


def arbitrary_responses(*, examples: int, number: int) -> Counter[str]:
    """Send arbitrary responses, and count the outcomes: values, and errors by type.

    Args:
        examples: Number of responses.
        number: The seed.
    """
    outcomes = Counter[str]()

    async def ask(raw: RawServer, client: DistinctClient, script: Script, kind: int) -> None:
        raw.play_only(script)
        try:
            match kind:
                case 0:
                    await client.experience_metrics("e")
                case 1:
                    await client.user_metrics("e", "u")
                case _:
                    visits_type = VisitsType.TOTAL if kind == 2 else VisitsType.UNIQUE
                    await client.touchpoint_metrics("t", visits_type=visits_type)
        except DistinctError as error:
            outcomes[type(error).__name__] += 1
            outcomes["leak"] += shows_key(error)
        except Exception as error:  # noqa: BLE001 - any other type is a bug
            outcomes[f"foreign: {error!r}"] += 1
        else:
            outcomes["a value"] += 1

    with asyncio.Runner() as runner:
        raw = runner.run(RawServer().__aenter__())
        client = make_client(raw, ONCE)

        @seed(number)
        @settings(
            max_examples=examples,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
        )
        @given(ARBITRARY_RESPONSE, st.integers(0, 3))
        def respond(script: Script, kind: int) -> None:
            runner.run(ask(raw, client, script, kind))

        respond()
        runner.run(client.aclose())
        runner.run(raw.__aexit__())
    return outcomes
