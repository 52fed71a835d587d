"""What an OpenCLIP model is: its configuration, weights, preprocessing and identity, before anything is built."""

from __future__ import annotations

import difflib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geosearch.encoders import pictures, tokenizer, weights
from geosearch.encoders.base import ModelInfo
from geosearch.encoders.file_options import NORMS
from geosearch.encoders.names import unknown
from geosearch.encoders.spec import Spec
from geosearch.errors import ModelError, WeightsError

CONFIG = "open_clip_config.json"


@dataclass(frozen=True)
class Plan:
    """What is to be built: all of it known before a weight is read."""

    spec: Spec
    path: Path
    config: dict[str, Any]
    preprocess: dict[str, Any]
    quick_gelu: bool
    info: ModelInfo


def plan(spec: Spec) -> Plan:
    """Find a model's weights and state its identity, without building it.

    Raises WeightsError, ModelError, UnknownNameError.
    """
    if spec.folder is not None:
        config, tag = _folder_config(spec), None
        stated = config.get("preprocess_cfg") or {}
        if not stated.get("mean") or not stated.get("std"):
            raise ModelError(
                f"{spec.name}: preprocess_cfg in {spec.folder / CONFIG} must state mean and std; "
                "without them OpenAI's would be taken silently"
            )
    else:
        config, tag = _known_config(spec)
        stated = dict(tag or {}) if spec.family == "open_clip" else _openai_norm()
        stated.update(spec.options)
    path = weights.find(spec, tag)
    model_cfg = config["model_cfg"]
    size = (stated.get("size") if spec.folder else None) or model_cfg["vision_cfg"].get("image_size", 224)
    size = [size, size] if isinstance(size, int) else list(size)
    preprocess = {
        "size": size,
        "mean": [float(x) for x in stated["mean"]],
        "std": [float(x) for x in stated["std"]],
        "interpolation": stated.get("interpolation") or "bicubic",
        "resize_mode": stated.get("resize_mode") or "shortest",
        "fill_color": int(stated.get("fill_color") or 0),
    }
    # The tag knows how it was trained; open_clip would only warn that the architecture's name says otherwise.
    quick_gelu = bool(stated.get("quick_gelu") or model_cfg.get("quick_gelu"))
    digest = weights.sha256(path)
    info = ModelInfo(
        name=spec.name,
        family=spec.family,
        revision=spec.tag or (weights.REMOTECLIP_HUB if spec.family == "remoteclip" and not spec.file else digest[:12]),
        weights_sha256=digest,
        dimension=int(model_cfg["embed_dim"]),
        metric="cosine",
        reads=frozenset({"image", "text"}),
        preprocessing={
            **preprocess,
            "quick_gelu": quick_gelu,
            "pictures": pictures.RULES,
            "architecture": spec.architecture or _digest(json.dumps(model_cfg, sort_keys=True).encode()),
            **_tokenizer_identity(spec, config),
        },
    )
    return Plan(spec, path, config, preprocess, quick_gelu, info)


def _folder_config(spec: Spec) -> dict[str, Any]:
    assert spec.folder is not None
    path = spec.folder / CONFIG
    try:
        config = json.loads(path.read_text("utf-8"))
        model_cfg = config["model_cfg"]
        if not all(key in model_cfg for key in ("embed_dim", "vision_cfg", "text_cfg")):
            raise KeyError("embed_dim, vision_cfg or text_cfg")
    except FileNotFoundError as error:
        remedy = "" if spec.family == "open_clip" else " Reinstall geosearch, or train it: `geosearch train clip`."
        raise WeightsError(f"{spec.name}: there is no {path}.{remedy}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: is no open_clip configuration (wrong or missing: {error})") from error
    return dict(config)


def _known_config(spec: Spec) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return ({"model_cfg": …}, the tag's entry) of an architecture of open_clip."""
    weights.offline()
    import open_clip

    architectures = open_clip.list_models()
    if spec.architecture not in architectures:
        close = difflib.get_close_matches(str(spec.architecture), architectures, 3)
        raise unknown(spec.name, [f"open_clip:{a}/…" for a in close])
    config = {"model_cfg": open_clip.get_model_config(spec.architecture)}
    if spec.tag is None:
        return config, None
    tags = open_clip.list_pretrained_tags_by_model(spec.architecture)
    tag = open_clip.get_pretrained_cfg(spec.architecture, spec.tag)
    if not tag:
        close = difflib.get_close_matches(spec.tag, tags, 5, 0.0)
        raise unknown(spec.name, [f"open_clip:{spec.architecture}/{t}" for t in close])
    return config, tag


def _openai_norm() -> dict[str, Any]:
    # RemoteCLIP was trained from OpenAI's weights with their normalisation.
    mean, std = NORMS["openai"]
    return {"mean": mean, "std": std}


def _tokenizer_identity(spec: Spec, config: dict[str, Any]) -> dict[str, str]:
    if not spec.folder or tokenizer.KEY not in config:
        return {}
    merges = spec.folder / Path(str(config[tokenizer.KEY].get("merges", ""))).name
    if not merges.is_file():
        raise ModelError(f"{spec.folder}: the tokenizer's file {merges.name!r} is not in the folder; copy it there")
    return {"tokenizer": _digest(merges.read_bytes())}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
