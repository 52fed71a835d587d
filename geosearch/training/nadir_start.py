"""What a run begins from, by name: an image tower that knows pictures already, and the rest with random weights.

mini-clip, remoteclip:…, open_clip:…     the image tower of an OpenCLIP model (see `encoders.names`)
timm:NAME, timm:NAME/file:PATH           a network of timm, with its published weights or those of a file
mini-nadir, nadir:…                      a nadir-aware model as a whole, to go on from
"""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from geosearch.encoders import nadir, nadir_names, nadir_plan, registry, weights
from geosearch.encoders.names import FEATURES, parse
from geosearch.encoders.spec import Spec
from geosearch.errors import InputError, ModelError
from geosearch.nadir.fourier import NadirShape
from geosearch.nadir.model import NadirModel
from geosearch.nadir.salad import SHAPES, SaladShape
from geosearch.nadir.shape_checks import check_patches
from geosearch.nadir.towers import Tower, timm_tower, tower_of

TIMM = "timm:"
MINI_SIZE, MINI_SHAPE = 96, SaladShape(16, 32, 256, 512, 0.1)  # mini-nadir: 36 patches of mini-clip's tower
SIZE = 224  # of towers of timm, which take other multiples of their patch as well

Config = dict[str, Any]


def shape_of(text: str) -> SaladShape:
    """Return SALAD's shape: small, base, large, full, or clusters × numbers of each + global, as 16x32+256."""
    if text in SHAPES:
        return SHAPES[text]
    match = re.fullmatch(r"(\d+)[x×](\d+)\+(\d+)", text)
    if not match:
        raise InputError(
            f"SALAD's shape {text!r} is none of {', '.join(SHAPES)}, nor clusters x numbers + global as 16x32+256"
        )
    clusters, cluster, whole = map(int, match.groups())
    return SaladShape(clusters, cluster, whole, dropout=MINI_SHAPE.dropout)


def begin(name: str, seed: int, size: int | None = None, salad: SaladShape | None = None) -> tuple[NadirModel, Config]:
    """Return the model that a run starts with, on the CPU, and its configuration as in nadir.json.

    seed: of the random weights. size: pixels a side; salad: the shape; None for either: what suits the tower. Raises
    ModelError, WeightsError, UnknownNameError, and InputError for another shape or size of a model that has its own.
    """
    if nadir_names.is_nadir(name):
        return _go_on(name, size, salad)
    tower, facts, picture = _timm(name) if name.startswith(TIMM) else _open_clip(name)
    mini = name == registry.MINI_CLIP
    side = size or (MINI_SIZE if mini else picture["size"][0])
    shape = salad or (MINI_SHAPE if mini else SHAPES["small"])
    if facts["kind"] == "open_clip":
        facts["vision_cfg"]["image_size"] = side
    check_patches(tower.patches(side, side), shape.clusters)
    torch.manual_seed(seed)
    model = NadirModel(tower.float(), shape, NadirShape()).to(memory_format=torch.channels_last)
    config = {
        "tower": facts,
        "picture": {**picture, "size": [side, side]},
        "salad": asdict(shape),
        "nadir": asdict(NadirShape()),
    }
    return model, config


def _go_on(name: str, size: int | None, salad: SaladShape | None) -> tuple[NadirModel, Config]:
    plan = nadir_plan.plan(parse(name))
    config = deepcopy(plan.config)
    side = config["picture"]["size"]
    if size not in (None, side[0]) or (salad is not None and asdict(salad) != config["salad"]):
        raise InputError(f"{name} has its own size and shape of SALAD; leave --size and --shape out, or take its tower")
    model = nadir.network(plan)
    return model.requires_grad_(True).to(memory_format=torch.channels_last), config


def _open_clip(name: str) -> tuple[Tower, Config, Config]:
    if name.startswith(f"{FEATURES}:"):
        raise ModelError(f"{name}: name the model itself, {name.removeprefix(FEATURES + ':')}; its tower is taken")
    encoder: Any = registry.load(name, "cpu")
    plan = getattr(encoder, "plan", None)
    if plan is None or "model_cfg" not in getattr(plan, "config", {}):
        raise ModelError(f"{name} has no image tower; name mini-clip, remoteclip:…, open_clip:… or timm:…")
    cfg = plan.config["model_cfg"]
    facts = {"kind": "open_clip", "embed_dim": cfg["embed_dim"], "vision_cfg": deepcopy(cfg["vision_cfg"])}
    if plan.quick_gelu:
        facts["quick_gelu"] = True
    # Of the encoder nothing is changed: it is kept for whoever else loads it.
    tower = tower_of(deepcopy(encoder._model.visual)).requires_grad_(True)
    return tower, facts, _picture(plan.preprocess)


def _timm(name: str) -> tuple[Tower, Config, Config]:
    model, _, source = name.removeprefix(TIMM).partition("/")
    if source and not source.startswith("file:"):
        raise ModelError(f"{name}: after the name of timm comes nothing, or /file: and the path of its weights")
    tower = timm_tower(model)  # that the name is right, before anything is looked for
    file = Path(source.removeprefix("file:")).expanduser() if source else None
    if file is None:
        file = weights.find(Spec(name, "open_clip", model, "timm"), {"hf_hub": f"timm/{model}/model.safetensors"})
    tower = timm_tower(model, file)
    own = tower.trunk.pretrained_cfg
    stated = {"size": [SIZE, SIZE], "mean": list(own["mean"]), "std": list(own["std"])}
    return tower, {"kind": "timm", "model": model}, _picture({**stated, "interpolation": own.get("interpolation")})


def _picture(stated: Config) -> Config:
    return {
        "size": list(stated["size"]),
        "mean": [float(x) for x in stated["mean"]],
        "std": [float(x) for x in stated["std"]],
        "interpolation": stated.get("interpolation") or "bicubic",
        "resize_mode": "shortest",  # what `nadir_ground` does to its pictures
    }
