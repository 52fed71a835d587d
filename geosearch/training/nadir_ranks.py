"""Several processes that train one model: what each has to say, put together. One process alone needs none of it.

The loss is over the whole batch, not the mean of each process's own: every process gathers all vectors, works out the
whole loss and sends its gradient through its own vectors only, so the gradients of all add up to that of one process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from geosearch.errors import InputError

PATIENCE = timedelta(hours=2)  # one process reads and decodes the pictures while the others wait


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this one is."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def wait(self) -> None:
        """Return when all processes are here."""
        if self.count > 1:
            dist.barrier()

    def share(self, value: Tensor) -> Tensor:
        """Return the first process's tensor, of the same shape in all."""
        if self.count > 1:
            dist.broadcast(value, 0)
        return value

    def stack(self, value: Tensor) -> Tensor:
        """Return the tensors of all processes, (count, …), each of one shape; no gradient flows."""
        if self.count == 1:
            return value.detach()[None]
        parts = [torch.empty_like(value) for _ in range(self.count)]
        dist.all_gather(parts, value.detach().contiguous())
        return torch.stack(parts)

    def halves(self, value: Tensor) -> Tensor:
        """Return the first halves of all processes' rows (2m, …), then the second halves: (2 · count · m, …).

        The gradient flows through this process's own rows alone.
        """
        if self.count == 1:
            return value
        parts = list(self.stack(value))
        parts[self.rank] = value
        pairs = [part.chunk(2) for part in parts]
        return torch.cat([one for one, _ in pairs] + [two for _, two in pairs])

    def add_gradients(self, model: nn.Module) -> None:
        """Make every gradient the sum of all processes' gradients."""
        if self.count == 1:
            return
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        flat = torch.cat([g.flatten() for g in grads])
        dist.all_reduce(flat)
        for grad, part in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
            grad.copy_(part.view_as(grad))


@contextmanager
def ranks(device: str) -> Iterator[tuple[Ranks, str]]:
    """Yield this process's rank and device: what torchrun says, or one process alone.

    With "cuda" each process takes the GPU of its number on the machine. Raises InputError where there are too few.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count <= 1:
        yield Ranks(), device
        return
    if device == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise InputError(
                f"there are {torch.cuda.device_count()} GPUs here, and process {local} needs one of its own; "
                "start torchrun with as many processes as there are GPUs (--nproc-per-node)"
            )
        device = f"cuda:{local}"
        torch.cuda.set_device(device)
    elif device != "cpu":
        raise InputError(f"several processes cannot share {device}; give --device cuda, or cpu")
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=PATIENCE)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size()), device
    finally:
        dist.destroy_process_group()
