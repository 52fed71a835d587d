"""A folder with a nadir-aware model: nadir.json, model.safetensors. Written by training, read by the registry.

nadir.json: family ("nadir"), tower ({"kind": "open_clip", "embed_dim": …, "vision_cfg": …} or {"kind": "timm",
"model": …}), picture (size, mean, std, interpolation, resize_mode), salad and nadir (their shapes). The rest is kept.
"""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from geosearch.nadir.fourier import NadirShape
from geosearch.nadir.model import NadirModel
from geosearch.nadir.salad import SaladShape
from geosearch.nadir.towers import Tower, tower_of

CONFIG, WEIGHTS = "nadir.json", "model.safetensors"


def build(config: dict[str, Any]) -> NadirModel:
    """Return the network that a configuration describes, with random weights."""
    return NadirModel(_tower(config["tower"]), SaladShape(**config["salad"]), NadirShape(**config["nadir"]))


def write_folder(folder: Path, model: NadirModel, config: dict[str, Any]) -> None:
    """Write a trained model: its weights in half precision, its buffers as they are, and nadir.json."""
    from safetensors.torch import save

    weights = dict(model.named_parameters())
    stated = {**config, "family": "nadir", "salad": asdict(model.salad.shape), "nadir": asdict(model.nadir.shape)}
    tensors = {
        # Buffers stay exact: in half precision the waves of the nadir would be up to 0.016 radians out of phase.
        k: (v.detach().cpu().half() if k in weights else v.detach().cpu()).contiguous()
        for k, v in model.state_dict().items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    # Not save_file, which leaves a file that only its owner may read.
    (folder / "model.tmp").write_bytes(save(tensors, metadata={"format": "pt"}))
    (folder / "model.tmp").replace(folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(stated, indent=2) + "\n", "utf-8")


def load_weights(model: NadirModel, path: Path) -> NadirModel:
    """Return the model with the weights of a file, on the CPU, in float32 and ready to encode."""
    from safetensors.torch import load_file

    model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in load_file(path).items()})
    return model.eval().requires_grad_(False)


def _tower(config: dict[str, Any]) -> Tower:
    from open_clip.model import _build_vision_tower

    with torch.device("cpu"):
        return tower_of(_build_vision_tower(config["embed_dim"], deepcopy(config["vision_cfg"])))
