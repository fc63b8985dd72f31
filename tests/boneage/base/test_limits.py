"""Limits of containers, in both versions of control groups, nested and absent."""

import os

import pytest

from boneage.base import limits


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A function that writes the files of control groups, of a machine with 16 processors and 64 GiB."""
    monkeypatch.setattr(limits, "_ROOT", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    monkeypatch.setattr(limits, "_physical_memory_bytes", lambda: 64 * 2**30)

    def write(groups, files):
        for name, text in {"proc/self/cgroup": groups, **{f"sys/fs/cgroup/{key}": files[key] for key in files}}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return write


def test_cpu_count_and_memory_bytes_without_limits_are_those_of_the_machine(machine):
    assert (limits.cpu_count(), limits.memory_bytes()) == (16, 64 * 2**30)
    machine("0::/\n", {"cpu.max": "max 100000\n", "memory.max": "max\n"})
    assert (limits.cpu_count(), limits.memory_bytes()) == (16, 64 * 2**30)


def test_limits_of_version_2_in_the_smallest_group_around_the_process(machine):
    machine(
        "0::/pod/inner\n",
        {
            "pod/inner/cpu.max": "400000 100000\n",
            "pod/inner/memory.max": "max\n",
            "pod/cpu.max": "150000 100000\n",
            "pod/memory.max": f"{2**31}\n",
        },
    )
    assert (limits.cpu_count(), limits.memory_bytes()) == (2, 2**31)


def test_limits_of_version_1_also_where_the_path_is_of_the_host(machine):
    machine(
        "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n0::/\n",
        {
            "cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
            "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "memory/memory.limit_in_bytes": f"{2**30}\n",
        },
    )
    assert (limits.cpu_count(), limits.memory_bytes()) == (1, 2**30)


def test_version_1_without_limit(machine):
    machine(
        "5:memory:/\n4:cpu,cpuacct:/\n",
        {
            "cpu/cpu.cfs_quota_us": "-1\n",
            "cpu/cpu.cfs_period_us": "100000\n",
            "memory/memory.limit_in_bytes": "9223372036854771712\n",
        },
    )
    assert (limits.cpu_count(), limits.memory_bytes()) == (16, 64 * 2**30)


def test_cpu_count_of_a_process_bound_to_one_processor(machine, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3}, raising=False)
    assert limits.cpu_count() == 1
