"""What is counted: plain numbers on the hot path, Prometheus only when somebody asks; among several processes, files.

With PROMETHEUS_MULTIPROC_DIR set, as a supervisor sets it for its workers, prometheus_client keeps every value in a
file that all can read, and any process answers with the sum. What the application itself counts is told, too.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"
BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
TEXTS: Final = {
    "http_requests": "Requests answered, by method and status.",
    "http_requests_shed": "Requests turned away.",
    "http_requests_in_flight": "Requests being handled.",
    "http_request_duration_seconds": "Time to handle.",
    "event_loop_lag_seconds": "How late the event loop was at most, lately.",
}
_ATTEMPTS: Final = 5


class Metrics:
    """The counts of the only process.

    Args:
        in_flight: Returns how many requests are being handled.
        lag: Returns how late the loop is.
    """

    def __init__(self, in_flight: Callable[[], int], lag: Callable[[], float]) -> None:
        self._in_flight = in_flight
        self._lag = lag
        self._shed = 0
        self._requests: dict[tuple[str, int], int] = {}
        self._buckets = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0

    def count(self, method: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        key = (method if method in METHODS else "OTHER", status)
        self._requests[key] = self._requests.get(key, 0) + 1
        self._buckets[bisect_left(BUCKETS, seconds)] += 1
        self._seconds += seconds

    def count_shed(self) -> None:
        """Count one request that was turned away."""
        self._shed += 1

    def beat(self) -> None:
        """Do what is done from time to time: nothing."""

    def render(self) -> bytes:
        """Return everything in Prometheus' text format."""
        from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415

        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, as Prometheus' collectors do; of two with one name the application's."""
        from prometheus_client import REGISTRY  # noqa: PLC0415

        taken = set()
        for family in REGISTRY.collect():
            taken.add(family.name)
            yield family
        for family in self._own():
            if family.name not in taken:
                yield family

    def _own(self) -> Iterator[Metric]:
        from prometheus_client import metrics_core as core  # noqa: PLC0415

        name = "http_requests"
        requests = core.CounterMetricFamily(name, TEXTS[name], labels=["method", "status"])
        for (method, status), number in self._requests.items():
            requests.add_metric([method, str(status)], number)
        yield requests
        name = "http_requests_shed"
        yield core.CounterMetricFamily(name, TEXTS[name], value=self._shed)
        name = "http_requests_in_flight"
        yield core.GaugeMetricFamily(name, TEXTS[name], value=self._in_flight())
        name = "event_loop_lag_seconds"
        yield core.GaugeMetricFamily(name, TEXTS[name], value=self._lag())
        total, rows = 0, list[Any]()
        for bound, number in zip((*BUCKETS, "+Inf"), self._buckets, strict=True):
            total += number
            rows.append((str(bound), total))
        name = "http_request_duration_seconds"
        yield core.HistogramMetricFamily(name, TEXTS[name], buckets=rows, sum_value=self._seconds)


class SharedMetrics(Metrics):
    """The counts of one process among several, each of which can answer for all."""

    def __init__(self, in_flight: Callable[[], int], lag: Callable[[], float]) -> None:
        super().__init__(in_flight, lag)
        from prometheus_client import Counter, Gauge, Histogram  # noqa: PLC0415

        def make(kind: Any, name: str, **options: Any) -> Any:
            return kind(name, TEXTS[name], registry=None, **options)

        self._counter = make(Counter, "http_requests", labelnames=["method", "status"])
        self._shed_counter = make(Counter, "http_requests_shed")
        self._histogram = make(Histogram, "http_request_duration_seconds", buckets=BUCKETS)
        self._in_flight_gauge = make(Gauge, "http_requests_in_flight", multiprocess_mode="livesum")
        self._lag_gauge = make(Gauge, "event_loop_lag_seconds", multiprocess_mode="livemax")
        self._children: dict[tuple[str, int], Any] = {}

    def count(self, method: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        key = (method if method in METHODS else "OTHER", status)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._counter.labels(key[0], str(status))
        child.inc()
        self._histogram.observe(seconds)

    def count_shed(self) -> None:
        """Count one request that was turned away."""
        self._shed_counter.inc()

    def beat(self) -> None:
        """Write down how many requests there are, and how late the loop is, for others to tell."""
        self._in_flight_gauge.set(self._in_flight())
        self._lag_gauge.set(self._lag())

    def render(self) -> bytes:
        """Return the sum of all processes in Prometheus' text format."""
        from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415
        from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415

        self.beat()
        for attempt in range(_ATTEMPTS):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
            try:
                return generate_latest(registry)
            except (OSError, RuntimeError, struct.error):  # a file is being made, or removed
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("never here")


def metrics(in_flight: Callable[[], int], lag: Callable[[], float]) -> Metrics:
    """Return the counts for this process."""
    if not os.environ.get(DIRECTORY):
        return Metrics(in_flight, lag)
    from prometheus_client.values import ValueClass  # noqa: PLC0415 - slow to import

    shared = getattr(ValueClass, "_multiprocess", False)  # the variable may have come too late
    return (SharedMetrics if shared else Metrics)(in_flight, lag)


def forget(pid: int, directory: str) -> None:
    """Drop what a process that is gone said about the moment; what it counted stays counted."""
    from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415

    mark_process_dead(pid, directory)  # type: ignore[no-untyped-call]
