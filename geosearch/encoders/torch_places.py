"""Encoders of places whose network is torch's, in float64 on the CPU or a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geosearch.encoders.base import ModelInfo
from geosearch.encoders.network import Layer
from geosearch.encoders.places import PlaceEncoderBase


class TorchPlaceEncoder(PlaceEncoderBase):
    """Runs a module in double precision: 30 × a phase in the first sine would lose three digits of single precision.

    Apple's GPUs have no float64: there the CPU computes.
    """

    def __init__(self, info: ModelInfo, module: torch.nn.Module, device: str) -> None:
        super().__init__(info)
        self.device = torch.device("cpu" if device.startswith("mps") else device)
        self.module: Any = module.double().eval().requires_grad_(False).to(self.device)
        if self.device.type == "cuda":
            self.chunk = 32768

    def _embed(self, lat: NDArray[np.float64], lon: NDArray[np.float64]) -> NDArray[np.float64]:
        with torch.inference_mode():
            out: NDArray[np.float64] = self._forward(lat, lon).cpu().numpy()
        return out

    def _forward(self, lat: NDArray[np.float64], lon: NDArray[np.float64]) -> torch.Tensor:
        raise NotImplementedError


def layer(weights: torch.Tensor, bias: torch.Tensor | None = None) -> Layer:
    """Return a dense layer as plain float32 matrices; no bias: zeros."""
    matrix = weights.detach().cpu().numpy().astype(np.float32)
    vector = np.zeros(len(matrix), np.float32) if bias is None else bias.detach().cpu().numpy().astype(np.float32)
    return Layer(matrix, vector)
