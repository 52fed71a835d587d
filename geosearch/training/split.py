"""Held-out ground, one split for all models of this project: by what is seen, not by where the camera was."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geosearch.geometry import Floats, distance_m


@dataclass(frozen=True)
class Split:
    """Caps of radius_m round named places, and a guard ring round each that neither side uses."""

    names: tuple[str, ...]
    lat: tuple[float, ...]
    lon: tuple[float, ...]
    radius_m: float
    guard_m: float

    def region(self, lat: ArrayLike, lon: ArrayLike) -> NDArray[np.int64]:
        """Return, for each place, the index of the cap that it lies in, −1 outside all (the nearest where two meet)."""
        away = self._away(lat, lon)
        nearest = away.argmin(-1)
        return np.where(away.min(-1) <= self.radius_m, nearest, -1)

    def trainable(self, lat: ArrayLike, lon: ArrayLike) -> NDArray[np.bool_]:
        """Return whether views centred at places may be trained on: outside every cap and its guard ring."""
        return self._away(lat, lon).min(-1) > self.radius_m + self.guard_m

    def _away(self, lat: ArrayLike, lon: ArrayLike) -> Floats:
        here, there = np.asarray(lat, float)[..., None], np.asarray(lon, float)[..., None]
        return distance_m(here, there, np.array(self.lat), np.array(self.lon))


@cache
def split() -> Split:
    """Return the project's split, from ``split.json``."""
    facts = json.loads((files("geosearch.training") / "split.json").read_text("utf-8"))
    places = facts["places"]
    return Split(
        names=tuple(p["name"] for p in places),
        lat=tuple(p["lat"] for p in places),
        lon=tuple(p["lon"] for p in places),
        radius_m=facts["radius_km"] * 1000.0,
        guard_m=facts["guard_km"] * 1000.0,
    )
