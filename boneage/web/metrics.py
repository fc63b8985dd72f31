"""Request metrics for `/metrics`: counts and durations, nothing about any file."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class RequestMetrics:
    """Counters of the requests of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "boneage_requests", "Requests answered.", ("path", "method", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "boneage_request_seconds", "Seconds a request took.", ("path",), buckets=SECONDS, registry=self._registry
        )

    def count_request(self, *, path: str, method: str, status: int, seconds: float) -> None:
        """Count a request; `path` is the pattern of its route."""
        self._requests.labels(path, method, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def write(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self._registry)
