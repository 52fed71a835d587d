"""How the learning rate runs over the steps of a run."""

from __future__ import annotations

import math


def plateau(step: int, steps: int, rate: float, warmup: int, decay: float) -> float:
    """Return the learning rate of a step: warm-up over `warmup` steps, plateau at `rate`, then a fall along 1 − √x.

    decay: the share of the steps, at the end, over which it falls to nothing.
    """
    left = (steps - step) / max(1, round(steps * decay))
    down = 1.0 if left >= 1 else 1 - math.sqrt(1 - max(left, 0.0))
    return rate * min(1.0, (step + 1) / warmup) * down
