"""SatCLIP's location encoder: spherical harmonics, then a network of sines (Klemmer et al., arXiv 2311.17179).

The network is SIREN (Sitzmann et al., arXiv 2006.09661): h ← sin(w0 (W h + b)), w0 = 30 in the first layer and 1 in the
others; the last layer is linear. Parameters bear the names of SatCLIP's own code below `nnet`, so that a published
checkpoint loads by name.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

FIRST_W0, W0 = 30.0, 1.0


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
        for i, layer in enumerate(self.layers):
            x = functional.dropout(layer(x), self.dropout, self.training)
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
