"""What `/metrics` tells: requests, readings, refusals by reason, and seconds. Nothing of any file."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from boneage.web.readings import Answer

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "boneage_requests", "Requests answered.", ("path", "method", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "boneage_request_seconds", "Seconds a request took.", ("path",), buckets=_SECONDS, registry=self._registry
        )
        self._readings = Counter("boneage_readings", "Files that were given a bone age.", registry=self._registry)
        self._refusals = Counter(
            "boneage_refusals", "Files that were not, by reason.", ("reason",), registry=self._registry
        )
        self._reading_seconds = Histogram(
            "boneage_reading_seconds", "Seconds a file took.", buckets=_SECONDS, registry=self._registry
        )

    def count_request(self, *, path: str, method: str, status: int, seconds: float) -> None:
        """Count a request; `path` is the pattern of its route."""
        self._requests.labels(path, method, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def count_answer(self, answer: Answer, *, seconds: float) -> None:
        """Count a file."""
        self._reading_seconds.observe(seconds)
        if answer.accepted:
            self._readings.inc()
        for reason in answer.reasons:
            self._refusals.labels(reason).inc()

    def write(self) -> bytes:
        """Write all of them in the text format of Prometheus."""
        return generate_latest(self._registry)
