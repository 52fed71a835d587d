"""The demo's baseline: colour histograms, which know no shapes, in a space of vectors made elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from PIL import Image

from geosearch.database.spaces import create_space, list_spaces
from geosearch.demo.archive import write_whole
from geosearch.embedding.imports import import_vectors
from geosearch.errors import InputError
from geosearch.evaluation.histogram import DIMENSION, colour_histogram

SPACE = "demo_colours"
PIXELS = 64


def fill(conn: psycopg.Connection[Any], url: str | None, archive: str, folder: Path, names: Sequence[str]) -> None:
    """Fill the space with the histograms of an archive's images, unless it is; names: files of the folder, and images.

    The histograms are kept beside the pictures and imported as anyone's vectors are. A name is that of an image, with
    or without ".jpg".
    """
    space = next((found for found in list_spaces(conn) if found.name == SPACE), None)
    if space is not None and (space.model is not None or space.dimension != DIMENSION):
        raise InputError(f"space {SPACE} was not made by the demo; drop it: geosearch space drop {SPACE}")
    if space is None:
        create_space(conn, SPACE, DIMENSION)
    file = folder / "colours.npz"
    if not file.exists():
        vectors = histograms([folder / f"{name.removesuffix('.jpg')}.jpg" for name in names])
        write_whole(file, lambda path: _save(path, names, vectors))
    missing = conn.execute(
        "select count(*) from geosearch.image i join geosearch.archive a on a.id = i.archive_id and a.name = %s"
        " where not exists (select from geosearch.space_demo_colours s where s.image_id = i.id)",
        [archive],
    ).fetchone()
    if missing is not None and missing[0]:
        counts = import_vectors(url, SPACE, file, archive)
        if counts.rejected:
            raise InputError(f"{counts.rejected} histograms of {file} do not fit archive {archive}; delete that file")


def histograms(files: Sequence[Path]) -> NDArray[np.float32]:
    """Return the colour histograms (n, 512) of pictures, each made small first."""
    vectors = np.empty((len(files), DIMENSION), np.float32)
    for i, file in enumerate(files):
        with Image.open(file) as picture:
            small = picture.convert("RGB").resize((PIXELS, PIXELS), Image.Resampling.BOX)
        vectors[i] = colour_histogram(np.asarray(small)[None])[0]
    return vectors


def _save(path: Path, names: Sequence[str], vectors: NDArray[np.float32]) -> None:
    with path.open("wb") as file:  # np.savez given a name would append .npz to it
        np.savez(file, names=np.array(names), vectors=vectors)
