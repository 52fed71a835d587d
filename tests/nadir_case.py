"""Tiles and photographs made by hand, and a model whose answers can be counted on paper."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from PIL import Image

from geosearch.catalog.footprints import box
from geosearch.catalog.problems import IMPOSSIBLE_NADIR
from geosearch.database.archives import ensure_archive
from geosearch.encoders.base import ModelInfo
from geosearch.evaluation import nadir_run
from geosearch.evaluation.nadir_vectors import FromModel
from geosearch.geometry import PHOTO_REACH_M, unit_vectors
from geosearch.item import Item


class Compass:
    """A model by hand. Image part: (cos, sin) of the top left pixel's red, half degrees. Nadir: the place's direction.

    The null vector is at right angles to every place. scale 1: the cosine of both is the mean of the two cosines.
    """

    scale = 1.0

    def __init__(self, nadirs: bool = True) -> None:
        reads = frozenset({"image", "place"} if nadirs else {"image"})
        self.info = ModelInfo("compass", "test", "1", "c" * 64, 6 if nadirs else 2, "cosine", reads, {"by": "hand"})
        self.encoded = 0

    def prepare(self, item: Item) -> float:
        assert isinstance(item.image, Image.Image)
        return float(item.image.getpixel((0, 0))[0]) / 2

    def image_vectors(self, prepared: list[float]) -> np.ndarray:
        self.encoded += len(prepared)
        at = np.radians(prepared)
        return np.stack([np.cos(at), np.sin(at)], axis=1).astype(np.float32)

    def nadir_vectors(self, lat: Any, lon: Any) -> np.ndarray:
        known = unit_vectors(lat, lon)
        lost = np.isnan(known).any(1)
        return np.column_stack([np.where(lost[:, None], 0, known), lost]).astype(np.float32)

    def encode_prepared(self, prepared: list[float]) -> np.ndarray:
        return self.image_vectors(prepared)


class Nearer:
    """A prior that knows only nearer and farther."""

    def score(self, cosine: np.ndarray, distance_m: np.ndarray) -> np.ndarray:
        return cosine - np.nan_to_num(distance_m) / 1e6


@dataclass
class Case:
    """Archives "tiles" and "photos", the folder of their pictures, and a model."""

    conn: psycopg.Connection[Any]
    folder: Path
    encoder: Compass

    def add(self, archive: str, name: str, degrees: Any, footprint: Any = None, nadir: Any = None, **also: Any) -> None:
        """Catalogue a picture; degrees: of its corners as read from left to right and down, or one for all."""
        if degrees is not None:
            corners = np.broadcast_to(np.asarray(degrees) * 2, 4).reshape(2, 2, 1)
            pixels = np.concatenate([corners, np.zeros((2, 2, 2), int)], axis=2).astype(np.uint8)
            Image.fromarray(pixels).save(self.folder / f"{archive}-{name}.png")
        point = None if nadir is None else f"POINT({nadir[1]} {nadir[0]})"
        self.conn.execute(
            "insert into geosearch.image (archive_id, name, uri, nadir, footprint, reach_m, problems)"
            " values (%s, %s, %s, %s::geography, %s::geography, %s, %s)",
            [ensure_archive(self.conn, archive), name, str(self.folder / f"{archive}-{name}.png"), point,
             None if footprint is None else footprint.wkt, 0 if footprint else PHOTO_REACH_M, also.get("problems", [])],
        )  # fmt: skip

    def source(self) -> FromModel:
        return FromModel(self.encoder, self.folder / "cache")

    def measured(self, *ways: str, **how: Any) -> Any:
        return nadir_run.by_vectors(self.conn, "photos", ["tiles"], how.pop("source", self.source()), ways, **how)

    def ranks(self, *ways: str, **how: Any) -> dict[str, dict[str, float]]:
        measured = self.measured(*ways, **how)
        ranks = {
            way: np.where(np.isnan(of), 0, of).tolist() for way, of in measured.ranks.items()
        }  # 0: nothing is right
        return {way: dict(zip(measured.photos.names, of, strict=True)) for way, of in ranks.items()}


def around(lat: float, lon: float, half: float = 1.0) -> Any:
    return box(lon - half, lat - half, (lon + half + 180) % 360 - 180, lat + half)


def write_case(conn: psycopg.Connection[Any], folder: Path) -> Case:
    """Five tiles, one of them over ±180, and photographs of which some cannot be asked or judged."""
    made = Case(conn, folder, Compass())
    made.add("tiles", "A", 0, around(0, 0))
    made.add("tiles", "B", 10, around(0, 10))
    made.add("tiles", "C", 20, around(0, 60))
    made.add("tiles", "D", 50, around(0, 179.5))
    made.add("tiles", "E", 43, around(10, 0))
    # Of A, looks like C: by cosine C 1, B cos 10, A cos 20, E cos 23.
    made.add("photos", "at A", 20, around(0, 0, 0.5), (0, 5))
    made.add("photos", "over 180", 50, box(-179.9, -0.5, -179.0, 0.5), (0, -179))
    made.add("photos", "beside A", 0, box(1, -1, 2, 1), (0, 0))
    made.add("photos", "nowhere", 0, None, (0, 0))
    made.add("photos", "flagged", 43, around(10, 0, 0.5), (0, 150), problems=[IMPOSSIBLE_NADIR])
    made.add("photos", "gone", None, around(0, 0), (0, 0))
    return made
