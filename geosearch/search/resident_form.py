"""In which form the vectors of a space are kept: decided before a byte is taken, from what is free."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from geosearch.errors import InputError

Kept = Literal["float32", "float16"]
KEY_BYTES = 40
"""Of RAM for each vector, whatever the form: image id, version, length, and its place in the table of ids."""
GPU_WORK_BYTES = 2 << 30
"""Left free on each GPU for gathered rows, products and FAISS's own tiles."""
_GPU_SHARE, _RAM_SHARE = 0.9, 0.5
_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Free:
    """Bytes that are free: of RAM, of each GPU by torch's name, and on the disk of the cache folder."""

    ram: int
    disk: int
    gpus: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Form:
    """How vectors are kept. where: 'gpu', 'ram' or 'disk'; devices: torch's names, rows split evenly among several.

    vector_bytes and key_bytes: what is taken at first; limit_bytes: what both together never exceed.
    """

    where: Literal["gpu", "ram", "disk"]
    dtype: Kept
    devices: tuple[str, ...]
    vector_bytes: int
    key_bytes: int
    limit_bytes: int

    def __str__(self) -> str:
        place = {"gpu": ", ".join(self.devices), "ram": "RAM", "disk": "disk"}[self.where]
        return (
            f"{self.dtype} on {place}, {megabytes(self.vector_bytes)}, and {megabytes(self.key_bytes)} of keys in RAM; "
            f"at most {megabytes(self.limit_bytes)}"
        )


def choose_form(
    rows: int,
    dimension: int,
    free: Free,
    dtype: Literal["auto", "float32", "float16"] = "auto",
    device: str = "auto",
    memory_bytes: int | None = None,
) -> Form:
    """Return the fastest form that fits: float32, then float16, then over several GPUs, then from disk.

    Nothing is lost by any of them: the database itself holds half precision. memory_bytes bounds vectors and keys
    together; by default they take at most nine tenths of what is free on the GPUs, less what scoring needs, or half of
    the free RAM. From disk, memory_bytes bounds the keys alone: what the system keeps of the file, it gives back.
    device: 'auto', 'cpu', 'cuda' (all GPUs), 'cuda:1' (that one), 'disk'. Raises InputError where nothing will do.
    """
    if dtype not in ("auto", "float32", "float16"):
        raise InputError(f"vectors are kept as float32, float16 or auto, not {dtype!r}")
    if memory_bytes is not None and memory_bytes < 1:
        raise InputError(f"memory_bytes is a number of bytes from 1 up, not {memory_bytes}")
    keys, one = rows * KEY_BYTES, rows * dimension * 2
    kept: tuple[Kept, ...] = ("float32", "float16") if dtype == "auto" else (dtype,)
    ram = min(int(free.ram * _RAM_SHARE), free.ram if memory_bytes is None else memory_bytes)
    if memory_bytes is not None:
        ram = min(memory_bytes, int(free.ram * 0.9))
    gpus = _gpus(free, device)
    for names in (gpus[:1], gpus) if gpus else ():
        for precision in kept if len(names) == 1 or dtype != "auto" else ("float16",):
            need = one * (2 if precision == "float32" else 1)
            room = [max(0, int(free.gpus[name] * _GPU_SHARE) - GPU_WORK_BYTES) for name in names]
            limit = min(room) * len(names)  # rows are split evenly, so the smallest decides
            if memory_bytes is not None:
                limit = min(memory_bytes - keys, limit)
            if need <= limit and keys <= ram:
                return Form("gpu", precision, tuple(names), need, keys, limit + keys)
    if not gpus and device != "disk":
        for precision in kept:
            need = one * (2 if precision == "float32" else 1)
            if need + keys <= ram:
                return Form("ram", precision, ("cpu",), need, keys, ram)
    if keys > ram:
        raise InputError(
            f"the keys of {rows} vectors take {megabytes(keys)} of RAM, and {megabytes(ram)} may be used; "
            "give more as memory_bytes, or search in the database alone"
        )
    if one > int(free.disk * 0.95):
        raise InputError(
            f"{rows} vectors take {megabytes(one)} and fit neither memory nor the disk of the cache folder, "
            f"where {megabytes(free.disk)} are free; name another folder, or search in the database alone"
        )
    return Form("disk", "float16", ("cpu",), one, keys, ram + int(free.disk * 0.95))


def _gpus(free: Free, device: str) -> list[str]:
    """Return the GPUs that may be used, the one with most room first."""
    kind, _, number = device.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps", "disk"):
        raise InputError(f"there is no device {device!r}; there are auto, cpu, cuda, cuda:1, disk")
    if kind in ("cpu", "mps", "disk"):  # Apple's GPU shares the RAM, and FAISS does not know it
        return []
    names = sorted(free.gpus, key=lambda name: -free.gpus[name])
    if number:
        names = [name for name in names if name == device]
    if kind == "cuda" and not names:
        raise InputError(f"{device}: no such GPU that both FAISS and torch can use; choose cpu or auto")
    return names


def measure_free(folder: Path) -> Free:
    """Return what is free on this machine now, within the limits of this process's container."""
    import shutil

    import torch

    from geosearch.search.faiss_flat import gpu_count

    gpus = {f"cuda:{i}": int(torch.cuda.mem_get_info(i)[0]) for i in range(gpu_count())}
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return Free(free_ram(), shutil.disk_usage(there).free, gpus)


def free_ram() -> int:
    """Return bytes of RAM that can be had without swapping."""
    free = []
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except OSError:  # not Linux: a quarter of all, since what is free cannot be asked without other libraries
        free.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4)
    try:
        most = (_CGROUPS / "memory.max").read_text(encoding="ascii").strip()
        if most != "max":
            facts = dict(line.split() for line in (_CGROUPS / "memory.stat").read_text("ascii").splitlines())
            used = int((_CGROUPS / "memory.current").read_text("ascii")) - int(facts.get("inactive_file", 0))
            free.append(int(most) - used)
    except (OSError, ValueError):
        pass
    return max(0, min(free))


def megabytes(count: int) -> str:
    """Return bytes in words."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
