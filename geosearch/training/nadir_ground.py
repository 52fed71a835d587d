"""The tiles that a nadir-aware model learns from: an archive in the database, its pixels kept beside the run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

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
    select i.id, i.name, i.uri, a.root, st_asbinary(i.footprint::geometry)
    from geosearch.image i join geosearch.archive a on a.id = i.archive_id
    where i.archive_id = %s and i.footprint is not null and cardinality(i.problems) = 0 order by i.id
"""


@dataclass(frozen=True)
class Tiles:
    """n tiles: ids (n,), middles in degrees, the radius of the cap that bounds each, pixels (n, s, s, 3) uint8."""

    ids: NDArray[np.int64]
    lat: Floats
    lon: Floats
    cap_m: Floats
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
    shapes = shapely.from_wkb([row[4] for row in rows])
    points = [unit_vectors(xy[:, 1], xy[:, 0]) for xy in map(shapely.get_coordinates, shapes)]
    middle = np.array([p.mean(0) / np.linalg.norm(p.mean(0)) for p in points])
    cap = np.array([angle(m, p).max() for m, p in zip(middle, points, strict=True)]) * EARTH_RADIUS_M
    lat, lon = lat_lon(middle)
    keep = np.flatnonzero(ground.trainable(lat, lon)) if ground else np.arange(len(rows))
    if not len(keep):
        raise InputError(f"all of archive {archive} lies on held-out ground; give --no-split to learn from it")
    ids = np.array([rows[i][0] for i in keep])
    key = hashlib.sha256(repr((size, [rows[i][1:4] for i in keep])).encode()).hexdigest()[:16]
    path = folder / f"tiles-{key}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.empty((len(keep), size, size, 3), np.uint8)
        with ThreadPoolExecutor(threads, "decode") as pool:
            read = pool.map(partial(_read, size=size), [(rows[i][2], rows[i][3]) for i in keep])
            for done, picture in enumerate(read):
                pixels[done] = picture
                report(done + 1, len(keep))
        with path.with_suffix(".tmp").open("wb") as out:
            np.save(out, pixels)
        path.with_suffix(".tmp").replace(path)
    return Tiles(ids, lat[keep], lon[keep], cap[keep], np.load(path, mmap_mode="r"))


def _read(where: tuple[str | None, str | None], size: int) -> NDArray[np.uint8]:
    path = files.locate(*where)
    picture = open_image(files.read(path).source, name=str(path))
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    cut = picture.crop((left, top, left + side, top + side))
    return np.asarray(cut.resize((size, size), Image.Resampling.BICUBIC))
