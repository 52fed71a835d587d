"""A folder with a nadir-aware model: nadir.json, model.safetensors. Written by training, read by the registry.

nadir.json: family ("nadir"), tower ({"kind": "open_clip", "embed_dim": …, "vision_cfg": …, "quick_gelu": …} or
{"kind": "timm", "model": …}), picture (size, mean, std, interpolation, resize_mode), salad and nadir (their shapes).
The rest is kept.
"""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from geosearch.encoders import nadir_picture
from geosearch.encoders.config_file import read_json
from geosearch.errors import ModelError, WeightsError
from geosearch.nadir.fourier import NadirShape
from geosearch.nadir.model import NadirModel
from geosearch.nadir.salad import SaladShape
from geosearch.nadir.shape_checks import check_patches
from geosearch.nadir.tower_timm import check_name
from geosearch.nadir.towers import Tower, timm_tower, tower_of
from geosearch.whole_files import write_whole

CONFIG, WEIGHTS = "nadir.json", "model.safetensors"
TOWERS = {"timm": {"kind", "model"}, "open_clip": {"kind", "embed_dim", "vision_cfg", "quick_gelu"}}
S = TypeVar("S", SaladShape, NadirShape)


def build(config: dict[str, Any]) -> NadirModel:
    """Return the network that a configuration describes, with random weights.

    Raises ModelError for a key that is missing or wrong, for a tower that does not take pictures of the size, and where
    they have no more patches than SALAD has clusters.
    """
    for key in ("tower", "picture", "salad", "nadir"):
        if not isinstance(config.get(key), dict):
            raise ModelError(f"a nadir-aware model needs {key} as an object of keys, it is {config.get(key)!r}")
    nadir_picture.check(config["picture"])
    salad, nadir = _shape(SaladShape, "salad", config["salad"]), _shape(NadirShape, "nadir", config["nadir"])
    tower = _tower(config["tower"])
    check_patches(tower.patches(*config["picture"]["size"]), salad.clusters)
    return NadirModel(tower, salad, nadir)


def read_config(folder: Path, remedy: str = "") -> dict[str, Any]:
    """Return a folder's nadir.json. Raises WeightsError where it is missing, ModelError where it is something else.

    remedy: how to get the folder, for the message. What the keys hold is checked by `build`.
    """
    path = folder / CONFIG
    config = read_json(path, remedy or "give the folder of a nadir-aware model")
    if not isinstance(config, dict) or config.get("family") != "nadir":
        raise ModelError(f"{path}: family must be nadir; this is no folder of a nadir-aware model")
    return config


def write_folder(folder: Path, model: NadirModel, config: dict[str, Any]) -> None:
    """Write a trained model: its weights in half precision, its buffers as they are, and nadir.json.

    Raises ModelError where a weight is not finite in half precision.
    """
    from safetensors.torch import save

    weights = dict(model.named_parameters())
    stated = {**config, "family": "nadir", "salad": asdict(model.salad.shape), "nadir": asdict(model.nadir.shape)}
    tensors = {
        # Buffers stay exact: in half precision the waves of the nadir would be up to 0.014 radians out of phase.
        k: (v.detach().cpu().half() if k in weights else v.detach().cpu()).contiguous()
        for k, v in model.state_dict().items()
    }
    _check_finite(tensors, folder, "train again with a lower learning rate")
    folder.mkdir(parents=True, exist_ok=True)
    # Not save_file, which leaves a file that only its owner may read.
    write_whole(folder / WEIGHTS, save(tensors, metadata={"format": "pt"}))
    write_whole(folder / CONFIG, (json.dumps(stated, indent=2) + "\n").encode())


def load_weights(model: NadirModel, path: Path) -> NadirModel:
    """Return the model with the weights of a file of safetensors, on the CPU, in float32 and ready to encode.

    Raises WeightsError where the file is missing, ModelError where it is no safetensors file, belongs to a model of
    another shape or holds numbers that are not finite.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except FileNotFoundError as error:
        raise WeightsError(f"there is no {path}; give the weights of the model, a file of safetensors") from error
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: cannot be read as safetensors ({error}); give the weights in that form") from error
    wanted = model.state_dict()
    for name in dict.fromkeys([*wanted, *tensors]):
        theirs, ours = (tuple(some[name].shape) if name in some else "missing" for some in (tensors, wanted))
        if theirs != ours:
            raise ModelError(
                f"{path}: belongs to another model: {name} is {theirs} in the file and {ours} in the configuration; "
                "put the file and the configuration together that were written together"
            )
    _check_finite(tensors, path, "write the file again")
    model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()})
    return model.eval().requires_grad_(False)


def _check_finite(tensors: dict[str, Tensor], where: Path, remedy: str) -> None:
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            raise ModelError(f"{where}: {name} holds numbers that are not finite; {remedy}")


def _shape(kind: type[S], key: str, given: dict[str, Any]) -> S:
    known = {field.name for field in fields(kind)}
    if set(given) != known:
        wrong = ", ".join(sorted(set(given) ^ known))
        raise ModelError(f"{key}: missing or unknown: {wrong}; it must have {', '.join(sorted(known))}")
    return kind(**given)


def _tower(config: dict[str, Any]) -> Tower:
    strange = set(config) - TOWERS.get(str(config.get("kind")), set(config))
    if strange:
        raise ModelError(
            f"tower: {', '.join(sorted(strange))} is no key of a tower of kind {config['kind']}; leave it out"
        )
    if config.get("kind") == "timm" and isinstance(config.get("model"), str):
        return timm_tower(config["model"])
    if (
        config.get("kind") == "open_clip"
        and isinstance(config.get("vision_cfg"), dict)
        and isinstance(config.get("quick_gelu", False), bool)
    ):
        return _open_clip(config)
    raise ModelError(
        'tower must be {"kind": "timm", "model": …} or {"kind": "open_clip", "embed_dim": …, "vision_cfg": …, '
        f'"quick_gelu": true or false}}, it is {config!r}'
    )


def _open_clip(config: dict[str, Any]) -> Tower:
    from open_clip.model import _build_vision_tower

    vision = {**deepcopy(config["vision_cfg"]), "timm_model_pretrained": False}
    if vision.get("timm_model_name") is not None:
        check_name(str(vision["timm_model_name"]))
    try:
        with torch.device("cpu"):
            visual = _build_vision_tower(int(config["embed_dim"]), vision, config.get("quick_gelu", False))
    except Exception as error:  # of open_clip, timm and torch, for keys and values that fit nothing
        raise ModelError(f"tower: open_clip cannot build it ({type(error).__name__}: {error})") from error
    return tower_of(visual)
