"""Measure an image–text encoder on Blue Marble: photographs → overlapping tiles, and words → tiles."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geosearch.bluemarble import atmosphere, camera, raster
from geosearch.bluemarble.raster import LAKE, OCEAN
from geosearch.bluemarble.tiles import TILE_M, land_tiles
from geosearch.evaluation.histogram import colour_histogram
from geosearch.evaluation.recall import chance, first_hits, recall
from geosearch.geometry import EARTH_RADIUS_M, Floats, angle, local_axes, unit_vectors
from geosearch.item import Item
from geosearch.training.split import split
from geosearch.training.views import land_places, nadirs

PIXELS = 112  # pictures are rendered larger than the encoder looks, as real ones are
BLOCK = 256


class Encodes(Protocol):
    """The part of an encoder that is needed here."""

    def encode(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """Return unit vectors (n, d)."""
        ...


@dataclass(frozen=True)
class Setting:
    """How the photographs of one measurement are made."""

    name: str
    weather: atmosphere.Weather
    spread_m: float  # of the nadirs round what is seen
    width_m: tuple[float, float]


SETTINGS = (
    Setting("held-out weather", atmosphere.HELD_OUT, 400_000.0, (200_000.0, 420_000.0)),
    Setting(
        "second renderer: far, clear, another lens",
        atmosphere.Weather(0.55, 0.0, 0.1, 0.05, 0.1, 2.0),
        650_000.0,
        (140_000.0, 300_000.0),
    ),
)


@dataclass(frozen=True)
class Photos:
    """Photographs and what they show: pictures (n, s, s, 3) uint8, and the overlapping tiles' indices of each."""

    pictures: NDArray[np.uint8]
    relevant: list[NDArray[np.int64]]


def photographs(n: int, held_out: bool, setting: Setting, tiles: tuple[Floats, Floats], seed: int) -> Photos:
    """Return n simulated photographs, all of ground, whose centres lie in the held-out caps or all outside them."""
    rng, earth = np.random.default_rng(seed), raster.load()
    blocks: list[NDArray[np.uint8]] = []
    relevant: list[NDArray[np.int64]] = []
    while len(relevant) < n:
        lat, lon = land_places(6 * BLOCK, rng, 60_000.0)
        inside = split().region(lat, lon) >= 0 if held_out else split().trainable(lat, lon)
        lat, lon = lat[inside][:BLOCK], lon[inside][:BLOCK]
        eye_lat, eye_lon = nadirs(lat, lon, rng, setting.spread_m)
        width = np.exp(rng.uniform(np.log(setting.width_m[0]), np.log(setting.width_m[1]), len(lat)))
        patch = camera.photo_view(eye_lat, eye_lon, lat, lon, width, PIXELS, rng.uniform(0, 360, len(lat)))
        # What no footprint could be drawn for is left out: views of the horizon, and nadirs beyond the orbit's reach.
        good = ~np.isnan(patch.lat).any((1, 2)) & (np.abs(eye_lat) <= 60)
        pictures = atmosphere.apply(earth.sample(patch.lat[good], patch.lon[good]), rng, setting.weather)
        ground = unit_vectors(patch.lat[good][:, ::5, ::5], patch.lon[good][:, ::5, ::5]).reshape(len(pictures), -1, 3)
        blocks.append(pictures)
        relevant += overlapping(ground, tiles)
    return Photos(np.concatenate(blocks)[:n], relevant[:n])


def overlapping(ground: Floats, tiles: tuple[Floats, Floats], width_m: float = TILE_M) -> list[NDArray[np.int64]]:
    """Return, for each view's ground points (n, p, 3), the indices of the tiles in which at least one of them lies."""
    centres, east, north = local_axes(*tiles)
    half = np.tan(width_m / 2 / EARTH_RADIUS_M)
    found = []
    for points in ground:
        reach = angle(points, points.mean(0)).max() + 0.05
        near = np.flatnonzero(angle(centres, points.mean(0)) < reach)
        depth = points @ centres[near].T
        inside = (np.abs(points @ east[near].T) <= half * depth) & (np.abs(points @ north[near].T) <= half * depth)
        found.append(near[inside.any(0)])
    return found


def tile_pictures(tiles: tuple[Floats, Floats]) -> NDArray[np.uint8]:
    """Return the clear pictures (n, s, s, 3) of tiles."""
    earth, blocks = raster.load(), []
    for start in range(0, len(tiles[0]), BLOCK):
        patch = camera.tile_view(tiles[0][start : start + BLOCK], tiles[1][start : start + BLOCK], TILE_M, PIXELS)
        blocks.append(np.clip(np.rint(earth.sample(*patch)), 0, 255).astype(np.uint8))
    return np.concatenate(blocks)


