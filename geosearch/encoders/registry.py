"""The registry: models by name. See `names` for what a name may be; `Family` is what a family of names brings."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from geosearch.encoders import (
    features,
    location_names,
    locations,
    nadir,
    nadir_names,
    nadir_plan,
    openclip,
    openclip_plan,
    weights,
)
from geosearch.encoders.base import Encoder, ModelInfo
from geosearch.encoders.names import FEATURES, MINI_CLIP, REMOTECLIP, parse
from geosearch.encoders.spec import Spec
from geosearch.errors import ModelError, WeightsError

_loaded: dict[tuple[str, str, str, str], Encoder] = {}
_lock = threading.Lock()


@dataclass(frozen=True)
class Family:
    """A kind of models. plan: finds the weights and states `.info`, without building; build: of a plan and a device."""

    plan: Callable[[Spec], Any]
    build: Callable[[Any, str], Encoder]


OPENCLIP = Family(openclip_plan.plan, openclip.OpenClipEncoder)
TOWERS = Family(features.plan, features.FeaturesEncoder)
LOCATIONS = Family(locations.plan, locations.build)
NADIRS = Family(nadir_plan.plan, nadir.NadirAwareEncoder)
FAMILIES = {MINI_CLIP: OPENCLIP, "remoteclip": OPENCLIP, "open_clip": OPENCLIP, FEATURES: TOWERS,
            **dict.fromkeys(location_names.FAMILIES, LOCATIONS),
            **dict.fromkeys(nadir_names.FAMILIES, NADIRS)}  # fmt: skip


@dataclass(frozen=True)
class ModelEntry:
    """A line of the list of models: available says whether its weights are on this machine."""

    name: str
    family: str
    dimension: int | None
    reads: str
    available: bool


def list_models(tags: bool = False) -> list[ModelEntry]:
    """Return the models that can be loaded by name: geosearch's own, RemoteCLIP, OpenCLIP's, location encoders.

    tags: every tag of open_clip (some 200); otherwise only those whose weights are here.
    """
    weights.offline()
    import open_clip

    specs: list[tuple[Spec, dict[str, Any] | None]] = [(parse(MINI_CLIP), None)]
    specs += [(parse(f"remoteclip:{architecture}"), None) for architecture in REMOTECLIP]
    specs += [
        (parse(f"open_clip:{architecture}/{tag}"), open_clip.get_pretrained_cfg(architecture, tag))
        for architecture, tag in open_clip.list_pretrained()
    ]
    entries = [_entry(spec, tag) for spec, tag in specs]
    entries[1:1] = [_tower(parse(f"{FEATURES}:{MINI_CLIP}"), entries[0]), _nadir(parse(nadir_names.MINI_NADIR))]
    entries += [_location(spec) for spec in locations.specs()]
    return [entry for entry in entries if tags or entry.available or entry.family != "open_clip"]


def describe(name: str) -> ModelInfo:
    """Return a model's identity without building it; its weights must be here (or downloads allowed).

    Raises UnknownNameError with the names that exist, WeightsError with the way to get the weights.
    """
    spec = parse(name)
    info: ModelInfo = FAMILIES[spec.family].plan(spec).info
    return info


def load(
    name: str,
    device: str | None = None,
    *,
    weights_sha256: str | None = None,
    preprocessing: dict[str, Any] | None = None,
) -> Encoder:
    """Return the encoder of that name, loaded once a process and device.

    device: "cpu", "cuda", "cuda:1", "mps"; None or "auto": the best there is, or the setting.
    weights_sha256, preprocessing: what a space has recorded; ModelError when the model here is another.
    Raises UnknownNameError, WeightsError, ModelError.
    """
    where = pick_device(device)
    with _lock:  # one build at a time: two threads that ask for a model share it
        spec = parse(name)
        family = FAMILIES[spec.family]
        built = family.plan(spec)
        if not built.info.same_as(weights_sha256, preprocessing):
            raise ModelError(_differs(built.info, weights_sha256))
        # The weights and the configuration of a folder may change while a process lives.
        key = (built.info.name, built.info.weights_sha256, json.dumps(built.info.preprocessing), where)
        if key not in _loaded:
            _loaded[key] = family.build(built, where)
        return _loaded[key]


def pick_device(device: str | None = None) -> str:
    """Return the device to use: the one named, the setting, or the best there is. Raises ModelError if it is absent."""
    import torch

    from geosearch.settings import settings

    wanted = device or settings().device
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if wanted == "auto":
        return "cuda" if cuda else "mps" if mps else "cpu"
    try:
        kind = torch.device(wanted)
    except RuntimeError as error:
        raise ModelError(f"{wanted!r} is no device; use auto, cpu, cuda, cuda:1 or mps") from error
    missing = (kind.type == "cuda" and (not cuda or (kind.index or 0) >= torch.cuda.device_count())) or (
        kind.type == "mps" and not mps
    )
    if missing:
        raise ModelError(f"there is no device {wanted!r} here; use cpu, or auto to take the best there is")
    return wanted


def _entry(spec: Spec, tag: dict[str, Any] | None) -> ModelEntry:
    import open_clip

    try:
        available = weights.find_local(spec, tag) is not None
    except WeightsError:
        available = False
    if spec.folder is not None:
        try:
            dimension = int(openclip_plan.plan(spec).info.dimension)
        except (ModelError, WeightsError):
            dimension, available = None, False
    else:
        dimension = int(open_clip.get_model_config(spec.architecture)["embed_dim"])
    return ModelEntry(spec.name, spec.family, dimension, "image, text", available)


def _tower(spec: Spec, whole: ModelEntry) -> ModelEntry:
    dimension = int(features.plan(spec).info.dimension) if whole.available else None
    return replace(whole, name=spec.name, family=spec.family, dimension=dimension, reads="image")


def _nadir(spec: Spec) -> ModelEntry:
    try:
        dimension = int(nadir_plan.plan(spec).info.dimension)
    except (ModelError, WeightsError):
        dimension = None
    return ModelEntry(spec.name, spec.family, dimension, "image, place", dimension is not None)


def _location(spec: Spec) -> ModelEntry:
    dimension = locations.dimension(spec)
    available = dimension is not None and (spec.published is None or weights.find_local(spec) is not None)
    return ModelEntry(spec.name, spec.family, dimension, "place", available)


def _differs(info: ModelInfo, weights_sha256: str | None) -> str:
    if weights_sha256 not in (None, info.weights_sha256):
        what = f"weights {str(weights_sha256)[:12]}…, the model here has {info.weights_sha256[:12]}…"
    else:
        what = "another preprocessing than the model here has"
    return (
        f"{info.name}: the space was made with {what}. Vectors of two models cannot be compared: make a new space "
        "(`geosearch space create`) and embed into it, or put the old weights back"
    )
