"""A folder with a location encoder: location.json, model.safetensors. Written by training, read by the registry.

location.json: family ("satclip"), degree, width, hidden_layers, dimension, and aligned_with: {"model": …,
"weights_sha256": …}, the image model whose vectors the places were trained against. Anything else is kept as it is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geosearch.encoders.config_file import read_json
from geosearch.encoders.harmonics import MAX_DEGREE
from geosearch.errors import ModelError

if TYPE_CHECKING:
    from geosearch.encoders.satclip import SirenLocation

CONFIG, WEIGHTS = "location.json", "model.safetensors"
SHAPE = {"degree": MAX_DEGREE, "width": 4096, "hidden_layers": 16, "dimension": 4096}  # each with its greatest value


def write_folder(folder: Path, module: SirenLocation, config: dict[str, Any], *, half: bool = False) -> None:
    """Write a trained encoder: its weights as float32 (or float16 where half) and location.json.

    config: what location.json says besides the shape, which is the module's; `aligned_with` must be in it.
    Raises ModelError where config contradicts the module or a weight is not finite.
    """
    import torch
    from safetensors.torch import save

    stated = {"family": "satclip", **config, **{key: getattr(module, key) for key in SHAPE}}
    for key in SHAPE:
        if config.get(key, stated[key]) != stated[key]:
            raise ModelError(f"{folder}: config says {key} {config[key]}, the module has {stated[key]}")
    check_config(stated, folder / CONFIG)
    kind = torch.float16 if half else torch.float32
    tensors = {name: value.detach().cpu().to(kind).contiguous() for name, value in module.state_dict().items()}
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            raise ModelError(f"{folder}: {name} holds numbers that are not finite in {kind}; train again")
    folder.mkdir(parents=True, exist_ok=True)
    # Not save_file, which leaves a file that only its owner may read.
    (folder / "model.tmp").write_bytes(save(tensors, metadata={"format": "pt"}))
    (folder / "model.tmp").replace(folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(stated, indent=2, sort_keys=True) + "\n", "utf-8")


def read_config(folder: Path, remedy: str = "") -> dict[str, Any]:
    """Return a folder's location.json, checked. Raises WeightsError where it is missing, ModelError where wrong."""
    path = folder / CONFIG
    config = read_json(path, remedy or "give the folder of a location encoder")
    check_config(config, path)
    return dict(config)


def check_config(config: Any, path: Path) -> None:
    """Raise ModelError where a configuration lacks a key or a value is out of range."""
    if not isinstance(config, dict) or config.get("family") != "satclip":
        raise ModelError(f"{path}: family must be satclip, the only kind of location encoder that folders hold")
    for key, most in SHAPE.items():
        value = config.get(key)
        if type(value) is not int or not 1 <= value <= most:
            raise ModelError(f"{path}: {key} must be a whole number from 1 to {most}, it is {value!r}")
    aligned = config.get("aligned_with")
    if not isinstance(aligned, dict) or not all(isinstance(aligned.get(k), str) for k in ("model", "weights_sha256")):
        raise ModelError(f"{path}: aligned_with must name the image model and its weights: model, weights_sha256")
