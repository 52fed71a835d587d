"""What SALAD needs of a picture: patch features and one global token, from OpenCLIP's towers or networks of timm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geosearch.errors import ModelError
from geosearch.nadir.tower_base import Tower
from geosearch.nadir.tower_clip import ResNetTower, VisionTower
from geosearch.nadir.tower_timm import TimmTower, timm_tower

__all__ = ["ResNetTower", "TimmTower", "Tower", "VisionTower", "normalise", "timm_tower", "tower_of"]


def tower_of(visual: Any) -> Tower:
    """Return the tower of an OpenCLIP model's image side, with which it shares its weights.

    Raises ModelError for a kind that gives no patches.
    """
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import VisionTransformer

    if isinstance(visual, ModifiedResNet):
        return ResNetTower(visual)
    if isinstance(visual, VisionTransformer):
        return VisionTower(visual)
    if isinstance(visual, TimmModel):
        return TimmTower(visual.trunk, tuple(visual.image_size))
    raise ModelError(
        f"the vision tower {type(visual).__name__} gives no patches that SALAD can share out; "
        "take a ResNet, a vision transformer or a model of timm"
    )


def normalise(pixels: Tensor, mean: list[float], std: list[float]) -> Tensor:
    """Return (b, 3, h, w) float32 of pixels (b, 3, h, w) uint8."""
    shape = (1, 3, 1, 1)
    middle = torch.tensor(mean, device=pixels.device).view(shape)
    return (pixels.float() / 255 - middle) / torch.tensor(std, device=pixels.device).view(shape)
