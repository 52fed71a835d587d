"""A location encoder as plain matrices: what is taken into a database, where SQL does the same arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Layer:
    """A dense layer: weights (units, inputs) and bias (units,), float32."""

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]


@dataclass(frozen=True)
class PlaceNetwork:
    """Nets whose outputs are summed (SatCLIP has one, GeoCLIP three capsules), each a list of layers.

    definition: what happens before and between the layers. "satclip": {"features": "spherical harmonics", "degree": L,
    "activation": "sine", "first_w0": 30.0, "w0": 1.0}; harmonics → dense layers, sin(w0 (W x + b)) after all but the
    last. "geoclip": {"features": "fourier", "projection": "equal earth", "activation": "relu"}; the first layer of each
    net is the Fourier matrix B (256, 2) with bias 0, [cos 2πBv, sin 2πBv] of the projected place v; then dense layers,
    ReLU after all but the last.
    """

    family: str
    dimension: int
    definition: dict[str, Any]
    nets: list[list[Layer]]
