"""System metrics of a training run, measured by MLflow's monitors.

MLflow's `SystemMetricsMonitor` writes to a store and stops when that store does not answer. Here the metrics go into
the outbox, as everything that is tracked does, so only its monitors are used.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator

from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

INTERVAL_SECONDS = 30.0


@contextlib.contextmanager
def watch_system(log_metrics: Callable[..., None]) -> Iterator[None]:
    """Log the load of CPU, memory, disk, network and GPU every 30 seconds, and once at the end.

    Args:
        log_metrics: Called with metrics by name and `step`, their number, as `Tracker.log_metrics` is.
    """
    monitors, over = _open_monitors(), threading.Event()

    def watch() -> None:
        step, is_over = 0, False
        while not is_over:
            is_over = over.wait(INTERVAL_SECONDS)
            log_metrics(_measure(monitors), step=step)
            step += 1

    thread = threading.Thread(target=watch, name="boneage-system", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _open_monitors() -> list[BaseMetricsMonitor]:
    monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    # Raised by MLflow where there is no NVIDIA GPU, or no library to measure it with.
    with contextlib.suppress(ImportError, RuntimeError):
        monitors.append(GPUMonitor())
    return monitors


def _measure(monitors: list[BaseMetricsMonitor]) -> dict[str, float]:
    measured = {}
    for monitor in monitors:
        monitor.collect_metrics()
        measured.update(monitor.aggregate_metrics())
        monitor.clear_metrics()
    return {f"system/{name}": value for name, value in measured.items()}
