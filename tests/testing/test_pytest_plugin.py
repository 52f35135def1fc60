"""The pytest plugin: its fixtures, here and in another project."""

import importlib
import sys

import pytest

from distinct_async import DistinctClient, ServerError
from distinct_async.testing import FakeDistinct

pytest_plugins = ["pytester"]


async def test_the_client_fixture_retries_against_the_server_fixture(
    fake_distinct: FakeDistinct, distinct_client: DistinctClient
) -> None:
    fake_distinct.add_touchpoint("tp-1")
    fake_distinct.fail_next(503, times=4)
    assert (await distinct_client.touchpoint_metrics("tp-1")).total == 0
    fake_distinct.fail_next(503, times=5)
    with pytest.raises(ServerError):
        await distinct_client.touchpoint_metrics("tp-1")


def test_the_plugin_works_without_pytest_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = importlib.import_module("distinct_async.pytest_plugin")
    monkeypatch.setitem(sys.modules, "pytest_asyncio", None)
    try:
        assert importlib.reload(plugin).fixture is pytest.fixture
    finally:
        monkeypatch.undo()
        importlib.reload(plugin)


def test_another_project_has_the_fixtures_without_importing_aiohttp_early(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_nothing_is_loaded_yet():
            assert "aiohttp" not in sys.modules

        async def test_scan(fake_distinct, distinct_client):
            fake_distinct.add_touchpoint("door")
            assert await distinct_client.total_visits("door").collect() == []
        """
    )
    options = ("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function")
    result = pytester.runpytest_subprocess("-p", "no:aioresponses", *options)
    result.assert_outcomes(passed=2)
