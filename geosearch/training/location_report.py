"""Measure a location encoder on Blue Marble: places ↔ their tiles, on held-out ground and on seen ground."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geosearch.bluemarble.tiles import TILE_M, land_tiles
from geosearch.encoders.base import Encoder
from geosearch.encoders.places import PlaceEncoder
from geosearch.encoders.registry import load
from geosearch.errors import InputError, ModelError
from geosearch.geometry import Floats, distance_m, unit_vectors
from geosearch.training.report import Encodes, encode, tile_pictures
from geosearch.training.split import split

RANKS = (1, 5, 10, 100)
WAYS = ("place → image", "image → place")
SEEN_TILES = 10_000  # how many tiles of the ground that may be trained on the baseline remembers
_SOFT = 15.0  # the temperature of RANGE's softmax (arXiv 2502.19781)


class EncodesPlaces(Protocol):
    """The part of a location encoder that is needed here."""

    def encode_places(self, lat: ArrayLike, lon: ArrayLike) -> NDArray[np.float64]:
        """Return unit vectors (n, d) of n places in degrees."""
        ...


def report_on(name: str, images: str | None, count: int, seen: int) -> dict[str, Any]:
    """Return every figure of a location encoder's card, and which weights they are of. See `load_pair`, `measure`."""
    places, pictures = load_pair(name, images)
    facts = {"model": name, "weights_sha256": places.info.weights_sha256, "images": pictures.info.name}
    return {**facts, **measure(places, pictures, count, seen)}


def load_pair(name: str, images: str | None = None) -> tuple[PlaceEncoder, Encoder]:
    """Return a location encoder and the image model it answers with: by default the one it says it was trained against.

    Raises ModelError where it is no location encoder, says nothing, or was trained against other weights.
    """
    places = load(name)
    if not isinstance(places, PlaceEncoder):
        raise ModelError(f"{name} reads no places; name a location encoder, as mini-location (`geosearch model list`)")
    aligned = places.info.preprocessing.get("aligned_with") or {}
    if images is None and "model" not in aligned:
        raise ModelError(f"{name} does not say which image model it answers with; name one of its space (--images)")
    stated = None if images else str(aligned["weights_sha256"])
    pictures = load(images or str(aligned["model"]), weights_sha256=stated)
    if pictures.info.dimension != places.info.dimension:
        raise ModelError(
            f"{name} gives {places.info.dimension} numbers, {pictures.info.name} {pictures.info.dimension}; "
            "name the image model that it was trained against (--images)"
        )
    return places, pictures


def measure(model: EncodesPlaces, images: Encodes, count: int = 6000, seen: int = SEEN_TILES) -> dict[str, Any]:
    """Return every figure of a location encoder's card.

    images: the image model whose vectors the places were trained against. count: about how many tiles (300 km wide, on
    a lattice, none of them among the training's places). Recall is among all of them: the one right answer is the tile
    at the place. A tile overlaps a dozen others of 6 000, so beside it stands the great-circle error of the first.

    Beside the model stand chance and the nearest seen tile: its vector as the query. That asks for as many vectors as
    tiles, and on held-out ground it is 450 km away at least.
    """
    if seen == count:
        raise InputError(f"{seen} tiles to remember would be the {count} that are searched; give another number of one")
    lat, lon = land_tiles(count, -84.0, 84.0)
    known = _known(seen)
    database = encode(images, tile_pictures((lat, lon))).astype(np.float64)
    memory = encode(images, tile_pictures(known)).astype(np.float64)
    nearest = _nearest((lat, lon), known)
    region = split().region(lat, lon)
    grounds = {"held out": region >= 0, "seen": split().trainable(lat, lon)}
    queries = {"model": model.encode_places(lat, lon), "nearest seen tile": memory[nearest]}
    report: dict[str, Any] = {"tiles": len(lat), "tile_km": TILE_M / 1000, "seen_tiles": len(known[0]), "rows": []}
    for ground, mask in grounds.items():
        for by, vectors in queries.items():
            row = {"ground": ground, "places": int(mask.sum()), "by": by, **_figures(vectors, database, lat, lon, mask)}
            report["rows"].append(row)
        report["rows"].append(_chance(ground, mask, lat, lon, database))
    report["caps"] = [
        {"cap": name, "places": int(mask.sum()), **_figures(queries["model"], database, lat, lon, mask)}
        for name, mask in ((n, region == i) for i, n in enumerate(split().names))
    ]
    return report


