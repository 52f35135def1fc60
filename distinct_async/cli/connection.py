"""The global options as a value, from which commands create their client."""

from pathlib import Path
from types import SimpleNamespace
from typing import Final

import aiohttp
import attrs
from rich.console import Console

from distinct_async import ConfigurationError, DistinctClient, Limits


@attrs.frozen
class Connection:
    """How a command reaches the API.

    Attributes:
        api_key_file: A file that contains the API key; None reads DISTINCT_API_KEY.
        base_url: The API's base URL; None reads DISTINCT_BASE_URL.
        verbose: Whether to print every HTTP attempt.
        stderr: The console for everything but data.
    """

    api_key_file: Path | None
    base_url: str | None
    verbose: bool
    stderr: Console

    def client(self, limits: Limits = Limits()) -> DistinctClient:
        """Create a client.

        Raises:
            ConfigurationError: The key or the URL is missing or unusable.
        """
        return DistinctClient(
            None if self.api_key_file is None else _read_key(self.api_key_file),
            base_url=self.base_url,
            limits=limits,
            trace_configs=[_print_attempts(self.stderr)] if self.verbose else None,
        )


# Characters; keys are shorter.
_LONGEST_KEY_FILE: Final = 65_536


def _read_key(path: Path) -> str:
    try:
        with path.open() as file:
            # Devices such as /dev/zero have no end.
            return file.read(_LONGEST_KEY_FILE).strip()
    except (OSError, ValueError) as error:
        # A decoding error quotes the file's content, so its message must not be shown.
        problem = error.strerror if isinstance(error, OSError) else "it is not text"
    raise ConfigurationError(f"--api-key-file {str(path)!a} cannot be read: {problem}")


def _print_attempts(console: Console) -> aiohttp.TraceConfig:
    """Return a trace that prints each attempt with its path and without its headers."""

    async def on_start(_: object, context: SimpleNamespace, __: object) -> None:
        context.started = console.get_time()

    async def on_end(
        _: object, context: SimpleNamespace, params: aiohttp.TraceRequestEndParams
    ) -> None:
        print_attempt(context, params.url.raw_path_qs, str(params.response.status))

    async def on_exception(
        _: object, context: SimpleNamespace, params: aiohttp.TraceRequestExceptionParams
    ) -> None:
        print_attempt(context, params.url.raw_path_qs, type(params.exception).__name__)

    def print_attempt(context: SimpleNamespace, path: str, outcome: str) -> None:
        milliseconds = (console.get_time() - context.started) * 1e3
        line = f"GET {path} {outcome} {milliseconds:.0f} ms"
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    config = aiohttp.TraceConfig()
    config.on_request_start.append(on_start)
    config.on_request_end.append(on_end)
    config.on_request_exception.append(on_exception)
    return config
