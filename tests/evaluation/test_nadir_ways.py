"""Ways of ranking on random vectors, against cosines of whole vectors and a sort of everything."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from geosearch.evaluation.nadir_ways import CONCAT, CONCAT_FILTER, IMAGE, NONE, UNKNOWN, Block, Queries, cosines, rank
from geosearch.nadir import reference

SCALE = 0.6
QUERIES, TILES = 7, 50


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    x = rng.normal(size=shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


class Vectors:
    """Photographs and tiles; the tiles in blocks of one size."""

    def __init__(self) -> None:
        rng = np.random.default_rng(4)
        self.image, self.nadir, self.null = unit(rng, TILES, 12), unit(rng, TILES, 5), unit(rng, 5)
        self.asked, self.eyes = unit(rng, QUERIES, 12), unit(rng, QUERIES, 5)
        self.there = rng.random(TILES) < 0.9
        self.allowed = [np.flatnonzero(rng.random(TILES) < 0.3) for _ in range(QUERIES)]
        known = np.zeros(QUERIES)
        self.queries = Queries(
            self.asked, self.eyes, self.null, SCALE, known, known, lambda part: self.allowed[part.start : part.stop]
        )

    def blocks(self, size: int) -> Iterator[Block]:
        for start in range(0, TILES, size):
            part = slice(start, min(start + size, TILES))
            place = np.zeros(part.stop - start)
            yield Block(start, self.image[None, part], self.nadir[part], place, place, self.there[part])


@pytest.mark.parametrize(("way", "told"), [(CONCAT, True), (UNKNOWN, False)])
def test_the_cosine_of_both_is_that_of_the_vectors_that_a_space_holds(way: str, told: bool) -> None:
    of = Vectors()
    tiles = reference.concatenation(of.image, of.nadir, SCALE)
    nadirs = of.eyes if told else np.broadcast_to(of.null, of.eyes.shape)
    whole = reference.concatenation(of.asked, nadirs, SCALE) @ tiles.T
    found = cosines(of.queries, of.blocks(TILES), way)
    np.testing.assert_allclose(found[:, of.there], whole[:, of.there], atol=1e-6)
    assert (found[:, ~of.there] == -1).all()


@pytest.mark.parametrize("size", [1, 13, TILES])
def test_the_best_are_those_of_a_sort_of_everything(size: int) -> None:
    of = Vectors()
    best = rank(of.queries, lambda: of.blocks(size), [IMAGE, CONCAT, CONCAT_FILTER], depth=20)
    for way, found in best.items():
        scores = of.asked @ of.image.T if way == IMAGE else cosines(of.queries, of.blocks(TILES), CONCAT)
        for q in range(QUERIES):
            left = of.there.copy()
            if way == CONCAT_FILTER:
                left &= np.isin(np.arange(TILES), of.allowed[q])
            rows = [row for row in np.argsort(-scores[q], kind="stable") if left[row]][:20]
            assert found[q].tolist() == rows + [NONE] * (20 - len(rows)), (way, q)


def test_of_equal_tiles_the_earlier_comes_first_below_0_too() -> None:
    of = Vectors()
    of.image[:], of.there[:] = -of.asked[0], True
    for size in (1, 13):
        assert rank(of.queries, lambda size=size: of.blocks(size), [IMAGE], depth=9)[IMAGE][0].tolist() == [*range(9)]


def test_a_tile_whose_vector_is_not_a_number_is_no_answer() -> None:
    of = Vectors()
    of.image[3], of.there[:] = np.nan, True
    assert 3 not in rank(of.queries, lambda: of.blocks(13), [IMAGE, CONCAT], depth=TILES)[CONCAT]
