"""How sure a composed evaluation is: its averages over questions drawn again, with replacement.

Query images are drawn, not questions: the two or three questions of one image are no independent evidence. The images
that are ranked stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from geosearch.errors import InputError
from geosearch.geometry import Floats

SHARE = 0.95  # of the draws that lie inside an interval


class Asked(NamedTuple):
    """Questions of one attribute. image (q,): the query image of each; ap (q, ways): its AP by each way, 0 … 100."""

    image: NDArray[np.int64]
    ap: Floats


def averages(asked: Mapping[str, Asked], draws: int = 1000, seed: int = 1) -> Floats:
    """Return (draws, ways): the plain mean over attributes of the mean AP, for query images drawn with replacement.

    An image that is drawn brings its questions of all attributes along. Raises InputError where there is no question.
    """
    if not asked or not all(len(of.image) for of in asked.values()):
        raise InputError("an attribute without questions cannot be drawn from; leave it out")
    images = max(int(of.image.max()) for of in asked.values()) + 1
    present = np.unique(np.concatenate([of.image for of in asked.values()]))
    rng = np.random.default_rng(seed)
    often = rng.multinomial(len(present), np.full(len(present), 1 / len(present)), draws).astype(np.float64)
    total = np.zeros((draws, next(iter(asked.values())).ap.shape[1]))
    for of in asked.values():
        sums = np.zeros((images, of.ap.shape[1]))
        np.add.at(sums, of.image, of.ap)
        count = np.bincount(of.image, minlength=images).astype(np.float64)
        total += (often @ sums[present]) / (often @ count[present])[:, None]
    return total / len(asked)


def interval(values: Floats) -> tuple[float, float]:
    """Return between which values the middle 95 % of draws (draws,) lie, to two places."""
    low, high = np.quantile(values, [(1 - SHARE) / 2, (1 + SHARE) / 2])
    return round(float(low), 2), round(float(high), 2)


def winners(drawn: Floats, names: Sequence[str]) -> dict[str, float]:
    """Return the share of draws (draws, ways) that each named way wins, those that never do left out."""
    won = np.bincount(drawn.argmax(1), minlength=len(names)) / len(drawn)
    return {name: float(share) for name, share in zip(names, won, strict=True) if share}
