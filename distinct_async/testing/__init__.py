"""Tools for testing code that uses this package: a fake Distinct server and a fake clock."""

from distinct_async.testing.clock import FakeClock
from distinct_async.testing.server import FakeDistinct, FakeRequest

__all__ = ["FakeClock", "FakeDistinct", "FakeRequest"]
