"""The keyword arguments of `DistinctClient`, for functions that pass them through."""

from collections.abc import Iterable
from typing import TypedDict

from distinct_async._transport import HTTPSession, TraceConfig
from distinct_async.config import Limits, RetryPolicy, Runtime, Timeouts


class ClientOptions(TypedDict, total=False):
    """The keyword arguments of `DistinctClient`, for functions that pass them through."""

    api_key: str | None
    base_url: str | None
    session: HTTPSession | None
    trace_configs: Iterable[TraceConfig] | None
    retry: RetryPolicy
    limits: Limits
    timeouts: Timeouts
    user_agent: str | None
    runtime: Runtime
