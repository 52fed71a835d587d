"""A bank of an archive's images where a model, not a space, gives keys or values: their files are read and encoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql
from psycopg.rows import class_row

from geosearch.database.archives import get_archive_id
from geosearch.database.spaces import Space
from geosearch.embedding import files
from geosearch.embedding.run import decode_threads
from geosearch.encoders.base import Encoder
from geosearch.errors import GeosearchError, InputError, ModelError
from geosearch.geometry import lat_lon
from geosearch.item import Item
from geosearch.range.bank import Bank
from geosearch.range.queries import place_encoder
from geosearch.range.sample import sample_size, sampled, systematic
from geosearch.search.binary_copy import vector_rows
from geosearch.settings import settings

Progress = Callable[[int, int], None]

_PLACED = sql.SQL("""
    select i.id, i.name, i.uri, a.root, c.x, c.y, c.z
    from geosearch.image i
    join geosearch.archive a on a.id = i.archive_id
    cross join lateral geosearch.place_cap(coalesce(i.footprint, i.nadir)) c
    where i.archive_id = %(archive)s and coalesce(i.footprint, i.nadir) is not null {among}
    order by i.id
""")
_AMONG = sql.SQL("and exists (select from {} s where s.image_id = i.id)")
_WITHOUT = "select count(*) from geosearch.image where archive_id = %s and footprint is null and nadir is null"


class Placed(NamedTuple):
    """An image that has a place: the centre of its footprint, or its nadir, as a unit vector."""

    id: int
    name: str
    uri: str | None
    root: str | None
    x: float
    y: float
    z: float


def archive_bank(
    conn: psycopg.Connection[Any],
    name: str,
    encoder: str,
    archive: str,
    keys: Space | Encoder,
    values: Space | Encoder,
    fraction: float = 1.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Bank:
    """Return a bank of the images of an archive, each at its own place; those without a place are left out.

    keys, values: a space, whose vectors are taken as they are, or a model, which sees the files. Where a space is
    named only its images count. encoder, fraction, seed: as in `build.build`. Raises InputError that names the image.
    """
    place_encoder(encoder, _dimension(keys))
    for model in (keys, values):
        if not isinstance(model, Space) and "image" not in model.info.reads:
            raise ModelError(f"{model.info.name} does not read images; a bank's keys and values are of images")
    archive_id = get_archive_id(conn, archive)
    images = _images(conn, archive_id, [s for s in (keys, values) if isinstance(s, Space)])
    if not images:
        raise InputError(
            f"archive {archive} has no image with a place{_in_spaces(keys, values)}; there is no bank of it"
        )
    lat, lon = lat_lon(np.array([(i.x, i.y, i.z) for i in images]))
    count = sample_size(len(images), fraction)
    rows = systematic(lat, lon, count, seed)
    some = [images[row] for row in rows]
    models = {id(model): model for model in (keys, values) if not isinstance(model, Space)}
    encoded = dict(zip(models, encode_files(some, list(models.values()), progress), strict=True))
    of_keys, of_values = (
        _vectors(conn, source, some) if isinstance(source, Space) else encoded[id(source)] for source in (keys, values)
    )
    without = conn.execute(_WITHOUT, [archive_id]).fetchone()
    assert without is not None
    return Bank.of(
        name,
        encoder,
        lat[rows],
        lon[rows],
        of_keys,
        of_values,
        np.array([image.id for image in some]),
        labels=[f"image {image.name} of archive {archive}" for image in some],
        key_model=_model_name(keys),
        value_model=_model_name(values),
        source=f"archive:{archive}",
        properties={
            **(sampled(fraction, seed, len(images)) if count < len(images) else {}),
            "without_place": int(without[0]),
        },
    )


def encode_files(
    images: Sequence[Placed], models: Sequence[Encoder], progress: Progress | None = None
) -> list[NDArray[np.float32]]:
    """Return, for each model, the vectors (n, d) of images' files; each file is read and decoded once.

    Raises InputError with the name of the first image that cannot be read: a bank has no holes.
    """
    made: list[list[NDArray[np.float32]]] = [[] for _ in models]
    batch, threads = settings().batch_size, decode_threads()
    with ThreadPoolExecutor(threads, "decode") as pool:
        ahead: list[Future[list[Any]]] = []
        try:
            for start in range(0, len(images) if models else 0, batch):
                due = images[start + len(ahead) : start + 2 * batch]
                ahead += [pool.submit(_prepare, image, models) for image in due]
                now, ahead = ahead[:batch], ahead[batch:]
                ready = [future.result() for future in now]
                for vectors, model, prepared in zip(made, models, zip(*ready, strict=True), strict=True):
                    vectors.append(model.encode_prepared(prepared))
                if progress:
                    progress(min(start + batch, len(images)), len(images))
        finally:
            for future in ahead:
                future.cancel()
    return [np.concatenate(vectors) for vectors in made]


def _prepare(image: Placed, models: Sequence[Encoder]) -> list[Any]:
    from geosearch.encoders.pictures import open_image

    try:
        path = files.locate(image.uri, image.root)
        picture = open_image(files.read(path).source, name=str(path))
        return [model.prepare(Item(image=picture)) for model in models]
    except GeosearchError as error:
        raise InputError(f"image {image.name}: {error}") from error


def _images(conn: psycopg.Connection[Any], archive_id: int, spaces: Sequence[Space]) -> list[Placed]:
    among = sql.SQL(" ").join(_AMONG.format(space.table) for space in spaces)
    cursor = conn.cursor(row_factory=class_row(Placed))
    return cursor.execute(_PLACED.format(among=among), {"archive": archive_id}).fetchall()


def _vectors(conn: psycopg.Connection[Any], space: Space, images: Sequence[Placed]) -> NDArray[np.float32]:
    """Return the vectors (n, d) of images in a space. Raises InputError for one that has lost its vector."""
    select = sql.SQL("select image_id, version, embedding from {} where image_id = any(%(ids)s) order by image_id")
    found: dict[int, NDArray[np.float16]] = {}
    arguments = {"ids": [image.id for image in images]}
    for ids, _, vectors in vector_rows(conn, select.format(space.table), space.dimension, arguments):
        found.update(zip(ids.tolist(), vectors, strict=True))
    gone = next((image for image in images if image.id not in found), None)
    if gone is not None:
        raise InputError(f"image {gone.name} has no vector in space {space.name} any more; try again")
    return np.array([found[image.id] for image in images], np.float32)


def _dimension(source: Space | Encoder) -> int:
    return source.dimension if isinstance(source, Space) else source.info.dimension


def _model_name(source: Space | Encoder) -> str | None:
    return source.model if isinstance(source, Space) else source.info.name


def _in_spaces(*sources: Space | Encoder) -> str:
    names = [source.name for source in sources if isinstance(source, Space)]
    return f" and a vector in space {' and '.join(names)}" if names else ""
