"""Photographs of an archive to learn from: each with the tiles that its footprint shares ground with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import shapely
from numpy.typing import NDArray

from geosearch.database.archives import get_archive_id
from geosearch.errors import InputError
from geosearch.geometry import EARTH_RADIUS_M, Floats
from geosearch.training.nadir_ground import Tiles, caps, read_pixels
from geosearch.training.nadir_overlap import Shapes, meeting, shared
from geosearch.training.split import Split

# Only the nadir itself is told to the model: the middle of a photograph's footprint is the answer, not the question.
# Rows with a problem are left out: what cannot be trusted is not learned from.
_PHOTOS = """
    select i.id, i.name, i.uri, a.root, st_asbinary(i.footprint::geometry),
           st_y(i.nadir::geometry), st_x(i.nadir::geometry)
    from geosearch.image i join geosearch.archive a on a.id = i.archive_id
    where i.archive_id = any(%s) and i.footprint is not null and cardinality(i.problems) = 0 order by i.id
"""
# The index is on coalesce(footprint, nadir).
_PAIRS = """
    select p.id, t.id, st_asbinary(t.footprint::geometry)
    from geosearch.image p join geosearch.image t on st_intersects(p.footprint, coalesce(t.footprint, t.nadir))
    where p.id = any(%s) and t.archive_id = %s and t.id <> p.id and t.footprint is not null
    and cardinality(t.problems) = 0 order by p.id, t.id
"""
_BLOCK = 500  # photographs a question


@dataclass(frozen=True)
class Photos:
    """n photographs and their p pairs with tiles, in the order of the photographs.

    ids (n,); nadir: (lat, lon), each (n,), degrees, NaN where unknown; middle: (lat, lon) and cap (n,), radians, of the
    cap round each; shapes (n,); pixels (n, s, s, 3) uint8. first (n + 1,): where the pairs of each begin in tile, the
    tile's position, and overlap, the intersection over union; only pairs of at least `least` are learned as right.
    """

    ids: NDArray[np.int64]
    nadir: tuple[Floats, Floats]
    middle: tuple[Floats, Floats]
    cap: Floats
    shapes: Shapes
    pixels: NDArray[np.uint8]
    first: NDArray[np.int64]
    tile: NDArray[np.int64]
    overlap: Floats
    least: float = 0.0

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def _learned(self) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
        """The pairs that may be learned, in the order of their tiles: tile, photograph, overlap summed up before it."""
        photo = np.repeat(np.arange(len(self)), np.diff(self.first))
        right = np.flatnonzero((self.overlap > 0) & (self.overlap >= self.least))
        right = right[np.argsort(self.tile[right], kind="stable")]
        return self.tile[right], photo[right], np.concatenate([[0.0], np.cumsum(self.overlap[right])])

    def of(self, tiles: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which tiles have a photograph to learn from."""
        return np.isin(tiles, self._learned[0])

    def choose(self, tiles: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """Return a photograph of each tile that has one, each as likely as it shares much ground with the tile."""
        tile, photo, until = self._learned
        begin, end = np.searchsorted(tile, tiles), np.searchsorted(tile, tiles, "right")
        at = until[begin] + rng.random(len(tiles)) * (until[end] - until[begin])
        return photo[np.clip(np.searchsorted(until, at, "right") - 1, begin, end - 1)]

    def shows(self, photos: NDArray[np.int64], tiles: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of the photographs share ground with which of the tiles, however little, (a, b)."""
        rows = [np.isin(tiles, self.tile[self.first[p] : self.first[p + 1]]) for p in photos]
        return np.array(rows, bool).reshape(len(photos), len(tiles))

    def meet(self, photos: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of the photographs share ground with one another, (a, a)."""
        lat, lon = self.middle
        return meeting(self.shapes[photos], lat[photos], lon[photos], self.cap[photos])


def read_photos(
    conn: psycopg.Connection,
    archives: Sequence[str],
    tiles: Tiles,
    tile_archive: str,
    size: int,
    folder: Path,
    ground: Split | None,
    least: float = 0.0,
    threads: int = 4,
    report: Callable[[int, int], None] = lambda _done, _of: None,
) -> Photos:
    """Return the photographs that share ground with the tiles, resized to size pixels.

    ground: what is held out of training, by the middle of what a photograph shows. least: the intersection over union
    from which on a pair is right; a pair below it is neither right nor wrong. Raises InputError where no pair is left.
    """
    rows = conn.execute(_PHOTOS, [[get_archive_id(conn, name) for name in archives]]).fetchall()
    shapes: Shapes = np.array(shapely.from_wkb([row[4] for row in rows]), object).reshape(len(rows))
    lat, lon, cap = caps(shapes)
    keep = np.flatnonzero(ground.trainable(lat, lon)) if ground else np.arange(len(rows))
    ids = np.array([row[0] for row in rows], np.int64)
    pairs = _pairs(conn, ids[keep], tiles, get_archive_id(conn, tile_archive))
    has = [i for i in keep if ids[i] in pairs]
    found = [(pairs[ids[i]][0], shared(shapes[i], pairs[ids[i]][1], lat[i], lon[i])) for i in has]
    if not any(((o > 0) & (o >= least)).any() for _, o in found):
        raise InputError(
            f"no photograph of {', '.join(archives)} without problems shares "
            f"{'ground' if least <= 0 else f'{least:g} of the ground or more'} with a tile that may be learned from; "
            "catalogue footprints (`geosearch catalog`), give --no-split, or a lower --min-overlap"
        )
    where = np.array(has)
    nadir = np.array([[np.nan if x is None else x for x in rows[i][5:7]] for i in has], float)
    return Photos(
        ids=ids[where],
        nadir=(nadir[:, 0], nadir[:, 1]),
        middle=(lat[where], lon[where]),
        cap=cap[where] / EARTH_RADIUS_M,
        shapes=shapes[where],
        pixels=read_pixels([rows[i][1:4] for i in has], size, folder, "photos", threads, report),
        first=np.concatenate([[0], np.cumsum([len(t) for t, _ in found])]),
        tile=np.concatenate([t for t, _ in found]),
        overlap=np.concatenate([o for _, o in found]),
        least=least,
    )


def _pairs(
    conn: psycopg.Connection, photos: NDArray[np.int64], tiles: Tiles, archive: int
) -> dict[int, tuple[NDArray[np.int64], Shapes]]:
    """Return, by a photograph's id, the positions and the footprints of the tiles that it shares a point with."""
    position = {int(one): i for i, one in enumerate(tiles.ids)}
    shapes: dict[int, Any] = {}
    out: dict[int, tuple[list[int], list[Any]]] = {}
    for start in range(0, len(photos), _BLOCK):
        some = [int(one) for one in photos[start : start + _BLOCK]]
        for photo, tile, wkb in conn.execute(_PAIRS, [some, archive], binary=True):
            at = position.get(tile)
            if at is not None:
                if at not in shapes:
                    shapes[at] = shapely.from_wkb(wkb)
                known = out.setdefault(photo, ([], []))
                known[0].append(at)
                known[1].append(shapes[at])
    return {photo: (np.array(at, np.int64), np.array(some, object)) for photo, (at, some) in out.items()}
