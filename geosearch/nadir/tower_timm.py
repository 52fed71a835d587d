"""Towers of timm: DINOv2 with registers, and whatever else gives a grid or a sequence of features."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from geosearch.errors import ModelError, WeightsError
from geosearch.nadir.tower_base import Tower, check_multiple

# The article's, from small to large.
DINOV2 = tuple(f"vit_{size}_patch14_reg4_dinov2.lvd142m" for size in ("small", "base", "large"))


class TimmTower(Tower):
    """A network of timm: its last features as patches, what its own pooling makes of them as the global token.

    Prefix tokens (class and registers: 1 + 4 of DINOv2) are no patches; DINOv2's pooling takes the class token.
    """

    def __init__(self, trunk: Any, size: tuple[int, int]) -> None:
        """size: (height, width) of pictures that the network surely takes."""
        super().__init__()
        self.trunk = trunk
        self.prefix = int(getattr(trunk, "num_prefix_tokens", 0))
        self.last_axis = str(getattr(trunk, "output_fmt", "")).endswith("NHWC")
        self.blocks = _blocks(trunk)
        self.eval()
        patches, token = self.shapes(*size)
        self.channels, self.token_channels = patches.shape[2], token.shape[1]

    def check_size(self, height: int, width: int) -> None:
        """Raise ModelError where a network that takes any multiple of its patch is given something else."""
        if getattr(self.trunk, "dynamic_img_size", False):
            check_multiple(height, width, tuple(self.trunk.patch_embed.patch_size))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return patches and token, after the network's final normalisation."""
        self.check_size(pixels.shape[2], pixels.shape[3])
        features = self.trunk.forward_features(pixels)
        token = self.trunk.forward_head(features, pre_logits=True)
        if features.ndim == 4:
            features = features.flatten(1, 2) if self.last_axis else features.flatten(2).transpose(1, 2)
        patches = features[:, self.prefix :]
        return patches, token if token.ndim == 2 else patches.mean(1)


def timm_tower(model: str, weights: Path | None = None) -> TimmTower:
    """Return a tower by timm's name of it, with random weights or those of a file (safetensors, .pth).

    The file is one as published for that name, whole. A transformer takes any multiple of its patch: its positions are
    interpolated. Nothing is fetched. Raises ModelError for names that timm does not know, WeightsError where the file
    does not fit.
    """
    import timm

    check_name(model)
    if weights is not None and not weights.is_file():
        raise WeightsError(f"{model}: there is no file {weights}; give the path of the tower's weights")
    asked: dict[str, Any] = {"num_classes": 0}
    if weights is not None:
        # With its own classifier, which is then taken off: timm leaves out what does not fit where that differs.
        asked = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(weights)}}
    trunk: Any
    try:
        try:
            trunk = timm.create_model(model, dynamic_img_size=True, **asked)
        except TypeError:  # of networks that are no transformers, before any weights are read
            trunk = timm.create_model(model, **asked)
    except Exception as error:  # of timm, torch, pickle, safetensors
        kind = ModelError if weights is None else WeightsError
        raise kind(f"{model}: cannot be built{f' with {weights}' if weights else ''}: {error}") from error
    trunk.reset_classifier(0)
    return TimmTower(trunk, tuple(trunk.pretrained_cfg["input_size"][1:]))


def check_name(model: str) -> None:
    """Raise ModelError for what is no model of timm's own: it would look for others on a hub."""
    import timm

    if not timm.is_model(model.partition(".")[0]) or ":" in model:
        close = difflib.get_close_matches(model, timm.list_models(pretrained=True), 3)
        raise ModelError(f"timm has no model {model!r}; near: {', '.join(close) or ', '.join(DINOV2)}")


def _blocks(trunk: Any) -> list[nn.Module]:
    """Return the network's parts in order; what comes before the first goes with the input, norms with the last."""
    children = [(name, child) for name, child in trunk.named_children() if any(True for _ in child.parameters())]
    names = [name for name, _ in children]
    inner = next((name for name in ("blocks", "stages", "layers") if name in names), None)
    if inner is None:
        return [child for _, child in children]
    at = names.index(inner)
    parts = list(children[at][1].children())
    first = nn.ModuleList(child for _, child in children[:at])
    last = nn.ModuleList([parts[-1], *(child for _, child in children[at + 1 :])])
    return [first, *parts[:-1], last]
