"""A batch too large for a GPU's memory is halved until it fits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from geosearch.errors import ModelError

if TYPE_CHECKING:
    import torch


def in_halves(run: Callable[[torch.Tensor], torch.Tensor], batch: torch.Tensor, model: str) -> torch.Tensor:
    """Return what run makes of a batch (n, …), a row each. Raises ModelError where one item does not fit."""
    import torch

    try:
        return run(batch)
    except torch.OutOfMemoryError as error:
        if len(batch) == 1:
            raise ModelError(f"{model}: one item does not fit into the memory of the device") from error
    half = math.ceil(len(batch) / 2)
    return torch.cat([in_halves(run, batch[:half], model), in_halves(run, batch[half:], model)])
