"""The geographic prior measured: simulated photographs of Blue Marble, to be told by surface and continent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geosearch.bluemarble import atmosphere, camera, raster
from geosearch.bluemarble.tiles import TILE_M
from geosearch.errors import InputError
from geosearch.evaluation.prior import class_probabilities, product, top_1
from geosearch.evaluation.ways import Way
from geosearch.geometry import Floats
from geosearch.item import Item
from geosearch.training import ground
from geosearch.training.ground import CONTINENTS, SURFACES
from geosearch.training.split import split
from geosearch.training.views import land_places, nadirs

PIXELS = 112
BLOCK = 256
LEAST = 25  # training photographs that a class must have
SPREAD_M, WIDTH_M = 400_000.0, (200_000.0, 420_000.0)

# A view may be several things at once; the first that holds is its surface.
ORDER = ("snow", "desert", "tropical", "boreal", "forest", "green", "island", "coast", "lake", "mountains")


@dataclass(frozen=True)
class Photographs:
    """pictures (n, s, s, 3) uint8; lat, lon (n,) of what they aim at; label (n,), e.g. "desert africa"."""

    pictures: NDArray[np.uint8]
    lat: Floats
    lon: Floats
    label: NDArray[np.str_]

    @classmethod
    def joined(cls, parts: Sequence[Photographs]) -> Photographs:
        """Return all photographs of several sets, in order."""
        return cls(
            np.concatenate([p.pictures for p in parts]),
            np.concatenate([p.lat for p in parts]),
            np.concatenate([p.lon for p in parts]),
            np.concatenate([p.label for p in parts]),
        )

    def only(self, rows: NDArray[Any] | slice) -> Photographs:
        """Return some of the photographs."""
        return Photographs(self.pictures[rows], self.lat[rows], self.lon[rows], self.label[rows])

    def __len__(self) -> int:
        return len(self.lat)


def photographs(count: int, held_out: bool, seed: int) -> Photographs:
    """Return labelled photographs whose targets lie in the held-out caps of the project's split, or outside all."""
    rng, earth = np.random.default_rng(seed), raster.load()
    blocks: list[Photographs] = []
    while sum(map(len, blocks)) < count:
        lat, lon = land_places((12 if held_out else 2) * BLOCK, rng, 60_000.0)
        inside = split().region(lat, lon) >= 0 if held_out else split().trainable(lat, lon)
        lat, lon = lat[inside][:BLOCK], lon[inside][:BLOCK]
        eye_lat, eye_lon = nadirs(lat, lon, rng, SPREAD_M)
        width = np.exp(rng.uniform(np.log(WIDTH_M[0]), np.log(WIDTH_M[1]), len(lat)))
        patch = camera.photo_view(eye_lat, eye_lon, lat, lon, width, PIXELS, rng.uniform(0, 360, len(lat)))
        tile = camera.tile_view(lat, lon, TILE_M, 64)
        label = labels(ground.describe(earth.sample(*tile), tile))
        good = ~np.isnan(patch.lat).any((1, 2)) & (np.abs(eye_lat) <= 60) & (label != "")
        pictures = atmosphere.apply(earth.sample(patch.lat[good], patch.lon[good]), rng, atmosphere.HELD_OUT)
        blocks.append(Photographs(pictures, lat[good], lon[good], label[good]))
    return Photographs.joined(blocks).only(slice(count))


def labels(flags: NDArray[np.bool_]) -> NDArray[np.str_]:
    """Return the label (n,) of flags (n, attributes) of `ground.describe`; empty where no continent is told."""
    surface = flags[:, [SURFACES.index(name) for name in ORDER]]
    land = flags[:, len(SURFACES) :]
    first = np.where(surface.any(1), surface.argmax(1), len(ORDER))
    names = np.array([*ORDER, "other"])[first]
    label = np.char.add(np.char.add(names, " "), np.array(CONTINENTS)[land.argmax(1)])
    return np.where(land.any(1), label, "")


def measure(encoder: Any, ways: Sequence[Way], train: int = 6000, test: int = 2000, seed: int = 3) -> dict[str, Any]:
    """Return top-1 accuracies in percent: the image alone, each way's place alone, and their product.

    encoder: what reads the pictures (its vectors get a probe). Fitted on photographs outside the held-out caps; judged
    by others from there ("seen ground": near what was fitted) and by photographs of the caps ("held-out ground", at
    least a guard ring away from all that was fitted). Classes with too few training photographs are left out, counted.
    """
    sides = [photographs(train, False, seed), photographs(test, False, seed + 1), photographs(test, True, seed + 2)]
    names, counts = np.unique(sides[0].label, return_counts=True)
    names = names[counts >= LEAST]
    if len(names) < 2:
        raise InputError(f"{train} photographs have fewer than two classes with {LEAST} each; make more photographs")
    kept = [side.only(np.isin(side.label, names)) for side in sides]
    every = Photographs.joined(kept)
    label = np.searchsorted(names, every.label)
    ends = np.cumsum([len(side) for side in kept])
    rows = [np.arange(end - len(side), end) for side, end in zip(kept, ends, strict=True)]
    image = class_probabilities(_features(encoder, every.pictures), label, len(names), rows[0])
    table: list[dict[str, Any]] = []
    for way in ways:
        place = class_probabilities(way.encode(every.lat, every.lon), label, len(names), rows[0])
        both = product(image, place)
        for side, part in zip(("seen", "held out"), rows[1:], strict=True):
            figures = {"image alone": image, "place alone": place, "image × place": both}
            table.append(
                {"place by": way.name, "ground": side}
                | {name: round(100 * top_1(p[part], label[part]), 1) for name, p in figures.items()}
            )
    frequent = int(np.bincount(label[rows[0]]).argmax())
    return {
        "classes": names.tolist(),
        "photographs": [len(r) for r in rows],
        "left out (rare class)": [len(side) - len(part) for side, part in zip(sides, kept, strict=True)],
        "most frequent class": {
            side: round(100 * float((label[part] == frequent).mean()), 1)
            for side, part in zip(("seen", "held out"), rows[1:], strict=True)
        },
        "rows": table,
    }


def _features(encoder: Any, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.concatenate(
        [
            encoder.encode([Item(image=Image.fromarray(p)) for p in pictures[s : s + BLOCK]])
            for s in range(0, len(pictures), BLOCK)
        ]
    )
