"""How a bank is asked: which softmaxes, how sharp, and what of them is kept."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isfinite
from numbers import Real
from typing import Any

from geosearch.errors import InputError

MODES = ("soft", "topk", "top1", "mean")
TAU_RANGE, TAU_RANGE_PLUS = 15.0, 12.0


@dataclass(frozen=True)
class Retrieval:
    """What retrieval does (arXiv 2502.19781, section 3); the defaults are RANGE+.

    beta: share of the semantic softmax, the rest is the geographic one's; 1 is RANGE, 0 is HAVER. tau_sem, tau_geo:
    factors by which cosines are multiplied before the softmax; tau_sem None is 15 for RANGE, else 12. min_cos: places
    at a greater angle from the asked one, by its cosine, have no geographic weight; None: all have.
    mode: `soft` weighs all places; `topk` the k of greatest weight of each softmax, their weights brought to sum 1;
    `top1` the one; `mean` takes the plain mean of the k. Raises InputError.
    """

    beta: float = 0.5
    tau_sem: float | None = None
    tau_geo: float = 40.0
    min_cos: float | None = None
    mode: str = "soft"
    k: int = 100

    def __post_init__(self) -> None:
        for name, value in (("beta", self.beta), ("tau_sem", self.tau_sem), ("tau_geo", self.tau_geo)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, Real) or not isfinite(value)):
                raise InputError(f"{name} is a finite number, not {value!r}")
        if not 0 <= self.beta <= 1:
            raise InputError(f"beta is a share from 0 (HAVER) to 1 (RANGE), not {self.beta}")
        for name, tau in (("tau_sem", self.tau_sem), ("tau_geo", self.tau_geo)):
            if tau is not None and not 0 < tau <= 1e6:
                raise InputError(f"{name} multiplies cosines: a number above 0 and up to 1e6, not {tau}")
        if self.min_cos is not None and not -1 <= self.min_cos <= 1:
            raise InputError(f"min_cos is the cosine of an angle, from -1 to 1, not {self.min_cos}")
        if self.mode not in MODES:
            raise InputError(f"there is no mode {self.mode!r}; there are: {', '.join(MODES)}")
        if isinstance(self.k, bool) or not isinstance(self.k, int) or not 1 <= self.k < 2**31:
            raise InputError(f"k, the number of places kept, must be a whole number from 1 up, not {self.k!r}")

    @property
    def semantic_tau(self) -> float:
        """The factor of the semantic softmax, with its default filled in."""
        if self.tau_sem is not None:
            return self.tau_sem
        return TAU_RANGE if self.beta == 1 else TAU_RANGE_PLUS

    @property
    def least_cos(self) -> float | None:
        """The cosine below which places are hidden; None where none is, not even the antipode by its last digit."""
        return None if self.min_cos == -1 else self.min_cos

    def kept(self, places: int) -> int:
        """Return how many of a bank's places each softmax keeps."""
        return {"soft": places, "top1": 1}.get(self.mode, min(self.k, places))

    def to_dict(self) -> dict[str, Any]:
        """Return all options with defaults filled in, as plain values: what stored embeddings were made with."""
        return {**asdict(self), "tau_sem": self.semantic_tau}
