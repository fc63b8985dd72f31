"""What the machine does while a network is trained on it, measured by MLflow's own monitors."""

import contextlib
import threading
from collections.abc import Iterator

from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

from boneage.tracking import Tracker

INTERVAL_SECONDS = 30.0


@contextlib.contextmanager
def watch_system(tracker: Tracker) -> Iterator[None]:
    """Report the load of processor, memory, disk, network and GPU twice a minute, and once at the end."""
    monitors, over = _open_monitors(), threading.Event()

    def watch() -> None:
        step, is_over = 0, False
        while not is_over:
            is_over = over.wait(INTERVAL_SECONDS)
            tracker.log_metrics(_measure(monitors), step=step)
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
    # MLflow says by these errors that there is no GPU of NVIDIA's, or nothing to measure it by.
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
