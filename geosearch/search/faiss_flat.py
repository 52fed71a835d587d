"""FAISS as a flat search over rows that are there already: nothing is copied, no index is made.

`IDSelector` is never used: on a GPU without cuVS it is ignored without a word. Callers gather the rows instead.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

GPU_K = 2048
"""FAISS selects at most so many on a GPU."""
TEMPORARY_BYTES = 256 << 20
"""What FAISS takes of each GPU for its own tiles, at most."""

_local = threading.local()


@cache
def gpu_count() -> int:
    """Return how many GPUs both FAISS and torch can use; 0 without one."""
    import faiss
    import torch

    # StandardGpuResources() succeeds on machines without a GPU, so it says nothing.
    return min(faiss.get_num_gpus(), torch.cuda.device_count()) if torch.cuda.is_available() else 0


def knn(queries: torch.Tensor, rows: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the k largest dot products of each query, best first: scores (n, k) float32 and row numbers (n, k) int64.

    queries (n, d), rows (b, d): contiguous, on one device; float32, on a GPU also both float16 (summed in float32).
    k is at most b, and at most 2 048 on a GPU.
    """
    import faiss
    import torch

    if not queries.is_cuda:
        scores, found = faiss.knn(queries.float().numpy(), rows.float().numpy(), k, metric=faiss.METRIC_INNER_PRODUCT)
        return torch.from_numpy(scores), torch.from_numpy(found)
    # Teaches FAISS to read torch's tensors in place and to keep to torch's streams.
    import faiss.contrib.torch_utils

    with torch.cuda.device(queries.device):
        return faiss.knn_gpu(
            _resources_of(queries.device.index or 0), queries, rows, k, metric=faiss.METRIC_INNER_PRODUCT
        )


def _resources_of(device: int) -> Any:
    """FAISS's resources are not safe between threads: each thread has its own of each device."""
    import faiss

    held: dict[int, Any] = _local.__dict__.setdefault("resources", {})
    if device not in held:
        held[device] = faiss.StandardGpuResources()
        held[device].setTempMemory(TEMPORARY_BYTES)
    return held[device]
