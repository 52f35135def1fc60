"""Experiments that measure how the client survives faults, over real sockets.

`tests/faults/test_survival.py` runs them small, and `python -m benchmarks.faults` at full size.
"""

from tests.support.survival.arbitrary import arbitrary_responses
from tests.support.survival.bodies import (
    BodyFigures,
    MemoryFigures,
    cut_bodies,
    damaged,
    peak_memory,
    refuse,
    refused_bodies,
    spoilt_bodies,
    whole_page,
)
from tests.support.survival.endings import (
    EndFigures,
    LeftoverFigures,
    cancelled_walks,
    cancelling,
    closing,
    open_files,
    recovery,
)
from tests.support.survival.living import (
    Judge,
    LivingFigures,
    LivingList,
    LivingServer,
    walk_living_list,
)
from tests.support.survival.server import VisitServer, make_client, page_body, shows_key
from tests.support.survival.walks import (
    CallFigures,
    WalkFigures,
    outage,
    single_calls,
    walk_through_faults,
)

__all__ = [
    "BodyFigures",
    "CallFigures",
    "EndFigures",
    "Judge",
    "LeftoverFigures",
    "LivingFigures",
    "LivingList",
    "LivingServer",
    "MemoryFigures",
    "VisitServer",
    "WalkFigures",
    "arbitrary_responses",
    "cancelled_walks",
    "cancelling",
    "closing",
    "cut_bodies",
    "damaged",
    "make_client",
    "open_files",
    "outage",
    "page_body",
    "peak_memory",
    "recovery",
    "refuse",
    "refused_bodies",
    "shows_key",
    "single_calls",
    "spoilt_bodies",
    "walk_living_list",
    "walk_through_faults",
    "whole_page",
]
