"""What the global options come to: a client, and where to write."""

from pathlib import Path
from types import SimpleNamespace

import aiohttp
import attrs
from rich.console import Console

from distinct_async import ConfigurationError, DistinctClient, Limits


@attrs.frozen
class Connection:
    """How to reach the API, from the global options.

    Attributes:
        api_key_file: A file with the API key; None reads DISTINCT_API_KEY.
        base_url: Where the API is; None reads DISTINCT_BASE_URL.
        verbose: Whether to write a line for every HTTP attempt.
        errors: The console for everything but data.
    """

    api_key_file: Path | None
    base_url: str | None
    verbose: bool
    errors: Console

    def client(self, limits: Limits = Limits()) -> DistinctClient:
        """Make a client.

        Raises:
            ConfigurationError: The key or the URL is missing or unusable.
        """
        return DistinctClient(
            None if self.api_key_file is None else _read_key(self.api_key_file),
            base_url=self.base_url,
            limits=limits,
            trace_configs=[_tracing(self.errors)] if self.verbose else None,
        )


def _read_key(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, ValueError) as error:
        # Of what is in the file, nothing may be shown.
        problem = error.strerror if isinstance(error, OSError) else "it is not text"
    raise ConfigurationError(f"--api-key-file {str(path)!a} cannot be read: {problem}")


def _tracing(console: Console) -> aiohttp.TraceConfig:
    """Make a trace that writes each attempt, with its path and without its headers."""

    async def start(_: object, context: SimpleNamespace, __: object) -> None:
        context.started = console.get_time()

    async def end(
        _: object, context: SimpleNamespace, params: aiohttp.TraceRequestEndParams
    ) -> None:
        _say(context, params.url.raw_path_qs, str(params.response.status))

    async def fail(
        _: object, context: SimpleNamespace, params: aiohttp.TraceRequestExceptionParams
    ) -> None:
        _say(context, params.url.raw_path_qs, type(params.exception).__name__)

    def _say(context: SimpleNamespace, path: str, outcome: str) -> None:
        took = (console.get_time() - context.started) * 1e3
        console.print(
            f"GET {path} {outcome} {took:.0f} ms", markup=False, highlight=False, soft_wrap=True
        )

    config = aiohttp.TraceConfig()
    config.on_request_start.append(start)
    config.on_request_end.append(end)
    config.on_request_exception.append(fail)
    return config
