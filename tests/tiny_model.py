"""A tiny OpenCLIP folder with random weights and vocabulary: the code path of `mini-clip`, without its weights."""

from __future__ import annotations

import gzip
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

MERGES = 600
VOCABULARY = 256 + 256 + MERGES + 2


def config(size: int = 32, embed_dim: int = 24) -> dict[str, Any]:
    return {
        "model_cfg": {
            "embed_dim": embed_dim,
            "vision_cfg": {"image_size": size, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
            "text_cfg": {"context_length": 16, "vocab_size": VOCABULARY, "width": 32, "heads": 2, "layers": 2},
        },
        "preprocess_cfg": {
            "size": [size, size],
            "mean": [0.30, 0.35, 0.40],
            "std": [0.20, 0.21, 0.22],
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
        "geosearch_tokenizer": {"merges": "merges.txt.gz", "context_length": 16},
    }


def write_model(folder: Path, seed: int = 0, **facts: Any) -> str:
    """Write a model folder and return the name by which it loads."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps(config(**facts)))
    write_merges(folder / "merges.txt.gz")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
        # A random class token drowns the picture: without this every picture would look the same.
        for name, parameter in model.named_parameters():
            if "class_embedding" in name:
                parameter.data.zero_()
    save_file({k: v.half().contiguous() for k, v in model.state_dict().items()}, folder / "model.safetensors")
    return f"open_clip:local-dir:{folder}"


def write_merges(path: Path, count: int = MERGES) -> None:
    """Write the first merges of CLIP's own vocabulary."""
    spec = find_spec("open_clip")
    assert spec is not None
    assert spec.origin is not None
    with gzip.open(Path(spec.origin).parent / "bpe_simple_vocab_16e6.txt.gz", "rt", encoding="utf-8") as file:
        lines = [next(file) for _ in range(1 + count)]
    path.write_bytes(gzip.compress("".join(lines).rstrip("\n").encode(), mtime=0))


def nadir_config(size: int = 64, clusters: int = 4) -> dict[str, Any]:
    """Return what nadir.json says of a tiny nadir-aware model: 48 + 12 numbers."""
    vision = {"image_size": size, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32}
    return {
        "family": "nadir",
        "tower": {"kind": "open_clip", "embed_dim": 24, "vision_cfg": vision},
        "picture": {**config(size)["preprocess_cfg"]},
        "salad": {"clusters": clusters, "cluster_dim": 8, "global_dim": 16, "hidden": 16, "dropout": 0.1},
        "nadir": {"frequencies": 16, "lowest": 1.0, "highest": 8.0, "hidden": 16, "dimension": 12},
    }


def write_nadir_model(folder: Path, seed: int = 0, scale: float = 0.5, **facts: Any) -> str:
    """Write a folder with a tiny nadir-aware model of random weights and return the name by which it loads."""
    import math

    import torch

    from geosearch.encoders.nadir_folder import build, write_folder

    stated = nadir_config(**facts)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build(stated)
        model.fusion.log_scale.data.fill_(math.log(scale))
    write_folder(folder, model, stated)
    return f"nadir:local-dir:{folder}"
