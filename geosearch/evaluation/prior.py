"""A geographic prior: what a picture may show, times what is to be expected where it was taken. Arrays in and out.

P(class | image, place) ∝ P(class | image) · P(class | place), as in Mac Aodha et al. 2019 (arXiv 1906.05272) and RANGE
(arXiv 2502.19781): it takes picture and place to be independent once the class is known, and the classes to be about
equally frequent.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geosearch.errors import InputError
from geosearch.evaluation.extra import sklearn
from geosearch.geometry import Floats

PENALTIES = (0.001, 0.01, 0.1, 1.0)  # scikit-learn's C: smaller is stronger


def product(image: ArrayLike, place: ArrayLike) -> Floats:
    """Return P(image) · P(place), each row of which sums to 1.

    image, place: probabilities (n, classes), the same classes in the same order; rows need not sum to 1. Raises
    InputError, with the row, for shapes that differ, what is no probability, and a product that is zero everywhere.
    """
    p, q = np.asarray(image, np.float64), np.asarray(place, np.float64)
    if p.ndim != 2 or p.shape != q.shape:
        raise InputError(f"probabilities of shape {p.shape} of images and {q.shape} of places cannot be multiplied")
    for what, part in (("image", p), ("place", q)):
        bad = np.flatnonzero(~(np.isfinite(part) & (part >= 0)).all(1))
        if len(bad):
            raise InputError(f"row {bad[0]} of the {what} probabilities is negative or not finite")
    # Each is divided by its largest first: the product of two small numbers must not vanish.
    with np.errstate(invalid="ignore", divide="ignore"):
        both = (p / p.max(1, keepdims=True)) * (q / q.max(1, keepdims=True))
        both /= both.sum(1, keepdims=True)
    bad = np.flatnonzero(~np.isfinite(both).all(1))
    if len(bad):
        raise InputError(
            f"row {bad[0]}: no class is possible by both image and place; give probabilities that are not zero"
        )
    return both


def top_1(probabilities: ArrayLike, label: ArrayLike) -> float:
    """Return the share of rows (n, classes) whose likeliest class is the right one (n,), an index."""
    return float((np.asarray(probabilities).argmax(1) == np.asarray(label)).mean())


def class_probabilities(
    features: ArrayLike, label: ArrayLike, classes: int, train: NDArray[np.int64], seed: int = 0
) -> Floats:
    """Return probabilities (n, classes) of all rows by logistic regression on the training rows.

    features (n, d); label (n,) 0 … classes − 1. The penalty is the one with the least log loss on a fifth of the
    training rows; then all of them are fitted. Raises InputError where a class has no training row.
    """
    x, y = np.asarray(features, np.float64), np.asarray(label)
    counts = np.bincount(y[train], minlength=classes)
    if counts.min() < 5:
        raise InputError(f"class {counts.argmin()} has {counts.min()} training rows; give five or more of each class")
    x = sklearn("preprocessing").StandardScaler().fit(x[train]).transform(x)
    within = sklearn("model_selection").train_test_split(train, test_size=0.2, random_state=seed, stratify=y[train])
    losses = []
    for penalty in PENALTIES:
        p = _fitted(x, y, within[0], penalty)[within[1]]
        losses.append(-np.log(np.maximum(p[np.arange(len(p)), y[within[1]]], 1e-12)).mean())
    return _fitted(x, y, train, PENALTIES[int(np.argmin(losses))])


def _fitted(x: Floats, y: NDArray[Any], train: NDArray[np.int64], penalty: float) -> Floats:
    model = sklearn("linear_model").LogisticRegression(C=penalty, max_iter=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sklearn("exceptions").ConvergenceWarning)  # near enough for a probability
        model.fit(x[train], y[train])
    return np.asarray(model.predict_proba(x), np.float64)
