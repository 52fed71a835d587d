"""SatCLIP's location encoder: spherical harmonics, then a network of sines (Klemmer et al., arXiv 2311.17179).

The network is SIREN (Sitzmann et al., arXiv 2006.09661): h ← sin(w0 (W h + b)), w0 = 30 in the first layer and 1 in the
others; the last layer is linear. Parameters bear the names of SatCLIP's own code below `nnet`, so that a published
checkpoint loads by name.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from geosearch.encoders.harmonics import fill_harmonics, spherical_harmonics
from geosearch.encoders.network import PlaceNetwork
from geosearch.encoders.torch_places import TorchPlaceEncoder, layer

FAMILY = "satclip"
FIRST_W0, W0 = 30.0, 1.0


def definition(degree: int) -> dict[str, Any]:
    """Return what happens before and between the layers of an encoder of that degree; see `network.PlaceNetwork`."""
    features = {"features": "spherical harmonics", "degree": degree}
    return {**features, "activation": "sine", "first_w0": FIRST_W0, "w0": W0}


class _Dense(nn.Module):
    """A dense layer of SIREN with its initialisation: uniform within ±1/n for the first, ±√(6/n)/w0 for others."""

    def __init__(self, inputs: int, units: int, first: bool) -> None:
        super().__init__()
        bound = 1 / inputs if first else math.sqrt(6 / inputs) / W0
        self.weight = nn.Parameter(torch.empty(units, inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(units).uniform_(-bound, bound))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.weight, self.bias)


class _Net(nn.Module):
    def __init__(self, inputs: int, width: int, hidden_layers: int, dimension: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.layers = nn.ModuleList(_Dense(width if i else inputs, width, not i) for i in range(hidden_layers))
        self.last_layer = _Dense(width, dimension, False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for i, dense in enumerate(self.layers):
            x = functional.dropout(dense(x), self.dropout, self.training)
            x = torch.sin((W0 if i else FIRST_W0) * x)
        out: torch.Tensor = self.last_layer(x)
        return out


class SirenLocation(nn.Module):
    """Harmonics (n, degree²) → vectors (n, dimension), not normalised.

    dropout: share of units left out before each sine while training; SatCLIP was trained with 0.5.
    """

    def __init__(
        self, degree: int, width: int = 512, hidden_layers: int = 2, dimension: int = 256, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.degree, self.width, self.hidden_layers, self.dimension = degree, width, hidden_layers, dimension
        self.nnet = _Net(degree * degree, width, hidden_layers, dimension, dropout)

    def forward(self, harmonics: torch.Tensor) -> torch.Tensor:
        """Return vectors (n, dimension) of harmonics (n, degree²) from `spherical_harmonics`."""
        out: torch.Tensor = self.nnet(harmonics)
        return out


class SatClipEncoder(TorchPlaceEncoder):
    """Places → SatCLIP's vectors, by a `SirenLocation`."""

    def network(self) -> PlaceNetwork:
        """Return the weights of its one net, for SQL."""
        layers = [layer(dense.weight, dense.bias) for dense in (*self.module.nnet.layers, self.module.nnet.last_layer)]
        return PlaceNetwork(FAMILY, self.info.dimension, definition(self.module.degree), [layers])

    def _forward(self, lat: NDArray[np.float64], lon: NDArray[np.float64]) -> torch.Tensor:
        degree: int = self.module.degree
        if self.device.type == "cpu":
            harmonics = torch.from_numpy(spherical_harmonics(lat, lon, degree))
        else:
            rows = torch.empty(degree * degree, len(lat), dtype=torch.float64, device=self.device)
            theta, phi = (
                torch.from_numpy(angle).to(self.device) for angle in (np.radians(lat), np.radians(lon + 180.0))
            )
            fill_harmonics(torch, theta, phi, degree, rows)
            harmonics = rows.T
        out: torch.Tensor = self.module(harmonics)
        return out
