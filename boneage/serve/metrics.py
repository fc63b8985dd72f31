"""Reading metrics for `/metrics`: counts, rejections by reason and durations, nothing about any file."""

from prometheus_client import Counter, Histogram

from boneage.serve.readings import Answer
from boneage.web.metrics import SECONDS, RequestMetrics


class Metrics(RequestMetrics):
    """Counters of the requests and readings of one server."""

    def __init__(self) -> None:
        super().__init__()
        self._readings = Counter("boneage_readings", "Files with a predicted bone age.", registry=self._registry)
        self._refusals = Counter("boneage_refusals", "Rejected files, by reason.", ("reason",), registry=self._registry)
        self._reading_seconds = Histogram(
            "boneage_reading_seconds", "Seconds per file.", buckets=SECONDS, registry=self._registry
        )

    def count_answer(self, answer: Answer, *, seconds: float) -> None:
        """Count a file."""
        self._reading_seconds.observe(seconds)
        if answer.accepted:
            self._readings.inc()
        for reason in answer.reasons:
            self._refusals.labels(reason).inc()
