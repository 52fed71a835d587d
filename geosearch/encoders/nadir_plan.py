"""What a nadir-aware model is: its configuration, weights, preprocessing and identity, before anything is built."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from geosearch.encoders import pictures, weights
from geosearch.encoders.base import ModelInfo
from geosearch.encoders.spec import Spec
from geosearch.errors import ModelError, WeightsError

FAMILY = "nadir"
READS = frozenset({"image", "place"})


@dataclass(frozen=True)
class NadirPlan:
    """What is to be built. config: as in nadir.json; preprocess: what is done to pictures, as open_clip names it."""

    spec: Spec
    path: Path
    config: dict[str, Any]
    preprocess: dict[str, Any]
    info: ModelInfo


def plan(spec: Spec) -> NadirPlan:
    """Find a model's weights and state its identity, without building it. Raises WeightsError, ModelError."""
    from geosearch.encoders import nadir_folder

    if spec.folder is not None:
        remedy = "reinstall geosearch" if spec.family.startswith("mini-") else "give the folder of a trained model"
        config = nadir_folder.read_config(spec.folder, remedy)
    else:
        config = _of_name(spec)
    path = weights.find(spec)
    if path.suffix != ".safetensors":
        raise WeightsError(f"{spec.name}: {path.name} is no .safetensors, the only kind that such a model is read from")
    try:
        dimension = _dimension(config)
    except (ModelError, TypeError) as error:  # a key that a shape does not know, or lacks
        raise ModelError(f"{spec.name}: {error}") from error
    picture = config["picture"]
    preprocess = {
        "size": list(picture["size"]),
        "mean": [float(x) for x in picture["mean"]],
        "std": [float(x) for x in picture["std"]],
        "interpolation": picture["interpolation"],
        "resize_mode": picture["resize_mode"],
        "fill_color": int(picture.get("fill_color") or 0),
    }
    digest = weights.sha256(path)
    info = ModelInfo(
        name=spec.name,
        family=FAMILY,
        revision=digest[:12],
        weights_sha256=digest,
        dimension=dimension,
        metric="cosine",
        reads=READS,
        preprocessing={
            **preprocess,
            "pictures": pictures.RULES,
            "tower": _tower(config["tower"]),
            "salad": config["salad"],
            "nadir": config["nadir"],
        },
        needs=frozenset({"image"}),
    )
    return NadirPlan(spec, path, config, preprocess, info)


def _of_name(spec: Spec) -> dict[str, Any]:
    """Return the configuration of a tower of timm with SALAD's size from the name and a nadir's encoder as it is."""
    from geosearch.nadir.fourier import NadirShape
    from geosearch.nadir.salad import SHAPES

    options = {"interpolation": "bicubic", "resize_mode": "shortest", **spec.options}
    shape, side = SHAPES[options.pop("salad")], options.pop("size")
    return {
        "family": FAMILY,
        "tower": {"kind": "timm", "model": spec.architecture},
        "picture": {"size": [side, side], **options},
        "salad": asdict(shape),
        "nadir": asdict(NadirShape()),
    }


def _dimension(config: dict[str, Any]) -> int:
    """Return the numbers of a vector; ModelError or TypeError where a configuration is wrong as far as is needed here.

    What else may be wrong is found when the model is built.
    """
    from geosearch.encoders import nadir_picture
    from geosearch.nadir.fourier import NadirShape
    from geosearch.nadir.salad import SaladShape

    for key in ("tower", "picture", "salad", "nadir"):
        if not isinstance(config.get(key), dict):
            raise ModelError(f"{key} must be an object of keys, it is {config.get(key)!r}")
    nadir_picture.check(config["picture"])
    return SaladShape(**config["salad"]).dimension + NadirShape(**config["nadir"]).dimension


def _tower(config: dict[str, Any]) -> str:
    if config.get("kind") == "timm":
        return str(config.get("model"))
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]
