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
    config = _of_folder(spec) if spec.folder is not None else _of_name(spec)
    path = weights.find(spec)
    if path.suffix != ".safetensors":
        raise WeightsError(f"{spec.name}: {path.name} is no .safetensors, the only kind that such a model is read from")
    picture = config["picture"]
    size = picture["size"]
    preprocess = {
        "size": [size, size] if isinstance(size, int) else list(size),
        "mean": [float(x) for x in picture["mean"]],
        "std": [float(x) for x in picture["std"]],
        "interpolation": picture.get("interpolation") or "bicubic",
        "resize_mode": picture.get("resize_mode") or "shortest",
        "fill_color": int(picture.get("fill_color") or 0),
    }
    digest = weights.sha256(path)
    info = ModelInfo(
        name=spec.name,
        family=FAMILY,
        revision=digest[:12],
        weights_sha256=digest,
        dimension=_dimension(config),
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


def _of_folder(spec: Spec) -> dict[str, Any]:
    from geosearch.encoders import nadir_folder

    assert spec.folder is not None
    path = spec.folder / nadir_folder.CONFIG
    try:
        config = json.loads(path.read_text("utf-8"))
        missing = [key for key in ("tower", "picture", "salad", "nadir") if key not in config]
    except FileNotFoundError as error:
        remedy = "reinstall geosearch" if spec.family.startswith("mini-") else "give the folder of a trained model"
        raise WeightsError(f"{spec.name}: there is no {path}; {remedy}") from error
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path}: cannot be read as JSON ({error}); write it again") from error
    if missing:
        raise ModelError(f"{path}: says nothing of {', '.join(missing)}; it is no nadir-aware model's")
    return dict(config)


def _of_name(spec: Spec) -> dict[str, Any]:
    """Return the configuration of a tower of timm with SALAD's size from the name and a nadir's encoder as it is."""
    from geosearch.nadir.fourier import NadirShape
    from geosearch.nadir.salad import SHAPES

    options = dict(spec.options)
    shape = SHAPES[options.pop("salad")]
    return {
        "family": FAMILY,
        "tower": {"kind": "timm", "model": spec.architecture},
        "picture": options,
        "salad": asdict(shape),
        "nadir": asdict(NadirShape()),
    }


def _dimension(config: dict[str, Any]) -> int:
    from geosearch.nadir.fourier import NadirShape
    from geosearch.nadir.salad import SaladShape

    try:
        return SaladShape(**config["salad"]).dimension + NadirShape(**config["nadir"]).dimension
    except TypeError as error:
        raise ModelError(f"this model's configuration has shapes of another kind ({error}); write it again") from error


def _tower(config: dict[str, Any]) -> str:
    if config.get("kind") == "timm":
        return str(config.get("model"))
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]
