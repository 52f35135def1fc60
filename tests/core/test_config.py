"""Settings and the arguments of the client: usable ones pass, and errors name the others."""

import math
from typing import Any

import pytest

from distinct_async import (
    ConfigurationError,
    DistinctClient,
    Limits,
    RetryPolicy,
    Runtime,
    Timeouts,
)
from distinct_async._secrets import ApiKey, Secret
from tests.support.helpers import KEY, shown_by


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: RetryPolicy(attempts=0), "attempts"),
        (lambda: RetryPolicy(attempts=True), "attempts"),
        (lambda: RetryPolicy(attempts=2.0), "attempts"),  # type: ignore[arg-type]
        (lambda: RetryPolicy(attempts=-(10**5000)), "attempts"),
        (lambda: RetryPolicy(base_delay=-0.1), "base_delay"),
        (lambda: RetryPolicy(max_delay=math.nan), "max_delay"),
        (lambda: RetryPolicy(max_delay=math.inf), "max_delay"),
        (lambda: RetryPolicy(max_retry_after="5"), "max_retry_after"),  # type: ignore[arg-type]
        (lambda: RetryPolicy(budget=-1), "budget"),
        (lambda: RetryPolicy(outage_after=0), "outage_after"),
        (lambda: RetryPolicy(outage_after=math.inf), "outage_after"),
        (lambda: RetryPolicy(outage_after="60"), "outage_after"),  # type: ignore[arg-type]
        (lambda: RetryPolicy(statuses=503), "statuses"),
        (lambda: RetryPolicy(statuses="503"), "statuses"),
        (lambda: RetryPolicy(statuses={503.0}), "statuses"),
        (lambda: RetryPolicy(statuses={True}), "statuses"),
        (lambda: RetryPolicy(statuses={399}), "statuses"),
        (lambda: RetryPolicy(statuses={600}), "statuses"),
        (lambda: RetryPolicy(statuses={10**5000}), "statuses"),
        (lambda: Limits(concurrency=0), "concurrency"),
        (lambda: Limits(requests_per_second=0), "requests_per_second"),
        (lambda: Limits(requests_per_second=False), "requests_per_second"),
        (lambda: Limits(max_body_bytes=0), "max_body_bytes"),
        (lambda: Timeouts(connect=0), "connect"),
        (lambda: Timeouts(read=-1), "read"),
        (lambda: Timeouts(attempt=math.nan), "attempt"),
        (lambda: Timeouts(total="10"), "total"),  # type: ignore[arg-type]
        (lambda: DistinctClient(KEY, retry={"attempts": 3}), "retry"),  # type: ignore[arg-type]
        (lambda: DistinctClient(KEY, limits=None), "limits"),  # type: ignore[arg-type]
        (lambda: DistinctClient(KEY, timeouts=30), "timeouts"),  # type: ignore[arg-type]
        (lambda: DistinctClient(KEY, runtime=1), "runtime"),  # type: ignore[arg-type]
        (lambda: DistinctClient(KEY, session="s"), "session"),  # type: ignore[arg-type]
        (lambda: DistinctClient(KEY, user_agent="a\r\nb"), "user_agent"),
        (lambda: DistinctClient(KEY, user_agent=7), "user_agent"),  # type: ignore[arg-type]
        (lambda: DistinctClient(KEY, user_agent=""), "user_agent"),
        (lambda: DistinctClient(KEY, user_agent=0), "user_agent"),  # type: ignore[arg-type]
        (lambda: DistinctClient(KEY, trace_configs=["x"]), "trace_configs"),  # type: ignore[list-item]
        (lambda: DistinctClient(KEY, trace_configs="x"), "trace_configs"),  # type: ignore[arg-type]
        (lambda: DistinctClient(KEY, trace_configs=0), "trace_configs"),  # type: ignore[arg-type]
    ],
)
def test_an_unusable_setting_is_named_in_the_error(make: Any, field: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{field} must be "):
        make()


@pytest.mark.parametrize("value", [2**63, 10**400, 10**5000], ids=["2**63", "10**400", "10**5000"])
@pytest.mark.parametrize(
    ("make", "field"),
    [
        *((RetryPolicy, field) for field in ("attempts", "base_delay", "max_delay", "budget")),
        *((RetryPolicy, "max_retry_after"), (Limits, "concurrency"), (Limits, "max_body_bytes")),
        *((Timeouts, field) for field in ("connect", "read", "attempt", "total")),
    ],
)
def test_a_number_beyond_64_bits_is_named_in_the_error(make: Any, field: str, value: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{field} must be "):
        make(**{field: value})


def test_a_rate_that_no_timer_holds_is_named_in_the_error() -> None:
    for rate in (10**400, 5e-324):
        with pytest.raises(ConfigurationError, match=r"^requests_per_second must be "):
            Limits(requests_per_second=rate)


def test_the_extremes_of_usable_settings_pass() -> None:
    policy = RetryPolicy(attempts=1, base_delay=0, max_delay=0, max_retry_after=0, budget=0)
    limits = Limits(concurrency=1, requests_per_second=0.001, max_body_bytes=1)
    edges = RetryPolicy(outage_after=1e-9, statuses=iter([400, 599, 400]))
    timeouts = Timeouts(connect=None, read=None, attempt=None, total=None)

    assert DistinctClient(KEY, retry=policy, limits=limits, timeouts=timeouts).closed is False
    assert DistinctClient(KEY, user_agent=None, trace_configs=[]).closed is False
    assert Runtime().random() < 1
    assert edges.statuses == {400, 599}
    assert isinstance(edges.statuses, frozenset)
    assert RetryPolicy(statuses=()).statuses == frozenset()


@pytest.mark.parametrize(
    "key",
    [
        *("", " ", f"{KEY}\n", f"{KEY}\r\nX-Evil: 1", f"{KEY} x", f"{KEY}é", f"\x00{KEY}"),
        *(f"{KEY}\t", 7, KEY.encode(), [KEY]),
    ],
)
def test_an_unusable_key_is_refused_without_being_shown(key: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^api_key must be") as caught:
        DistinctClient(key)

    assert KEY not in shown_by(caught.value)


def test_the_repr_of_a_key_hides_it() -> None:
    key = ApiKey(KEY)

    assert isinstance(key, Secret)
    assert repr(key) == "'***'"
    assert KEY not in repr({"x-distinct-api-key": key})
    assert key.redact(f"no {KEY} here, {KEY}!") == "no *** here, ***!"


def test_the_key_and_the_url_default_to_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="DISTINCT_API_KEY"):
        DistinctClient()

    monkeypatch.setenv("DISTINCT_API_KEY", "key")
    assert repr(DistinctClient()) == "<DistinctClient https://api.distinct.so>"

    monkeypatch.setenv("DISTINCT_BASE_URL", "http://localhost:1/")
    assert repr(DistinctClient()) == "<DistinctClient http://localhost:1>"
    assert repr(DistinctClient(base_url="https://x.test")) == "<DistinctClient https://x.test>"

    monkeypatch.setenv("DISTINCT_API_KEY", "bad key")
    with pytest.raises(ConfigurationError, match=r"^api_key must be"):
        DistinctClient()


@pytest.mark.parametrize(
    "url",
    [
        *("https://api.distinct.so", "https://proxy.test:8443/distinct/", "HTTPS://API.TEST"),
        *("http://localhost", "http://127.0.0.1:8080", "http://127.9.9.9", "http://[::1]:80"),
    ],
)
def test_a_usable_base_url_is_kept(url: str) -> None:
    assert url.rstrip("/") in repr(DistinctClient(KEY, base_url=url))


@pytest.mark.parametrize(
    "url",
    [
        *("api.distinct.so", "ftp://api.distinct.so", "https://", "https:///path", "//host"),
        "https",
        *("https://[::1", "https://host:port", "https://ho st", "https://host\n", "https://\x00"),
        *("http://api.distinct.so", "http://10.0.0.1", "http://localhost.test"),
        "http://127.0.0.1.x",
        *("https://user:secret@host", "https://host?x=1", "https://host#x", 7),
    ],
)
def test_an_unusable_base_url_is_refused_without_being_shown(url: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^base_url must be") as caught:
        DistinctClient(KEY, base_url=url)

    assert "secret" not in shown_by(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("reserved", [16, 17])
def test_some_slots_must_be_left_for_walks(reserved: int) -> None:
    with pytest.raises(ConfigurationError, match="reserved must be less than concurrency"):
        Limits(reserved=reserved)
    assert Limits(reserved=15).reserved == 15


@pytest.mark.parametrize("name", ["sleep", "monotonic", "now", "random"])
def test_a_runtime_is_made_of_functions(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name} must be callable, got int"):
        Runtime(**{name: 1})  # type: ignore[arg-type]
