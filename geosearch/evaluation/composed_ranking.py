"""Ranks of relevant images in many composed rankings of one database, in float64, without making the rankings.

The same as `geosearch.compose.reference` for one image and one text, but similarities and their tails are computed once
an image and once a text, and shared by all questions and all λ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from geosearch.compose.reference import LEAST_DEVIATION, Method
from geosearch.compose.unit import unit_rows
from geosearch.errors import InputError
from geosearch.evaluation.composed_metric import ranks_of
from geosearch.geometry import Floats

Ranks = NDArray[np.int64]

BLOCK = 64  # query images at a time: bounds the memory


class Question(NamedTuple):
    """A query image's position, the value that is asked for, and the positions of the relevant images."""

    image: int
    value: str
    relevant: NDArray[np.int64]


class Way(NamedTuple):
    """A method, and for WeiCom its λ, the weight of the text; for the mean too where it is not the plain one."""

    method: Method
    lam: float | None = None

    @property
    def name(self) -> str:
        """Return what a table calls it, e.g. "weicom 0.3"."""
        return self.method if self.lam is None else f"{self.method} {self.lam:g}"


class Costs(NamedTuple):
    """What rankings sort by, least first, (n,) each, and the same sorted: minus similarities, and their tails Q(z)."""

    similarity: Floats
    similarity_sorted: Floats
    tail: Floats
    tail_sorted: Floats


class Pool:
    """All images that are ranked, (n, d), and the texts that are asked for, value → (d,). Raises InputError."""

    def __init__(self, vectors: ArrayLike, texts: Mapping[str, ArrayLike]) -> None:
        self._images = _unit(vectors, "image")
        # A product of matrices may give equal rows different last digits, by where they stand, and so break ties by
        # chance: every vector is multiplied once.
        self._rows, self._where = np.unique(self._images, axis=0, return_inverse=True)
        self._texts: dict[str, Costs] = {}
        for value, vector in texts.items():
            row = _unit(np.asarray(vector)[None], f"text {value!r}, vector")
            if row.shape[1] != self._rows.shape[1]:
                raise InputError(
                    f"the text {value!r} has {row.shape[1]} dimensions, the images have {self._rows.shape[1]}; "
                    "both must come from one model"
                )
            self._texts[value] = self._costs(row)[0]

    def rank(self, asked: Sequence[Question], ways: Sequence[Way]) -> Iterator[list[Ranks]]:
        """Yield for every question, in order, the ranks (m,) of its relevant images, from 1, in each of the ways."""
        by_image = [(image, list(of)) for image, of in groupby(asked, key=lambda question: question.image)]
        for start in range(0, len(by_image), BLOCK):
            block = by_image[start : start + BLOCK]
            costs = self._costs(self._images[[image for image, _ in block]])
            for image, (_, of) in zip(costs, block, strict=True):
                for question in of:
                    text = self._texts[question.value]
                    yield [_ranks(image, text, way, question.relevant) for way in ways]

    def _costs(self, queries: Floats) -> list[Costs]:
        similarity = (queries @ self._rows.T)[:, self._where.ravel()]
        z = np.zeros_like(similarity)
        if similarity.shape[1] > 1:
            deviation = similarity.std(axis=1, ddof=1, keepdims=True)
            varies = deviation >= LEAST_DEVIATION
            np.divide(similarity - similarity.mean(axis=1, keepdims=True), deviation, out=z, where=varies)
        tails = torch.special.erfc(torch.from_numpy(z / np.sqrt(2))).mul_(0.5).numpy()
        columns = (-similarity, np.sort(-similarity, axis=1), tails, np.sort(tails, axis=1))
        return [Costs(*rows) for rows in zip(*columns, strict=True)]


def _ranks(image: Costs, text: Costs, way: Way, relevant: NDArray[np.int64]) -> Ranks:
    lam = way.lam
    if way.method == "image":
        return ranks_of(image.similarity, image.similarity_sorted, relevant)
    if way.method == "text":
        return ranks_of(text.similarity, text.similarity_sorted, relevant)
    if way.method == "mean":
        share = 0.5 if lam is None else lam
        costs = (1 - share) * image.similarity + share * text.similarity
    elif lam is None:
        raise InputError("WeiCom needs a λ, the weight of the text")
    elif lam in (0, 1):
        alone = text if lam else image
        return ranks_of(alone.tail, alone.tail_sorted, relevant)
    else:
        costs = (1 - lam) * image.tail + lam * text.tail
    return ranks_of(costs, np.sort(costs), relevant)


def _unit(vectors: ArrayLike, what: str) -> Floats:
    wide = np.asarray(vectors, np.float64)
    if wide.ndim != 2:
        raise InputError(f"vectors are rows of a table, not of the shape {wide.shape}")
    return unit_rows(wide, what)
