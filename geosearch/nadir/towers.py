"""What SALAD needs of a picture: patch features and one global token, from OpenCLIP's towers or DINOv2 of timm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from geosearch.errors import ModelError


class Tower(nn.Module):
    """Normalised pixels (b, 3, h, w) → (patches (b, n, channels), token (b, token_channels)).

    channels, token_channels: of what comes out. blocks: the parts of the network from its input to its output, of which
    the last may be trained and the rest stay as they are.
    """

    channels: int
    token_channels: int
    blocks: list[nn.Module]

    def trainable(self, last: int | None) -> None:
        """Let the last blocks learn (None: all of the network) and freeze the rest."""
        self.requires_grad_(last is None)
        if last:
            for block in self.blocks[-last:]:
                block.requires_grad_(True)

    def train(self, mode: bool = True) -> Tower:
        """Stay in evaluation mode: a pretrained network's batch statistics are kept, whatever the batches hold."""
        return super().train(False)


class ResNetTower(Tower):
    """OpenCLIP's ModifiedResNet (mini-clip, RN50): stage 3 as patches, stage 4 averaged as the global token."""

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.stem_parts = nn.ModuleDict({k: getattr(visual, k) for k in _STEM})
        self.layer1, self.layer2, self.layer3, self.layer4 = visual.layer1, visual.layer2, visual.layer3, visual.layer4
        self.blocks = [self.stem_parts, self.layer1, self.layer2, self.layer3, self.layer4]
        self.channels = visual.layer3[-1].conv3.out_channels
        self.token_channels = visual.layer4[-1].conv3.out_channels

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the patches of the third stage, stride 16, and the mean of the fourth."""
        x = pixels
        for name in _STEM:
            x = self.stem_parts[name](x)
        x = self.layer3(self.layer2(self.layer1(x)))
        return x.flatten(2).transpose(1, 2), self.layer4(x).mean((2, 3))


_STEM = ("conv1", "bn1", "act1", "conv2", "bn2", "act2", "conv3", "bn3", "act3", "avgpool")


def tower_of(visual: Any) -> Tower:
    """Return the tower of an OpenCLIP model's image side. Raises ModelError for a kind that gives no patches."""
    from open_clip.modified_resnet import ModifiedResNet

    if isinstance(visual, ModifiedResNet):
        return ResNetTower(visual)
    raise ModelError(f"the vision tower {type(visual).__name__} gives no patches that SALAD can share out")


def normalise(pixels: Tensor, mean: list[float], std: list[float]) -> Tensor:
    """Return (b, 3, h, w) float32 of pixels (b, 3, h, w) uint8."""
    shape = (1, 3, 1, 1)
    middle = torch.tensor(mean, device=pixels.device).view(shape)
    return (pixels.float() / 255 - middle) / torch.tensor(std, device=pixels.device).view(shape)
