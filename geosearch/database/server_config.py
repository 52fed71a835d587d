"""The private cluster's configuration, sized to the machine."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from geosearch.database.server_programs import SAFE_PGVECTOR, Programs, version_tuple

MIB, GIB = 2**20, 2**30


def machine_memory() -> int:
    """Return the bytes of memory this process may use: the machine's, or less where a container is limited."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path(limit).read_text(encoding="ascii")))
        except (OSError, ValueError):  # no such file, or the word `max`
            continue
    return total


def memory_settings(total: int) -> dict[str, int]:
    """Return memory settings in bytes for a machine of `total` bytes that also runs models and a desktop.

    A quarter for shared_buffers is the PostgreSQL manual's advice (19.4.1), with a cap: more brings little, and
    pages that are never touched cost nothing. maintenance_work_mem lets an HNSW graph be built in memory.
    """
    return {
        "shared_buffers": _between(total // 4, 128 * MIB, 8 * GIB),
        "effective_cache_size": max(total * 6 // 10, 256 * MIB),
        "maintenance_work_mem": _between(total // 16, 64 * MIB, 2 * GIB),
        "work_mem": _between(total // 256, 8 * MIB, 128 * MIB),
    }


def configuration(
    socket_folder: Path, data: Path, programs: Programs, total: int | None = None, cores: int | None = None
) -> str:
    """Return the text of geosearch.conf. Written anew at every start: the machine or the folder may have changed."""
    cores = cores or os.cpu_count() or 1
    memory = memory_settings(total or machine_memory())
    lines = [
        "# Written by geosearch at every start. Your own settings: `alter system set …`, or below the include line",
        "# of postgresql.conf; both win over this file.",
        "listen_addresses = ''  # a Unix socket only",
        "port = 5432",
        f"unix_socket_directories = '{socket_folder}'",
        "unix_socket_permissions = 0700",
        "cluster_name = 'geosearch'",
        "max_connections = 60",
        *(f"{name} = {size // MIB}MB" for name, size in memory.items()),
        f"max_wal_size = {_wal_size(data) // MIB}MB  # a bulk load is not stopped by checkpoints",
        "checkpoint_timeout = 15min",
        "wal_compression = on",
        "random_page_cost = 1.1  # solid-state disks",
        "jit = off  # compiling costs more than these short queries",
        f"max_worker_processes = {max(8, cores)}",
        f"max_parallel_workers = {cores}",
        "timezone = 'UTC'",
        "log_timezone = 'UTC'",
        "lc_messages = 'C'",
    ]
    pgvector = version_tuple(programs.extensions.get("vector", "0"))
    if (0, 6) <= pgvector < SAFE_PGVECTOR:
        lines.append("max_parallel_maintenance_workers = 0  # CVE-2026-3172 of this pgvector: parallel HNSW builds")
    elif cores > 2:
        lines.append(f"max_parallel_maintenance_workers = {min(cores // 2, 8)}")
    if sys.platform.startswith("linux") and _shm_free() < 2 * memory["maintenance_work_mem"]:
        # A container's /dev/shm of 64 MB is too small for a parallel index build.
        lines.append("dynamic_shared_memory_type = sysv")
    return "\n".join(lines) + "\n"


def _wal_size(data: Path) -> int:
    return _between(shutil.disk_usage(data).free // 20, 256 * MIB, 4 * GIB)


def _shm_free() -> int:
    try:
        return shutil.disk_usage("/dev/shm").free  # noqa: S108  # asked for its size only
    except OSError:
        return 0


def _between(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))
