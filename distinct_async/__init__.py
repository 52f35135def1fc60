"""Asyncio client for Distinct's Touchpoint Scanner Metrics.

Names are imported on first use: pytest imports this package for its plugin in every project that
has it installed, and that must not load aiohttp.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from distinct_async._version import __version__

if TYPE_CHECKING:
    from distinct_async.client import DistinctClient
    from distinct_async.config import Limits, RetryPolicy, Runtime, Timeouts
    from distinct_async.errors import (
        AuthenticationError,
        BadRequestError,
        ClientClosedError,
        ConfigurationError,
        DecodeError,
        DistinctError,
        ExportError,
        FanOutError,
        IncompleteListError,
        ListChangedError,
        NotFoundError,
        PaginationError,
        PermissionDeniedError,
        RateLimitError,
        RedirectError,
        RepeatedPageError,
        RequestTimeoutError,
        ResumePoint,
        ServerError,
        StatusError,
        TransportError,
    )
    from distinct_async.models import (
        ClientStats,
        ExperienceMetrics,
        Page,
        Touchpoint,
        TouchpointPage,
        TouchpointSummary,
        UserMetrics,
        UserTouchpoint,
        Visit,
        VisitPage,
        VisitsType,
    )
    from distinct_async.pagination import Pager

__all__ = [
    "AuthenticationError",
    "BadRequestError",
    "ClientClosedError",
    "ClientStats",
    "ConfigurationError",
    "DecodeError",
    "DistinctClient",
    "DistinctError",
    "ExperienceMetrics",
    "ExportError",
    "FanOutError",
    "IncompleteListError",
    "Limits",
    "ListChangedError",
    "NotFoundError",
    "Page",
    "Pager",
    "PaginationError",
    "PermissionDeniedError",
    "RateLimitError",
    "RedirectError",
    "RepeatedPageError",
    "RequestTimeoutError",
    "ResumePoint",
    "RetryPolicy",
    "Runtime",
    "ServerError",
    "StatusError",
    "Timeouts",
    "Touchpoint",
    "TouchpointPage",
    "TouchpointSummary",
    "TransportError",
    "UserMetrics",
    "UserTouchpoint",
    "Visit",
    "VisitPage",
    "VisitsType",
    "__version__",
]

_MODULES = {
    "DistinctClient": "client",
    **dict.fromkeys(("Limits", "RetryPolicy", "Runtime", "Timeouts"), "config"),
    "Pager": "pagination",
    **dict.fromkeys(
        (
            *("ClientStats", "ExperienceMetrics", "Page", "Touchpoint", "TouchpointPage"),
            *("TouchpointSummary", "UserMetrics", "UserTouchpoint", "Visit", "VisitPage"),
            "VisitsType",
        ),
        "models",
    ),
    "ResumePoint": "errors",
    **{name: "errors" for name in __all__ if name.endswith("Error")},
}

# Type checkers must not see this, or they would accept every misspelt name.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a public name on first use (PEP 562)."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__