def _known(count: int) -> tuple[Floats, Floats]:
    """Return the centres of about ``count`` tiles outside the held-out ground, off the lattice that is searched."""
    lat, lon = land_tiles(count, -84.0, 84.0)
    keep = split().trainable(lat, lon)
    return lat[keep], lon[keep]


def _nearest(places: tuple[Floats, Floats], known: tuple[Floats, Floats]) -> NDArray[np.int64]:
    """Return, for each place, the index of the nearest known tile."""
    there = unit_vectors(*known)
    return np.array([(there @ here).argmax() for here in unit_vectors(*places)], np.int64)


def _figures(
    queries: NDArray[np.float64], database: NDArray[np.float64], lat: Floats, lon: Floats, mask: NDArray[np.bool_]
) -> dict[str, Any]:
    """Return recall in percent both ways, the median error in km both ways, and what RANGE's softmax makes of it.

    place → image ranks all tiles for a place, image → place all places for a tile; only rows of ``mask`` are asked.
    soft cosine: of the tile's vector and the mean of all vectors weighted by softmax(15 · cosines).
    """
    rows = np.flatnonzero(mask)
    figures: dict[str, Any] = {}
    for way, scores in zip(WAYS, (queries[rows] @ database.T, database[rows] @ queries.T), strict=True):
        own = scores[np.arange(len(rows)), rows]
        # Of equals half come first: two tiles of bare ice can be the same picture.
        rank = (scores > own[:, None]).sum(1) + ((scores == own[:, None]).sum(1) - 1) / 2
        best = scores.argmax(1)
        figures[way] = {
            **{f"R@{k}": round(float(100 * (rank < k).mean()), 1) for k in RANKS},
            "median km": round(float(np.median(distance_m(lat[rows], lon[rows], lat[best], lon[best])) / 1000)),
        }
    weights = np.exp(_SOFT * (queries[rows] @ database.T))
    soft = weights @ database
    soft /= np.linalg.norm(soft, axis=1, keepdims=True)
    figures["cosine"] = round(float((queries[rows] * database[rows]).sum(1).mean()), 3)
    figures["soft cosine"] = round(float((soft * database[rows]).sum(1).mean()), 3)
    return figures


def _chance(
    ground: str, mask: NDArray[np.bool_], lat: Floats, lon: Floats, database: NDArray[np.float64]
) -> dict[str, Any]:
    """Return what a random order of the tiles gives: its recall is exact, its error that of a tile drawn at random.

    Its soft cosine is that of the plain mean of all vectors, the same for every place: what knowing nothing gives.
    """
    rows, rng = np.flatnonzero(mask), np.random.default_rng(0)
    drawn = rng.integers(0, len(lat), len(rows))
    error = round(float(np.median(distance_m(lat[rows], lon[rows], lat[drawn], lon[drawn])) / 1000))
    way = {**{f"R@{k}": round(100 * min(k / len(lat), 1.0), 1) for k in RANKS}, "median km": error}
    mean = database.mean(0) / np.linalg.norm(database.mean(0))
    soft = round(float((database[rows] @ mean).mean()), 3)
    return {"ground": ground, "places": len(rows), "by": "chance", **dict.fromkeys(WAYS, way), "soft cosine": soft}


def tables(report: dict[str, Any]) -> str:
    """Return the card's tables of a report, in Markdown."""
    head = " | ".join([*(f"R@{k}" for k in RANKS), "median km"])
    lines = [f"| ground | by | places | place → image: {head} | image → place: {head} | soft cosine |"]
    lines.append("|" + "---|" * (lines[0].count("|") - 1))
    for row in report["rows"]:
        bold = "**" if row["by"] == "model" else ""
        ways = [" | ".join(f"{bold}{v}{bold}" for v in row[way].values()) for way in WAYS]
        ways.append(f"{row['soft cosine']:.3f}")
        lines.append(f"| {row['ground']} | {bold}{row['by']}{bold} | {row['places']} | {' | '.join(ways)} |")
    return "\n".join(lines)
