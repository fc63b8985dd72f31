"""Processors and memory that this process may use: a container is often allowed fewer than the machine has."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")
# Version 1 of control groups writes "no limit" as a number of this order.
_UNLIMITED_BYTES = 2**60


def cpu_count() -> int:
    """Return the number of processors that this process may use, at least 1.

    The limits are the processors that the process is bound to, and the quota of its control groups
    (https://docs.kernel.org/admin-guide/cgroup-v2.html, https://docs.kernel.org/scheduler/sched-bwc.html). A quota of
    one and a half processors counts as two.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [bound]
    for folder in _control_groups(""):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        quotas.append(_ceil_quota(quota, period))
    for folder in _control_groups("cpu"):
        quotas.append(_ceil_quota(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")))
    return max(1, min(quota for quota in quotas if quota))


def memory_bytes() -> int:
    """Return the memory that this process may use in bytes: that of the machine, or the limit of its control groups."""
    limits = [_read(folder / "memory.max") for folder in _control_groups("")]
    limits += [_read(folder / "memory.limit_in_bytes") for folder in _control_groups("memory")]
    allowed = [int(limit) for limit in limits if limit.isdigit()]
    return min([_physical_memory_bytes(), *(limit for limit in allowed if 0 < limit < _UNLIMITED_BYTES)])


def _physical_memory_bytes() -> int:
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    # Imported here: only training needs it elsewhere, and the core does not require it.
    import psutil

    return int(psutil.virtual_memory().total)


def _control_groups(controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control group and of those around it.

    Args:
        controller: Name of a controller of version 1, or an empty text for version 2.
    """
    for line in _read(_ROOT / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller not in controllers.split(","):
            continue
        mount = _ROOT / "sys/fs/cgroup" / (controllers or ".")
        if controller and not mount.is_dir():
            mount = _ROOT / "sys/fs/cgroup" / controller
        # A container without a namespace of its own names a path of the host, of which it sees only the top.
        inside = Path(path.lstrip("/"))
        yield from (mount / part for part in (inside, *inside.parents))


def _read(path: Path) -> str:
    """Return the text of a file, empty where there is none or it may not be read."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _ceil_quota(quota: str, period: str) -> int:
    """Return a quota in whole processors; 0 for none."""
    if not (quota.isdigit() and period.isdigit() and int(period)):
        return 0
    return math.ceil(int(quota) / int(period))
