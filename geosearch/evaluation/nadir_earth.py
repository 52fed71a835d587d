"""A benchmark of nadir-aware retrieval on real geography: tiles of Blue Marble, photographs of them from the orbit.

Nothing of it is what `mini-nadir` learned from: the photographs' nadirs lie along other days of the orbit, the weather
is another, and half of them show ground that no training saw. Two laws say how far from its nadir a photograph looks:
as astronauts do, and at any distance up to the horizon alike, so that nothing fitted to the first wins by knowing it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from geosearch.catalog.ingest import add
from geosearch.database.archives import list_archives, remove_archive
from geosearch.demo import archive, photos
from geosearch.demo.photos import PHOTOGRAPHS, Law
from geosearch.errors import GeosearchError, InputError
from geosearch.geometry import distance_m
from geosearch.training.nadir_options import Options
from geosearch.training.nadir_photos import LENSES, MOST_M

VERSION = 1  # of what is rendered: another version is made anew
START = np.datetime64("2020-06-09T12:00:00")  # training saw six days of December 2019
HORIZON = Law(lambda rng: float(rng.uniform(0, MOST_M)), LENSES, sky=True)
LAWS = {"photographs": PHOTOGRAPHS, "horizon": HORIZON}
TRAINING_SHARE = Options.uniform  # of horizon's law among the photographs that mini-nadir learned from
TILES = "nadir-earth-tiles"
INDEX = "photographs.geojson"
MARK = "nadir-earth"  # the property of an archive that says it was made here

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Size:
    """How large the benchmark is: about how many tiles, photographs a law, and photographs to fit priors to."""

    tiles: int = 24_000
    photographs: int = 3_000
    fit: int = 800
    seed: int = 61

    def __post_init__(self) -> None:
        """Raise InputError for sizes that leave nothing to measure."""
        if min(self.tiles, self.photographs, self.fit) < 40:
            raise InputError("the benchmark needs at least 40 tiles, 40 photographs and 40 to fit priors to")


def archives() -> dict[str, str]:
    """Return the names of the archives of photographs by law."""
    return {law: f"nadir-earth-{law}" for law in LAWS}


def fit_archives() -> dict[str, str]:
    """Return the names of the archives that priors are fitted to, by law: seen ground only."""
    return {law: f"nadir-earth-fit-{law}" for law in LAWS}


def make(conn: psycopg.Connection[Any], folder: Path, size: Size | None = None, tell: Tell | None = None) -> None:
    """Cut the tiles, render the photographs into a folder, and catalogue all as archives with nadirs and footprints.

    Killed at any moment, the same call goes on where it was; what is there already is left alone. tell: called with
    (what is done, done, of). Raises InputError where an archive of that name is someone else's.
    """
    size, tell = size or Size(), tell or (lambda _what, _done, _of: None)
    _check_names(conn)
    tiles = archive.plan_tiles(size.tiles)
    into = folder / f"tiles-{size.tiles}-v{VERSION}"
    index = archive.write_tiles(into, tiles, lambda done, of: tell("tiles cut", done, of))
    _catalogue(conn, TILES, index, len(tiles), archive.FACTS, tell)
    seen = _on_seen_ground(tiles)
    for number, (law, name) in enumerate(archives().items()):
        _photographs(conn, folder, name, size.photographs, tiles, LAWS[law], [size.seed, number], size.tiles, tell)
    for number, (law, name) in enumerate(fit_archives().items()):
        _photographs(conn, folder, name, size.fit, seen, LAWS[law], [size.seed, 10 + number], size.tiles, tell)


def _check_names(conn: psycopg.Connection[Any]) -> None:
    ours = {TILES, *archives().values(), *fit_archives().values()}
    for found in list_archives(conn):
        if found.name in ours and MARK not in found.properties:
            raise InputError(
                f"archive {found.name} was not made by this benchmark; "
                f"rename or remove it: geosearch archive remove {found.name}"
            )


def _on_seen_ground(tiles: archive.Tiles) -> archive.Tiles:
    from geosearch.training.split import split

    rows = np.flatnonzero(split().trainable(tiles.lat, tiles.lon))
    lat, lon = tiles.corners
    return archive.Tiles([tiles.name[i] for i in rows], tiles.lat[rows], tiles.lon[rows], (lat[rows], lon[rows]))


def _photographs(
    conn: psycopg.Connection[Any],
    folder: Path,
    name: str,
    count: int,
    tiles: archive.Tiles,
    law: Law,
    seed: list[int],
    of_tiles: int,
    tell: Tell,
) -> None:
    into = folder / f"{name}-{count}-of-{of_tiles}-seed-{seed[0]}-v{VERSION}"
    index = into / INDEX
    if not index.exists():  # written last
        number = int(np.random.SeedSequence(seed).generate_state(1)[0])
        tell(f"{name} planned", 0, 1)
        planned = photos.plan_photos(count, tiles, number, law, START)
        tell(f"{name} planned", 1, 1)
        photos.write_photos(into, planned, number, lambda done, of: tell(f"{name} rendered", done, of))
        archive.write_whole(index, lambda path: path.write_text(json.dumps(_index(planned)), "utf-8"))
    _catalogue(conn, name, index, count, photos.FACTS, tell)


def _index(planned: photos.Photos) -> dict[str, Any]:
    """Return the photographs as GeoJSON: footprints, nadirs, and how far off they look."""
    away = distance_m(*planned.nadir, *planned.aim)
    features = [
        {
            "type": "Feature",
            "properties": {
                "name": name,
                "location": f"{name}.jpg",
                "captured_at": f"{planned.time[i].astype('datetime64[s]')}Z",
                "nadir_lat": round(float(planned.nadir[0][i]), 6),
                "nadir_lon": round(float(planned.nadir[1][i]), 6),
                "aim_lat": round(float(planned.aim[0][i]), 6),
                "aim_lon": round(float(planned.aim[1][i]), 6),
                "offset_km": round(float(away[i]) / 1000, 1),
                "width_km": round(float(planned.width_m[i]) / 1000, 1),
            },
            "geometry": {"type": "Polygon", "coordinates": [planned.footprint[i]]},
        }
        for i, name in enumerate(planned.name)
    ]
    return {"type": "FeatureCollection", "features": features}


def _catalogue(
    conn: psycopg.Connection[Any], name: str, index: Path, images: int, facts: dict[str, str], tell: Tell
) -> None:
    """Catalogue a GeoJSON index, unless that was done; an archive of another size makes room."""
    key = index.parent.name
    there = next((found for found in list_archives(conn) if found.name == name), None)
    if there is not None and there.properties[MARK] != key:
        remove_archive(conn, name)
    elif there is not None and (there.images, there.root) == (images, str(index.parent.absolute())):
        tell(f"{name} catalogued", images, images)
        return
    conn.commit()
    counts = add(
        conn,
        index,
        name,
        "vector",
        facts={**facts, "root": str(index.parent.absolute()), "properties": {MARK: key}},
        progress=lambda counts, _: tell(f"{name} catalogued", min(counts.rows, images), images),
    )
    if counts.rejected or counts.rows != images:
        raise GeosearchError(
            f"{images} images went into archive {name}, {counts.rows - counts.rejected} came out; "
            f"`geosearch catalog rejects --archive {name}` says why"
        )
