"""What a view of Blue Marble shows, told from colours and a land mask alone: a surface and a context, or nothing.

No model has a say, and where the two thirds of a surface or a clear context are missing a view has no label. All
thresholds are in this file; they were chosen by looking at known places, before any model was measured by them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from geosearch.bluemarble.raster import LAKE, LAND, OCEAN
from geosearch.geometry import Floats

SURFACES = ("desert", "forest", "grassland", "snow")
CONTEXTS = ("coast", "inland", "island", "lake")
NONE = -1

PURE = 2 / 3  # of a view's land that a surface must cover
LEAST_LAND = 0.05  # of a view; on less there is no surface to tell

Labels = NDArray[np.int64]


class Context(NamedTuple):
    """Shares (n,) of views that are ocean and lake, and share of their outermost pixels that is land."""

    ocean: Floats
    lake: Floats
    rim_land: Floats


def surface(pixels: NDArray[np.floating], mask: NDArray[np.uint8]) -> Labels:
    """Return the index (n,) in SURFACES of clear views, NONE where nothing covers two thirds of the land.

    pixels: (n, s, s, 3) in 0 … 255. mask: (n, s, s), OCEAN, LAND or LAKE; only pixels of land are looked at, and of
    these not the bluish dark ones, which are shores.
    """
    kinds, shore = pixel_kinds(pixels)
    ground = (mask == LAND) & ~shore
    land = ground.mean((1, 2))
    shares = np.stack([(kind & ground).mean((1, 2)) for kind in kinds]) / np.maximum(land, 1e-9)
    return np.where((shares.max(0) >= PURE) & (land >= LEAST_LAND), shares.argmax(0), NONE)


def pixel_kinds(pixels: NDArray[np.floating]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which pixels (…) show each of SURFACES, (4, …), and which show water, of pixels (…, 3) in 0 … 255.

    desert: bright and warm, or as red as Australia's. forest: dark green. grassland: green to yellowish green of middle
    brightness (steppe in summer, savanna, fields: at 7 km a pixel they look alike). snow: bright without colour.
    Gaps between them are left on purpose: semi-desert, shrubs, tundra, thin woods and mountains under some snow.
    """
    r, g, b = np.moveaxis(np.asarray(pixels, np.float32), -1, 0)
    high, low, light = np.maximum(np.maximum(r, g), b), np.minimum(np.minimum(r, g), b), (r + g + b) / 3
    snow = (low >= 150) & (high - low <= 0.12 * high)
    desert = ~snow & (((r >= 120) & (r - b >= 35) & (r - g >= 12)) | ((r >= 80) & (r - g >= 30)))
    forest = (light <= 34) & (g >= r + 4) & (g >= b + 6)
    grassland = (light >= 42) & (light <= 78) & (g >= r - 10) & (g >= b + 15)
    return np.stack([desert, forest, grassland, snow]), (b >= g) & (light < 100)


def context(mask: NDArray[np.uint8]) -> Labels:
    """Return the index (n,) in CONTEXTS of views' masks (n, s, s), NONE where it is none of them clearly.

    coast: sea and land, the land going on beyond the picture. island: sea all round, but for a neighbour's tip.
    lake: at least 6 % of the view is lake and none is sea. inland: neither sea nor lake.
    """
    ocean, lake, rim_land = context_shares(mask)
    land = 1 - ocean - lake
    dry = ocean <= 0.002
    found = [
        (ocean >= 0.15) & (ocean <= 0.85) & (rim_land >= 0.2) & (lake <= 0.02),
        dry & (lake <= 0.005),
        (rim_land <= 0.05) & (land >= LEAST_LAND) & (ocean >= 0.4) & (lake <= 0.02),
        dry & (lake >= 0.06),
    ]
    return np.select(found, range(len(CONTEXTS)), NONE)


def context_shares(mask: NDArray[np.uint8]) -> Context:
    """Return what :func:`context` decides by, of views' masks (n, s, s)."""
    rim = np.concatenate([mask[:, 0], mask[:, -1], mask[:, 1:-1, 0], mask[:, 1:-1, -1]], axis=1)
    return Context((mask == OCEAN).mean((1, 2)), (mask == LAKE).mean((1, 2)), (rim == LAND).mean(1))