def encode(encoder: Encodes, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the vectors (n, d) of pictures, in blocks."""
    blocks = [
        encoder.encode([Item(image=Image.fromarray(p)) for p in pictures[s : s + BLOCK]])
        for s in range(0, len(pictures), BLOCK)
    ]
    return np.concatenate(blocks)


def image_recall(
    queries: NDArray[np.float32], database: NDArray[np.float32], relevant: Sequence[NDArray[np.int64]]
) -> dict[str, float]:
    """Return Recall@1, 5, 10 and 100 in percent over the whole database."""
    rankings = [np.argsort(-(database @ q), kind="stable")[:100].tolist() for q in queries]
    found = recall(first_hits(rankings, [frozenset(r.tolist()) for r in relevant]))
    return {f"R@{k}": round(100 * v, 1) for k, v in found.at.items()}


def prompt_truth(tiles: tuple[Floats, Floats]) -> list[tuple[str, NDArray[np.bool_], bool]]:
    """Return each prompt, which tiles are right for it, and whether it names a place, from ``prompts.json``."""
    facts = json.loads((files("geosearch.training") / "prompts.json").read_text("utf-8"))
    lat, lon = tiles
    patch = camera.tile_view(lat, lon, TILE_M, 40)
    surface = raster.load().surface(patch.lat, patch.lon)
    rim = np.concatenate([surface[:, 0], surface[:, -1], surface[:, :, 0], surface[:, :, -1]], axis=1)
    shares = {
        "ocean": (surface == OCEAN).mean((1, 2)),
        "lake": (surface == LAKE).mean((1, 2)),
        "rim_ocean": (rim == OCEAN).mean(1),
    }
    truth = []
    for prompt in facts["prompts"]:
        right = np.zeros(len(lat), bool)
        for south, west, north, east in prompt.get("boxes", []):
            right |= (lat >= south) & (lat <= north) & (lon >= west) & (lon <= east)
        if "mask" in prompt:
            right = np.all(
                [(shares[k] >= low) & (shares[k] <= high) for k, (low, high) in prompt["mask"].items()], axis=0
            )
        truth.append((prompt["text"], right, bool(prompt.get("names_a_place"))))
    return truth


def measure(encoder: Encodes, queries: int = 1000, count: int = 6000, seed: int = 1) -> dict[str, Any]:
    """Return every figure of a model's card: Recall@k against chance and the histogram, precision@10 of each prompt."""
    tiles = land_tiles(count, -84.0, 84.0)
    pictures = tile_pictures(tiles)
    database, histogram = encode(encoder, pictures), colour_histogram(pictures)
    report: dict[str, Any] = {"tiles": len(pictures), "tile_km": TILE_M / 1000, "queries": queries, "images": []}
    for setting in SETTINGS:
        for held_out in (True, False):
            photos = photographs(queries, held_out, setting, tiles, seed + held_out)
            counts = [len(r) for r in photos.relevant]
            report["images"].append(
                {
                    "setting": setting.name,
                    "ground": "held out" if held_out else "seen",
                    "relevant_per_query": round(float(np.mean(counts)), 1),
                    "model": image_recall(encode(encoder, photos.pictures), database, photos.relevant),
                    "colour histogram": image_recall(colour_histogram(photos.pictures), histogram, photos.relevant),
                    "chance": {
                        f"R@{k}": round(100 * v, 1)
                        for k, v in chance(counts, np.full(len(counts), len(pictures))).at.items()
                    },
                }
            )
    report["texts"] = _texts(encoder, database, tiles)
    report["settings"] = {s.name: {**asdict(s), "width_m": list(s.width_m)} for s in SETTINGS}
    return report


def _texts(encoder: Encodes, database: NDArray[np.float32], tiles: tuple[Floats, Floats]) -> dict[str, Any]:
    held_out = split().region(*tiles) >= 0
    rows = []
    for text, right, names_a_place in prompt_truth(tiles):
        scores = database @ encoder.encode([Item(text=text)])[0]
        row: dict[str, Any] = {"text": text, "right": int(right.sum())}
        row["P@10"] = float(right[np.argsort(-scores)[:10]].mean())
        row["chance"] = round(float(right.mean()), 3)
        if not names_a_place and right[held_out].sum() >= 10:
            among = np.flatnonzero(held_out)
            row["P@10 held out"] = float(right[among[np.argsort(-scores[among])[:10]]].mean())
            row["chance held out"] = round(float(right[held_out].mean()), 3)
        rows.append(row)
    return {
        "prompts": rows,
        "P@10": round(float(np.mean([r["P@10"] for r in rows])), 3),
        "chance": round(float(np.mean([r["chance"] for r in rows])), 3),
    }
