"""What a worker counts, for Prometheus: an optional extra."""

from __future__ import annotations

from typing import Any

from geosearch.errors import InputError


class Metrics:
    """Counts nothing: without --metrics-port."""

    def question(self, state: str, seconds: float) -> None:
        """Count a question that is done or failed."""

    def embedded(self, embedded: int, rejected: int) -> None:
        """Count images that were embedded or rejected."""

    def waiting(self, count: int) -> None:
        """Note how many questions wait or are worked at, of all workers."""

    def connected(self, there: bool) -> None:
        """Note whether the database is there."""

    def close(self) -> None:
        """Stop."""


class PrometheusMetrics(Metrics):
    """Serves the counts at http://address:port/metrics. Raises InputError where that cannot be."""

    def __init__(self, port: int, address: str) -> None:
        try:
            from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
        except ImportError as error:
            raise InputError("metrics need prometheus-client: pip install 'geosearch[metrics]'") from error
        registry = CollectorRegistry()
        self._questions = Counter(
            "geosearch_questions", "Questions by what became of them.", ["state"], registry=registry
        )
        self._seconds = Histogram("geosearch_question_seconds", "From claim to answer.", registry=registry)
        self._waiting = Gauge("geosearch_questions_open", "Questions that wait or are worked at.", registry=registry)
        self._images = Counter("geosearch_images", "Images by what became of them.", ["state"], registry=registry)
        self._connected = Gauge("geosearch_connected", "Whether the database is there.", registry=registry)
        for counter, states in ((self._questions, ("done", "failed")), (self._images, ("embedded", "rejected"))):
            for state in states:
                counter.labels(state)  # a series that is 0 is there from the start
        try:
            self._server: Any = start_http_server(port, address, registry)
        except OSError as error:
            raise InputError(
                f"metrics cannot be served on {address}:{port} ({error.strerror}); choose another port"
            ) from error

    def question(self, state: str, seconds: float) -> None:
        """Count a question that is done or failed."""
        self._questions.labels(state).inc()
        self._seconds.observe(seconds)

    def embedded(self, embedded: int, rejected: int) -> None:
        """Count images that were embedded or rejected."""
        self._images.labels("embedded").inc(embedded)
        self._images.labels("rejected").inc(rejected)

    def waiting(self, count: int) -> None:
        """Note how many questions wait or are worked at, of all workers."""
        self._waiting.set(count)

    def connected(self, there: bool) -> None:
        """Note whether the database is there."""
        self._connected.set(there)

    def close(self) -> None:
        """Stop serving."""
        server, thread = self._server
        server.shutdown()
        server.server_close()
        thread.join()
