"""Ways of ranking tiles for a photograph whose nadir is known, and the best answers of each. Arrays in and out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from geosearch.errors import InputError
from geosearch.geometry import EARTH_RADIUS_M, Floats, unit_vectors

Singles = NDArray[np.float32]
Rotations = Literal["none", "shared", "used"]

IMAGE, FILTER, PRIOR = "image", "filter", "prior"
CONCAT, CONCAT_FILTER, CONCAT_PRIOR, UNKNOWN = "concat", "concat+filter", "concat+prior", "unknown"
WAYS: dict[str, str] = {
    IMAGE: "cosine of the image parts",
    FILTER: "the same, among tiles whose footprint lies within 2 500 km of the nadir",
    PRIOR: "the same, with a prior of the distance from the nadir",
    CONCAT: "cosine of image and nadir together",
    CONCAT_FILTER: "the same, among tiles within 2 500 km",
    CONCAT_PRIOR: "the same, with a prior of the distance",
    UNKNOWN: "cosine of both, the photograph encoded without its nadir",
}
NEEDS_NADIRS = (CONCAT, CONCAT_FILTER, CONCAT_PRIOR, UNKNOWN)  # a model that reads nadirs

NONE = -1  # no tile
CHUNK = 2048  # queries that are ranked together: what bounds the memory
_LOW = np.int64(0xFFFFFFFF)
_EMPTY = np.iinfo(np.int64).min


class Prior(Protocol):
    """A soft prior of how far a tile lies from the nadir of the photograph that shows it."""

    def score(self, cosine: Floats, distance_m: Floats) -> Floats:
        """Return scores, more for what is likelier, of cosines and distances of one shape; NaN: a distance not known.

        distance_m: from the photograph's nadir to the tile's place, on the sphere. Scores of one photograph's tiles are
        compared with each other only.
        """
        ...


@dataclass(frozen=True)
class Queries:
    """q photographs. image (q, d), nadir (q, e) unit vectors; the null vector where the nadir is not known.

    null (e,): the null vector. nadir and null are None, and scale is 0, for a model that reads images alone.
    lat, lon (q,): of the nadirs in degrees, NaN where not known. allowed: for each photograph, the tiles' rows,
    ascending, that the filter lets through; asked for a chunk of photographs at a time.
    """

    image: NDArray[Any]
    nadir: NDArray[Any] | None
    null: NDArray[Any] | None
    scale: float
    lat: Floats
    lon: Floats
    allowed: Callable[[slice], Sequence[NDArray[np.int64]]] | None = None

    def __len__(self) -> int:
        return len(self.image)

    def only(self, rows: NDArray[Any], allowed: Callable[[slice], Sequence[NDArray[np.int64]]] | None) -> Queries:
        """Return some of the photographs, with the tiles that the filter lets through for these."""
        nadir = None if self.nadir is None else self.nadir[rows]
        return replace(
            self, image=self.image[rows], nadir=nadir, lat=self.lat[rows], lon=self.lon[rows], allowed=allowed
        )


@dataclass(frozen=True)
class Block:
    """m tiles that follow each other, from row `start` of all. image (r, m, d): unit vectors by rotation.

    nadir (m, e) unit vectors or None. lat, lon (m,): the tiles' places, NaN where not known. there (m,): False for a
    tile without a vector, which nothing finds.
    """

    start: int
    image: NDArray[Any]
    nadir: NDArray[Any] | None
    lat: Floats
    lon: Floats
    there: NDArray[np.bool_]

    def __len__(self) -> int:
        return self.image.shape[1]


def rank(
    queries: Queries,
    tiles: Callable[[], Iterable[Block]],
    ways: Sequence[str],
    depth: int = 100,
    rotations: Rotations = "none",
    priors: Mapping[str, Prior] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, NDArray[np.int32]]:
    """Return, for each way, the rows of the best tiles (q, depth), best first, NONE where there are no more.

    tiles: gives all blocks, and is asked once for each chunk of photographs. rotations: "shared": a tile has one rank,
    that of its best rotation; "used": each rotation of a tile has a rank of its own and uses up an answer, as in the
    published evaluation; "none" takes the first rotation alone. Of equal scores the earlier tile comes first. A
    photograph without a nadir is neither filtered nor weighed by a prior. priors: by way, "prior" and "concat+prior".
    progress: called with (photographs done, of). Raises InputError for a way that is not known or lacks what it needs.
    """
    _check(queries, ways, priors or {})
    best = {way: np.full((len(queries), depth), NONE, np.int32) for way in ways}
    for start in range(0, len(queries), CHUNK):
        part = slice(start, min(start + CHUNK, len(queries)))
        allowed = queries.allowed(part) if queries.allowed and any(_filters(way) for way in ways) else None
        chunk = _Chunk(queries, part, allowed)
        tops = {way: _Top(part.stop - start, depth) for way in ways}
        turns = 1
        for block in tiles():
            turns = block.image.shape[0] if rotations == "used" else 1
            for way, scores in chunk.scores(block, ways, rotations, priors or {}):
                tops[way].add(scores, block.start * turns)
        for way, top in tops.items():
            rows = top.rows()
            best[way][part] = np.where(rows == NONE, NONE, rows // turns)
        if progress:
            progress(part.stop, len(queries))
    return best


def cosines(queries: Queries, tiles: Iterable[Block], way: str) -> Singles:
    """Return the cosines (q, n) of all photographs and all tiles by "image", "concat" or "unknown"; for a few only.

    A tile without a vector has −1. Raises InputError as `rank` does.
    """
    if way not in (IMAGE, CONCAT, UNKNOWN):
        raise InputError(f"way {way!r} is no bare cosine; ask for {IMAGE}, {CONCAT} or {UNKNOWN}")
    _check(queries, [way], {})
    chunk = _Chunk(queries, slice(0, len(queries)), None)
    parts = [scores for block in tiles for _, scores in chunk.scores(block, [way], "none", {})]
    return np.maximum(np.concatenate(parts, axis=1), np.float32(-1))


class _Chunk:
    """Some of the photographs, ready to be scored against blocks of tiles."""

    def __init__(self, queries: Queries, part: slice, allowed: Sequence[NDArray[np.int64]] | None) -> None:
        self.image = np.asarray(queries.image[part], np.float32)
        self.nadir = None if queries.nadir is None else np.asarray(queries.nadir[part], np.float32)
        self.null = None if queries.null is None else np.asarray(queries.null, np.float32)
        self.weight = queries.scale**2
        self.known = ~(np.isnan(queries.lat[part]) | np.isnan(queries.lon[part]))
        self.at = unit_vectors(queries.lat[part], queries.lon[part])
        self.allowed = allowed

    def scores(
        self, block: Block, ways: Sequence[str], rotations: Rotations, priors: Mapping[str, Prior]
    ) -> Iterable[tuple[str, Singles]]:
        """Yield each way's scores (q, m), or (q, m · r) where rotations use up answers, rotations of a tile adjoining.

        −inf: never an answer.
        """
        image = self._images(block, rotations)
        turns = image.shape[1] // max(len(block), 1)
        cosines: dict[str, NDArray[Any]] = {IMAGE: image}
        nadirs = None if block.nadir is None else np.asarray(block.nadir, np.float32)
        if self.nadir is not None and nadirs is not None and self.null is not None:
            for name, of in ((CONCAT, self.nadir @ nadirs.T), (UNKNOWN, (self.null @ nadirs.T)[None])):
                if any(_cosine(way) == name for way in ways):
                    both = image + np.float32(self.weight) * np.repeat(of, turns, axis=1)
                    cosines[name] = both / np.float32(1 + self.weight)
        gone = np.repeat(~block.there, turns)
        outside = np.repeat(self._outside(block), turns, axis=1) if any(_filters(way) for way in ways) else None
        distance = None
        for way in ways:
            scores = cosines[_cosine(way)]
            if _weighs(way):
                if distance is None:
                    distance = np.repeat(self._distance(block), turns, axis=1)
                weighed = np.asarray(priors[way].score(scores.astype(np.float64), distance), np.float32)
                scores = np.where(self.known[:, None], weighed, scores)
            if _filters(way):
                assert outside is not None
                scores = np.where(outside, np.float32(-np.inf), scores)
            yield way, np.where(gone, np.float32(-np.inf), scores).astype(np.float32, copy=False)

    def _images(self, block: Block, rotations: Rotations) -> Singles:
        if rotations == "none":
            return np.asarray(self.image @ np.asarray(block.image[0], np.float32).T)
        turned = [self.image @ np.asarray(one, np.float32).T for one in block.image]
        if rotations == "shared":
            return np.asarray(np.max(turned, axis=0))
        return np.stack(turned, axis=2).reshape(len(self.image), -1)

    def _outside(self, block: Block) -> NDArray[np.bool_]:
        """Return which tiles (q, m) the filter keeps out."""
        out = np.zeros((len(self.image), len(block)), bool)
        if self.allowed is None:
            return out
        for i in np.flatnonzero(self.known).tolist():
            rows = self.allowed[i]
            low, high = np.searchsorted(rows, (block.start, block.start + len(block)))
            out[i] = True
            out[i, rows[low:high] - block.start] = False
        return out

    def _distance(self, block: Block) -> Floats:
        """Return distances (q, m) in metres from nadirs to tiles."""
        cosine = self.at @ unit_vectors(block.lat, block.lon).T
        return EARTH_RADIUS_M * np.arccos(np.clip(cosine, -1, 1))  # to a metre or so: below that no prior tells


class _Top:
    """The best answers of q photographs so far, as 64-bit keys: the score above, the answer's number below, reversed.

    One number orders by score and then by place: the same answers whatever the blocks are.
    """

    def __init__(self, queries: int, depth: int) -> None:
        self.depth = depth
        self.keys = np.full((queries, depth), _EMPTY, np.int64)

    def add(self, scores: Singles, start: int) -> None:
        """Take scores (q, m) of answers numbered from start; −inf is left out."""
        bits = (scores + np.float32(0)).view(np.int32)  # −0 becomes 0
        order = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits).astype(np.int64)
        keys = (order << 32) | (_LOW - np.arange(start, start + scores.shape[1], dtype=np.int64))
        keys[~np.isfinite(scores)] = _EMPTY
        every = np.concatenate([self.keys, keys], axis=1)
        self.keys = np.partition(every, every.shape[1] - self.depth, axis=1)[:, -self.depth :]

    def rows(self) -> NDArray[np.int64]:
        """Return the answers' numbers (q, depth), best first."""
        ordered = np.sort(self.keys, axis=1)[:, ::-1]
        return np.where(ordered == _EMPTY, NONE, _LOW - (ordered & _LOW))


def _check(queries: Queries, ways: Sequence[str], priors: Mapping[str, Prior]) -> None:
    for way in ways:
        if way not in WAYS:
            raise InputError(f"there is no way {way!r}; there are: {', '.join(WAYS)}")
        if way in NEEDS_NADIRS and queries.nadir is None:
            raise InputError(f"way {way} needs a model that reads nadirs; use one, or the ways image, filter and prior")
        if _weighs(way) and way not in priors:
            raise InputError(f"way {way} needs a prior of the distance; fit one, or leave the way out")
        if _filters(way) and queries.allowed is None:
            raise InputError(f"way {way} needs the tiles near each nadir")


def _cosine(way: str) -> str:
    return IMAGE if way in (IMAGE, FILTER, PRIOR) else UNKNOWN if way == UNKNOWN else CONCAT


def _filters(way: str) -> bool:
    return way in (FILTER, CONCAT_FILTER)


def _weighs(way: str) -> bool:
    return way in (PRIOR, CONCAT_PRIOR)
