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
