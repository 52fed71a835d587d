"""What a run of a nadir-aware model is made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from geosearch.errors import InputError
from geosearch.training.rates import plateau

PRECISIONS = ("bf16", "fp16", "off")
IMAGE_LOSSES = ("contrast", "similarity")


@dataclass(frozen=True)
class Options:
    """A batch depends on these, its step and the clusters alone."""

    steps: int = 3000
    batch: int = 96  # pairs, in all processes together
    learning_rate: float = 5e-4  # of what is new
    tower_rate: float = 0.3  # the tower's share of it
    weight_decay: float = 0.01
    warmup: int = 50
    decay: float = 0.3  # the share of the steps, at the end, over which the learning rate falls to nothing
    trainable: int | None = 3  # blocks of the tower, from its end; None: all
    both_weight: float = 1.0  # of the multi-similarity loss on the vector of image and nadir
    base: float = 0.5  # of that loss: the similarity that divides right from wrong; with 0 small towers forget
    image_weight: float = 1.0  # of the loss on the image's vector alone, so that it is of use without a nadir
    image_loss: str = "contrast"  # InfoNCE between tiles and photographs; or "similarity", the same loss again
    temperature: float = 0.07  # of InfoNCE
    unknown: float = 0.1  # the share of photographs whose nadir is withheld
    uniform: float = 0.25  # the share of simulated photographs from any distance up to the horizon
    hard: float = 0.5  # the share of batches that are drawn from one cluster of tiles that look and lie alike
    clusters: int = 64
    cluster_every: int = 500
    average: float = 0.998  # exponential average of the weights, which is what is kept
    seed: int = 26
    catalogued: float = 0.5  # the share of pairs whose photograph is of an archive, where any are given; 1: all are
    overlap: float = 0.0  # intersection over union from which on such a pair is right
    precision: str = "bf16"  # or fp16; off: float32 throughout

    def __post_init__(self) -> None:
        """Raise InputError for what no run can be made of."""
        if self.precision not in PRECISIONS:
            raise InputError(f"the precision {self.precision!r} is none of {', '.join(PRECISIONS)}")
        if self.image_loss not in IMAGE_LOSSES:
            raise InputError(f"the image's loss {self.image_loss!r} is none of {', '.join(IMAGE_LOSSES)}")
        if not 0 < self.temperature < math.inf:
            raise InputError(f"temperature is {self.temperature}; give a number above 0")
        for name in ("unknown", "uniform", "hard", "catalogued", "overlap", "decay", "average"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; give a number from 0 to 1")
        if not -1 <= self.base <= 1:
            raise InputError(f"base is {self.base}; give a cosine, from -1 to 1")
        for name in ("learning_rate", "tower_rate", "both_weight", "image_weight", "weight_decay", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}; give 0 or more")
        for name in ("steps", "batch", "clusters", "cluster_every", "warmup"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; give 1 or more")

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: warm-up, plateau, then a fall along 1 − √x."""
        return plateau(step, self.steps, self.learning_rate, self.warmup, self.decay)

    def check_resumed(self, before: Mapping[str, Any], where: str) -> None:
        """Raise InputError, by name, where a checkpoint's options are others. Steps may change: a run may be prolonged.

        What a checkpoint does not say is taken to be as it is now: options come with releases.
        """
        for name in [field.name for field in fields(self) if field.name != "steps"]:
            if name in before and before[name] != getattr(self, name):
                raise InputError(
                    f"{where} is of a run with {name} {before[name]}, not {getattr(self, name)}; "
                    "give the same, or another folder"
                )
