"""The whole network: a tower, SALAD, the nadir's encoder, and their concatenation."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from geosearch.nadir.fourier import NadirEncoder, NadirShape
from geosearch.nadir.fusion import Concatenation
from geosearch.nadir.salad import Salad, SaladShape
from geosearch.nadir.towers import Tower


class Vectors(NamedTuple):
    """image (b, d) and nadir (b, e) alone, and both together (b, d + e); all of length 1, float32."""

    image: Tensor
    nadir: Tensor
    both: Tensor


class NadirModel(nn.Module):
    """Normalised pixels and nadirs → vectors."""

    def __init__(self, tower: Tower, salad: SaladShape, nadir: NadirShape) -> None:
        super().__init__()
        self.tower = tower
        self.salad = Salad(tower.channels, tower.token_channels, salad)
        self.nadir = NadirEncoder(nadir)
        self.fusion = Concatenation()

    @property
    def dimension(self) -> int:
        """Numbers of the vector of both."""
        return self.salad.shape.dimension + self.nadir.shape.dimension

    def image(self, pixels: Tensor) -> Tensor:
        """Return unit vectors (b, d) of normalised pixels (b, 3, h, w), without a nadir."""
        patches, token = self.tower(pixels)
        return self.salad(patches, token)

    def forward(self, pixels: Tensor, lat: Tensor, lon: Tensor) -> Vectors:
        """Return all three vectors. lat, lon: (b,) degrees, NaN where the nadir is not known."""
        image, nadir = self.image(pixels), self.nadir(lat, lon)
        return Vectors(image, nadir, self.fusion(image, nadir))
