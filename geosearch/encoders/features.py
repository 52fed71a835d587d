"""`features:MODEL`: the vision tower of an OpenCLIP model before its projection into the space shared with texts.

What a tower knows of a picture is wider than what words can say of it: banks take these vectors as values.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from geosearch.encoders import openclip_plan
from geosearch.encoders.names import FEATURES, parse
from geosearch.encoders.openclip import OpenClipEncoder
from geosearch.encoders.openclip_plan import Plan
from geosearch.encoders.spec import Spec
from geosearch.errors import ModelError

if TYPE_CHECKING:
    import torch

PREFIX = f"{FEATURES}:"


class FeaturesEncoder(OpenClipEncoder):
    """Images → unit vectors of a tower's features (see `trunk`). Pictures are prepared as the whole model's are."""

    def __init__(self, built: Plan, device: str) -> None:
        """built: a plan from `features_plan`. device: as for `registry.load`."""
        super().__init__(built, device)
        self._model = _Tower(self._model.visual)  # the text tower is let go


class _Tower:
    """A vision tower in the place of a whole model."""

    def __init__(self, visual: Any) -> None:
        self._visual = visual

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        return trunk(self._visual, pixels)


def plan(spec: Spec) -> Plan:
    """Return the plan of `features:MODEL`. Raises WeightsError, ModelError, UnknownNameError."""
    return features_plan(openclip_plan.plan(parse(spec.name.removeprefix(PREFIX))))


def features_plan(base: Plan) -> Plan:
    """Return the plan of a model's features: the same weights and preprocessing, but images only and a wider vector."""
    info = replace(
        base.info,
        name=f"{PREFIX}{base.info.name}",
        dimension=_width(json.dumps(base.config["model_cfg"], sort_keys=True), tuple(base.preprocess["size"])),
        reads=frozenset({"image"}),
        preprocessing={**base.info.preprocessing, "output": "features"},
    )
    return replace(base, info=info)


def trunk(visual: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Return features (n, d) of normalised pixels (n, 3, height, width), before a tower's projection.

    ModifiedResNet (RN50, mini-clip): the last stage's channels averaged over the picture, as a ResNet without attention
    pooling has them. Transformers: the pooled token after the last norm. Towers of timm: what their head receives, or
    the channels' average where a pooling of open_clip's own follows. Raises ModelError for a tower of another kind.
    """
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import VisionTransformer

    if isinstance(visual, ModifiedResNet):
        x = visual.stem(pixels)
        for stage in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
            x = stage(x)
        return x.mean((2, 3))
    if isinstance(visual, VisionTransformer):
        projection, visual.proj = visual.proj, None
        try:
            out = visual(pixels)
        finally:
            visual.proj = projection
        return out[0] if isinstance(out, tuple) else out
    if isinstance(visual, TimmModel):
        x = visual.trunk.forward_features(pixels)
        if hasattr(visual.head, "pool"):
            return x.mean((2, 3))
        x = visual.trunk.forward_head(x, pre_logits=True)
        return x if x.ndim == 2 else x.flatten(1)
    raise ModelError(
        f"the vision tower {type(visual).__name__} has no features that geosearch knows of; "
        "ResNets, vision transformers and timm's towers have"
    )


@lru_cache(maxsize=16)
def _width(model_cfg: str, size: tuple[int, int]) -> int:
    """Return how wide the features of an architecture are, from its shape alone: no weight is read or made."""
    import torch
    from open_clip.model import _build_vision_tower

    config = json.loads(model_cfg)
    vision = {**config["vision_cfg"], "timm_model_pretrained": False}
    try:
        with torch.device("meta"), torch.inference_mode():
            visual = _build_vision_tower(config["embed_dim"], vision).eval()
            return int(trunk(visual, torch.empty(1, 3, *size)).shape[1])
    except Exception as error:  # of timm, or of an operation that needs real numbers
        raise ModelError(f"the features of this architecture cannot be sized: {error}; use the model itself") from error
