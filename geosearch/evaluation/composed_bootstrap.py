"""How sure a composed evaluation is: its averages over questions drawn again, with replacement.

Query images are drawn, not questions: the two or three questions of one image are no independent evidence. Nor are
images of neighbouring ground, so whole groups of images may be drawn. The images that are ranked stay as they are.
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


def averages(
    asked: Mapping[str, Asked], draws: int = 1000, seed: int = 1, group: NDArray[np.integer] | None = None
) -> Floats:
    """Return (draws, ways): the plain mean over attributes of the mean AP, for query images drawn with replacement.

    An image that is drawn brings its questions of all attributes along. group: (images,) from 0; then groups are drawn,
    with all their images. A draw without a question of some attribute is NaN: groups are few or small. Raises
    InputError where there is no question.
    """
    if not asked or not all(len(of.image) for of in asked.values()):
        raise InputError("an attribute without questions cannot be drawn from; leave it out")
    drawn = {name: of.image if group is None else group[of.image] for name, of in asked.items()}
    groups = max(int(of.max()) for of in drawn.values()) + 1
    present = np.unique(np.concatenate(list(drawn.values())))
    rng = np.random.default_rng(seed)
    often = rng.multinomial(len(present), np.full(len(present), 1 / len(present)), draws).astype(np.float64)
    total = np.zeros((draws, next(iter(asked.values())).ap.shape[1]))
    for name, of in asked.items():
        sums = np.zeros((groups, of.ap.shape[1]))
        np.add.at(sums, drawn[name], of.ap)
        count = often @ np.bincount(drawn[name], minlength=groups).astype(np.float64)[present]
        total += (often @ sums[present]) / np.where(count, count, np.nan)[:, None]
    return total / len(asked)


def interval(values: Floats) -> tuple[float, float]:
    """Return between which values the middle 95 % of draws (draws,) lie, to two places; those that are NaN left out."""
    low, high = np.nanquantile(values, [(1 - SHARE) / 2, (1 + SHARE) / 2])
    return round(float(low), 2), round(float(high), 2)


def winners(drawn: Floats, names: Sequence[str]) -> dict[str, float]:
    """Return the share of draws (draws, ways) that each named way wins, those that never do left out; NaN is none."""
    drawn = drawn[~np.isnan(drawn).any(1)]
    won = np.bincount(drawn.argmax(1), minlength=len(names)) / len(drawn)
    return {name: float(share) for name, share in zip(names, won, strict=True) if share}
