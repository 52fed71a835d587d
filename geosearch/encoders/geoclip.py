"""GeoCLIP's location encoder (Vivanco Cepeda, Nayak and Shah, arXiv 2309.16020): Equal Earth, random Fourier features.

Three capsules, one a scale σ = 1, 16, 256, are summed: v → [cos 2πBv, sin 2πBv] with B (256, 2) drawn from N(0, σ²) and
kept with the weights → 512 → 1024 → 1024 → 1024 → 512, ReLU between. Parameters bear the names of the published file.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from geosearch.encoders import weights
from geosearch.encoders.network import Layer, PlaceNetwork
from geosearch.encoders.projections import equal_earth
from geosearch.encoders.satclip_checkpoint import torch_file
from geosearch.encoders.torch_places import TorchPlaceEncoder, layer
from geosearch.errors import ModelError

FAMILY = "geoclip"
FILE = "location_encoder_weights.pth"
SIGMAS = (1.0, 16.0, 256.0)
FEATURES, WIDTH, DIMENSION = 256, 1024, 512
DEFINITION: dict[str, Any] = {"features": "fourier", "projection": "equal earth", "activation": "relu"}


class _Fourier(nn.Module):
    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.b = nn.Parameter(torch.randn(FEATURES, 2) * sigma, requires_grad=False)

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        angles = 2 * math.pi * v @ self.b.T
        return torch.cat([angles.cos(), angles.sin()], dim=-1)


class _Capsule(nn.Module):
    def __init__(self, sigma: float) -> None:
        super().__init__()
        sizes = (2 * FEATURES, WIDTH, WIDTH, WIDTH)
        dense = [(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(sizes)]
        self.capsule = nn.Sequential(_Fourier(sigma), *(part for pair in dense for part in pair))
        self.head = nn.Sequential(nn.Linear(WIDTH, DIMENSION))

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.capsule(v))
        return out


class GeoClipLocation(nn.Module):
    """Projected places (n, 2) of `equal_earth` → vectors (n, 512), not normalised."""

    def __init__(self) -> None:
        super().__init__()
        for i, sigma in enumerate(SIGMAS):
            self.add_module(f"LocEnc{i}", _Capsule(sigma))

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        """Return the sum of the capsules' vectors (n, 512)."""
        return torch.stack([capsule(v) for capsule in self.children()]).sum(0)


class GeoClipEncoder(TorchPlaceEncoder):
    """Places → GeoCLIP's vectors."""

    def network(self) -> PlaceNetwork:
        """Return the weights of its three nets, for SQL; the first layer of each is B."""
        nets = [[layer(capsule.capsule[0].b), *_dense(capsule)] for capsule in self.module.children()]
        return PlaceNetwork(FAMILY, self.info.dimension, DEFINITION, nets)

    def _forward(self, lat: NDArray[np.float64], lon: NDArray[np.float64]) -> torch.Tensor:
        out: torch.Tensor = self.module(torch.from_numpy(equal_earth(lat, lon)).to(self.device))
        return out


def read(path: Path) -> GeoClipLocation:
    """Return the module of a weights file, in float64; read once while unchanged. ModelError for another file."""
    return _read(path, weights.sha256(path))


@lru_cache(maxsize=1)
def _read(path: Path, digest: str) -> GeoClipLocation:
    try:
        held = load_file(str(path)) if path.suffix == ".safetensors" else torch_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: cannot be read as safetensors ({error}); copy it again") from error
    if not isinstance(held, dict):
        raise ModelError(f"{path}: holds a {type(held).__name__}, not tensors by name; give GeoCLIP's {FILE}")
    # A release of the whole model has the same names below location_encoder.
    state = {key.removeprefix("location_encoder."): value for key, value in held.items() if "LocEnc" in str(key)}
    module = GeoClipLocation().double()
    for name, value in module.state_dict().items():
        given = state.get(name)
        if not isinstance(given, torch.Tensor) or given.shape != value.shape:
            has = f"is {tuple(given.shape)}" if isinstance(given, torch.Tensor) else "is missing"
            raise ModelError(f"{path}: {name} {has}, it must be {tuple(value.shape)}; give GeoCLIP's {FILE}")
        if not torch.isfinite(given).all():
            raise ModelError(f"{path}: {name} holds numbers that are not finite; copy the file again")
    more = sorted(state.keys() - module.state_dict().keys())
    if more:
        raise ModelError(f"{path}: holds {', '.join(more[:3])} besides, it is another network; give GeoCLIP's {FILE}")
    module.load_state_dict(state)
    return module


def _dense(capsule: Any) -> list[Layer]:
    parts = (*capsule.capsule[1:], *capsule.head)
    return [layer(part.weight, part.bias) for part in parts if isinstance(part, nn.Linear)]
