"""OpenCLIP's own image towers: ModifiedResNet and VisionTransformer."""

from __future__ import annotations

from copy import copy
from typing import Any

from torch import Tensor, nn

from geosearch.errors import ModelError
from geosearch.nadir.tower_base import Tower, check_multiple

_STEM = ("conv1", "bn1", "act1", "conv2", "bn2", "act2", "conv3", "bn3", "act3", "avgpool")


class ResNetTower(Tower):
    """OpenCLIP's ModifiedResNet (mini-clip, RN50): stage 3 as patches, stage 4 averaged as the global token."""

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.stem_parts = nn.ModuleDict({k: getattr(visual, k) for k in _STEM})
        self.layer1, self.layer2, self.layer3, self.layer4 = visual.layer1, visual.layer2, visual.layer3, visual.layer4
        self.blocks = [self.stem_parts, self.layer1, self.layer2, self.layer3, self.layer4]
        self.channels = visual.layer3[-1].conv3.out_channels
        self.token_channels = visual.layer4[-1].conv3.out_channels
        self.eval()

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the patches of the third stage, stride 16, and the mean of the fourth."""
        x = pixels
        for name in _STEM:
            x = self.stem_parts[name](x)
        x = self.layer3(self.layer2(self.layer1(x)))
        return x.flatten(2).transpose(1, 2), self.layer4(x).mean((2, 3))


class VisionTower(Tower):
    """OpenCLIP's VisionTransformer: its patches, and its class token (the patches' mean where it pools that way).

    Takes the size it was built for, since its positions are. A projection, and the pooling of CoCa, are left out: the
    patches are those that went into them.
    """

    def __init__(self, visual: Any) -> None:
        super().__init__()
        visual = _shared(visual)
        visual.proj = None
        if visual.attn_pool is not None:
            visual.attn_pool = visual.attn_pool_contrastive = None
            visual.ln_post = nn.Identity()  # it came after that pooling
        self.visual = visual
        self.size: tuple[int, int] = tuple(visual.image_size)
        self.mean_token = visual.pool_type == "avg"
        self.channels = self.token_channels = visual.conv1.out_channels
        resblocks = list(visual.transformer.resblocks)
        last = nn.ModuleList([resblocks[-1], visual.ln_post])
        self.blocks = [nn.ModuleList([visual.conv1, visual.ln_pre]), *resblocks[:-1], last]
        self.eval()

    def check_size(self, height: int, width: int) -> None:
        """Raise ModelError for any other size than the network's."""
        if (height, width) != self.size:
            raise ModelError(
                f"this vision transformer takes {self.size[0]} × {self.size[1]} pixels, not {height} × {width}; "
                "give pictures of its size, or build it with another image_size in vision_cfg"
            )
        check_multiple(height, width, self.visual.patch_size)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return patches and token of the last block, after the final normalisation."""
        self.check_size(pixels.shape[2], pixels.shape[3])
        out = self.visual.forward_intermediates(
            pixels, indices=1, normalize_intermediates=True, intermediates_only=True, output_fmt="NLC",
            output_extra_tokens=True,
        )  # fmt: skip
        patches: Tensor = out["image_intermediates"][-1]
        token = patches.mean(1) if self.mean_token else out["image_intermediates_prefix"][-1][:, 0]
        return patches, token


def _shared(module: Any) -> Any:
    """Return a module with the same weights, from which parts can be taken without taking them from the first."""
    other = copy(module)
    other._parameters, other._modules = dict(module._parameters), dict(module._modules)
    return other
