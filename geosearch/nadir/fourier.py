"""Nadirs → vectors: Fourier features of the unit vector, then a small network; a learned vector where none is known.

Features of the unit vector (arXiv 2006.10739 on the sphere) have no seam at ±180° and are one value at a pole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geosearch.errors import ModelError
from geosearch.nadir.shape_checks import check_count

HIGHEST = 1e4  # radians a radian: waves of 4 km


@dataclass(frozen=True)
class NadirShape:
    """frequencies: how many, from lowest to highest (radians a radian of the sphere); dimension: of the vector."""

    frequencies: int = 96
    lowest: float = 1.0
    highest: float = 48.0
    hidden: int = 256
    dimension: int = 128

    def __post_init__(self) -> None:
        for name in ("frequencies", "hidden", "dimension"):
            check_count(f"nadir.{name}", getattr(self, name))
        if not all(type(v) in (int, float) for v in (self.lowest, self.highest)) or not (
            0 < self.lowest <= self.highest <= HIGHEST
        ):
            raise ModelError(
                f"nadir.lowest and nadir.highest must be numbers with 0 < lowest ≤ highest ≤ {HIGHEST:.0f}, "
                f"they are {self.lowest!r} and {self.highest!r}"
            )


class NadirEncoder(nn.Module):
    """Latitudes and longitudes (b,) in degrees → unit vectors (b, dimension), float32."""

    waves: Tensor

    def __init__(self, shape: NadirShape) -> None:
        super().__init__()
        self.shape = shape
        # Directions evenly over the sphere, lengths evenly in the logarithm: drawn once, kept with the weights.
        draw = torch.Generator().manual_seed(7)
        direction = F.normalize(torch.randn(shape.frequencies, 3, generator=draw, dtype=torch.float64), dim=1)
        length = torch.exp(torch.linspace(math.log(shape.lowest), math.log(shape.highest), shape.frequencies).double())
        self.register_buffer("waves", (direction * length[:, None]).float())
        self.net = nn.Sequential(
            nn.Linear(2 * shape.frequencies + 3, shape.hidden),
            nn.GELU(),
            nn.Linear(shape.hidden, shape.hidden),
            nn.GELU(),
            nn.Linear(shape.hidden, shape.dimension),
        )
        self.unknown = nn.Parameter(0.1 * torch.randn(shape.dimension))

    def forward(self, lat: Tensor, lon: Tensor) -> Tensor:
        """Return unit vectors (b, dimension). lat, lon: (b,) degrees, latitude first; NaN: unknown."""
        with torch.autocast(lat.device.type, enabled=False):
            missing = torch.isnan(lat) | torch.isnan(lon)
            features = fourier_features(lat.masked_fill(missing, 0), lon.masked_fill(missing, 0), self.waves)
            known = self.net(features)
            return F.normalize(torch.where(missing[:, None], self.unknown, known), dim=-1)


def fourier_features(lat: Tensor, lon: Tensor, waves: Tensor) -> Tensor:
    """Return (b, 3 + 2f) float32: the unit vector v, cos(W v), sin(W v). waves W: (f, 3), radians."""
    phi, lam = torch.deg2rad(lat.double()), torch.deg2rad(lon.double())
    v = torch.stack([phi.cos() * lam.cos(), phi.cos() * lam.sin(), phi.sin()], dim=-1)
    at = v @ waves.double().T
    return torch.cat([v, at.cos(), at.sin()], dim=-1).float()
