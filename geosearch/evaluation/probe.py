"""Linear probes: how much of a quantity can be read off an embedding by a straight line. Arrays in, figures out.

As RANGE's evaluation does it (arXiv 2502.19781, and its code): every feature scaled to 0 … 1 by the training rows, then
ridge regression whose penalty is chosen by cross-validation among 0.1, 1 and 10: 3 folds for numbers, 10 for classes.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geosearch.errors import InputError
from geosearch.evaluation.extra import sklearn
from geosearch.geometry import unit_vectors

ALPHAS = (0.1, 1.0, 10.0)
SEED = 42
CELL_DEG = 10
FOLDS = 5


@dataclass(frozen=True)
class Split:
    """Rows (indices, int64) to fit on and rows to judge by."""

    name: str
    train: NDArray[np.int64]
    test: NDArray[np.int64]


@dataclass(frozen=True)
class Score:
    """value: R² of numbers, accuracy of classes. alpha: the penalty chosen, NaN where nothing was fitted.

    train, test: rows of each side. unseen: test rows whose class no training row has (they count as wrong).
    """

    value: float
    alpha: float
    train: int
    test: int
    unseen: int = 0


def random_split(rows: int) -> Split:
    """Return the published split: torch's random_split in 80 and 20 % with seed 42 (3 076 rows: 2 461 and 615)."""
    import torch

    everything: Any = range(rows)  # its type says Dataset, but anything with a length and items does
    generator = torch.Generator().manual_seed(SEED)
    train, test = torch.utils.data.random_split(everything, [0.8, 0.2], generator=generator)
    return _checked("random", np.array(train.indices, np.int64), np.array(test.indices, np.int64))


def blocked_split(lat: ArrayLike, lon: ArrayLike, fold: int = 0) -> Split:
    """Return a split in which every cell of 10° × 10° lies wholly on one side.

    The 648 cells of the world are dealt to five folds by one fixed shuffle (seed 42), whatever the rows: two tables
    leave out the same ground. `fold` (0 … 4) is what is judged by. The share of rows in it follows from where they lie.
    """
    if not 0 <= fold < FOLDS:
        raise InputError(f"there is no fold {fold} of the blocked split; use 0 … {FOLDS - 1}")
    cell = cells(lat, lon)
    dealt = np.empty(648, np.int64)
    dealt[np.random.default_rng(SEED).permutation(648)] = np.arange(648) % FOLDS
    out = dealt[cell] == fold
    return _checked("blocked", np.flatnonzero(~out), np.flatnonzero(out))


def cells(lat: ArrayLike, lon: ArrayLike) -> NDArray[np.int64]:
    """Return the numbers (n,) of 10° cells, 0 … 647: 18 rows from the south, 36 columns from −180°."""
    row = np.clip(np.floor((np.asarray(lat, float) + 90) / CELL_DEG), 0, 17).astype(np.int64)
    column = np.floor((np.asarray(lon, float) + 180) / CELL_DEG).astype(np.int64) % 36
    return row * 36 + column


def probe(features: ArrayLike, target: ArrayLike, split: Split, classes: bool = False) -> Score:
    """Fit features (n, d) to target (n,) on the split's training rows and judge by its test rows.

    classes: the target holds labels (numbers or strings); otherwise numbers. Raises InputError for features that are
    not finite (the row is named), sizes that do not go together, and classes that are all too small for ten folds.
    """
    x, y = _checked_features(features, target)
    train, test = split.train, split.test
    scale = sklearn("preprocessing").MinMaxScaler().fit(x[train])
    linear = sklearn("linear_model")
    model = linear.RidgeClassifierCV(ALPHAS, cv=10) if classes else linear.RidgeCV(ALPHAS, cv=3)
    if classes:
        _check_classes(y[train])
    with warnings.catch_warnings():
        # A rare class is missing from some folds; that only coarsens the choice of the penalty.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        model.fit(scale.transform(x[train]), y[train])
    value = float(model.score(scale.transform(x[test]), y[test]))
    return Score(value, float(model.alpha_), len(train), len(test), _unseen(y, split) if classes else 0)


def nearest_place(lat: ArrayLike, lon: ArrayLike, target: ArrayLike, split: Split, classes: bool = False) -> Score:
    """Judge the baseline that knows no embedding: the value of the nearest training place, by great circle."""
    points, y = _checked_features(unit_vectors(lat, lon), target)
    tree = sklearn("neighbors").KDTree(points[split.train])  # the order of chords is the order of angles
    guess = y[split.train][tree.query(points[split.test], return_distance=False)[:, 0]]
    truth = y[split.test]
    if classes:
        value = float((guess == truth).mean())
    else:
        value = float(1 - ((truth - guess) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())
    return Score(value, float("nan"), len(split.train), len(split.test), _unseen(y, split) if classes else 0)


def _checked(name: str, train: NDArray[np.int64], test: NDArray[np.int64]) -> Split:
    if len(train) < 10 or len(test) < 2:
        raise InputError(
            f"the {name} split leaves {len(train)} rows to fit on and {len(test)} to judge by; 10 and 2 are the least. "
            "Give a larger table"
        )
    return Split(name, train, test)


def _checked_features(features: ArrayLike, target: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.generic]]:
    x, y = np.asarray(features, np.float64), np.asarray(target)
    if x.ndim != 2 or y.ndim != 1 or len(x) != len(y):
        raise InputError(f"features of shape {x.shape} do not go with a target of shape {y.shape}")
    bad = np.flatnonzero(~np.isfinite(x).all(1))
    if len(bad):
        raise InputError(f"the features of {len(bad)} of {len(x)} rows are not finite, first of row {bad[0]} (from 0)")
    return x, y


def _check_classes(labels: NDArray[np.generic]) -> None:
    counts = np.unique(labels, return_counts=True)[1]
    if len(counts) < 2:
        raise InputError("all training rows have one class; a probe needs two or more")
    if counts.max() < 10:
        raise InputError(
            f"no class has ten training rows (the largest of {len(counts)} has {counts.max()}). Is the target numbers? "
            "Then it is not to be read as classes"
        )


def _unseen(y: NDArray[np.generic], split: Split) -> int:
    return int((~np.isin(y[split.test], y[split.train])).sum())
