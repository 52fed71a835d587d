"""The tiles that a nadir-aware model learns from: an archive in the database, its pixels kept beside the run."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import shapely
from numpy.typing import NDArray
from PIL import Image

from geosearch.database.archives import get_archive_id
from geosearch.embedding import files
from geosearch.encoders.pictures import open_image
from geosearch.errors import InputError
from geosearch.geometry import EARTH_RADIUS_M, Floats, angle, lat_lon, unit_vectors
from geosearch.training.split import Split

# Rows with a problem are left out: what cannot be trusted is not learned from.
_TILES = """
    select i.id, i.name, i.uri, a.root, st_asbinary(i.footprint::geometry),
           st_y(p.place::geometry), st_x(p.place::geometry)
    from geosearch.image i join geosearch.archive a on a.id = i.archive_id
    cross join lateral (select geosearch.encoded_place(i.nadir, i.footprint, i.problems) as place) p
    where i.archive_id = %s and i.footprint is not null and cardinality(i.problems) = 0 order by i.id
"""


@dataclass(frozen=True)
class Tiles:
    """n tiles: ids (n,), the middles of their footprints in degrees, the radius of the cap that bounds each.

    place: (lat, lon), each (n,): what the model is told (`encoded_place` in SQL). pixels: (n, s, s, 3) uint8.
    """

    ids: NDArray[np.int64]
    lat: Floats
    lon: Floats
    cap_m: Floats
    place: tuple[Floats, Floats]
    pixels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.ids)


def read_tiles(
    conn: psycopg.Connection,
    archive: str,
    size: int,
    folder: Path,
    ground: Split | None,
    threads: int = 4,
    report: Callable[[int, int], None] = lambda _done, _of: None,
) -> Tiles:
    """Return the archive's tiles, resized to size pixels; ground: what is held out of training, if anything.

    The pixels are kept in folder, under a name that says which tiles they are. Raises InputError where an archive has
    no footprints or a file cannot be read: a run on fewer tiles than were asked for would not be the same run.
    """
    rows = conn.execute(_TILES, [get_archive_id(conn, archive)]).fetchall()
    if not rows:
        raise InputError(
            f"archive {archive} has no image with a footprint and without problems; nothing can be learned"
        )
    lat, lon, cap = caps(shapely.from_wkb([row[4] for row in rows]))
    keep = np.flatnonzero(ground.trainable(lat, lon)) if ground else np.arange(len(rows))
    if not len(keep):
        raise InputError(f"all of archive {archive} lies on held-out ground; give --no-split to learn from it")
    place = np.array([[np.nan if x is None else x for x in rows[i][5:7]] for i in keep], float)
    pixels = read_pixels([rows[i][1:4] for i in keep], size, folder, "tiles", threads, report)
    ids = np.array([rows[i][0] for i in keep])
    return Tiles(ids, lat[keep], lon[keep], cap[keep], (place[:, 0], place[:, 1]), pixels)


def caps(shapes: Sequence[Any] | NDArray[Any]) -> tuple[Floats, Floats, Floats]:
    """Return lat, lon (degrees) and radius (m), each (n,), of a cap round each footprint: its middle is the corners'.

    The point that closes a ring is its first one again and does not count twice.
    """
    middle, radius = np.empty((len(shapes), 3)), np.empty(len(shapes))
    for i, shape in enumerate(shapes):
        rings = [shapely.get_coordinates(ring)[:-1] for ring in shapely.get_rings(shapely.get_parts(shape))]
        points = unit_vectors(*np.concatenate(rings).T[::-1])
        middle[i] = points.mean(0)
        radius[i] = angle(middle[i], points).max()
    lat, lon = lat_lon(middle)
    return lat, lon, radius * EARTH_RADIUS_M


def read_pixels(
    rows: Sequence[tuple[str, str | None, str | None]],
    size: int,
    folder: Path,
    what: str,
    threads: int = 4,
    report: Callable[[int, int], None] = lambda _done, _of: None,
) -> NDArray[np.uint8]:
    """Return the pictures (n, size, size, 3) uint8 of rows (name, uri, the archive's root), from a file in folder.

    The file is made where it is not there yet; its name depends on the pictures' names, sizes and times, and on size.
    """
    facts = [(row[0], path, stamp.st_size, stamp.st_mtime_ns) for row, path, stamp in map(_stamped, rows)]
    key = hashlib.sha256(repr((size, facts)).encode()).hexdigest()[:16]
    path = folder / f"{what}-{key}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.empty((len(rows), size, size, 3), np.uint8)
        with ThreadPoolExecutor(threads, "decode") as pool:
            for done, picture in enumerate(pool.map(partial(_read, size=size), [row[1:] for row in rows])):
                pixels[done] = picture
                report(done + 1, len(rows))
        with path.with_suffix(".tmp").open("wb") as out:
            np.save(out, pixels)
        path.with_suffix(".tmp").replace(path)
    kept: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return kept


def _stamped(row: tuple[str, str | None, str | None]) -> tuple[tuple[str, str | None, str | None], str, os.stat_result]:
    path = files.locate(*row[1:])
    try:
        return row, str(path), path.stat()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); was it moved? Catalogue its folder again"
        ) from error


def _read(where: tuple[str | None, str | None], size: int) -> NDArray[np.uint8]:
    path = files.locate(*where)
    picture = open_image(files.read(path).source, name=str(path))
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    cut = picture.crop((left, top, left + side, top + side))
    return np.asarray(cut.resize((size, size), Image.Resampling.BICUBIC))
