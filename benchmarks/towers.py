"""Times image towers small enough for mini-clip: one forward and backward pass of 128 pictures of 64 × 64 on the CPU.

    python benchmarks/towers.py [--repeats 5]

The least of the repeats, in bfloat16, with channels last.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded, as the command line does

import torch
from open_clip.model import CLIP

from geosearch.training.clip import MODEL_CONFIG

CHOSEN = "OpenCLIP ResNet 1-2-2-1, width 32 (chosen)"
TOWERS: dict[str, dict[str, Any]] = {
    CHOSEN: MODEL_CONFIG["vision_cfg"],
    "OpenCLIP ResNet 1-1-1-1, width 32": {"layers": [1, 1, 1, 1], "width": 32, "head_width": 32},
    "OpenCLIP ResNet 1-2-2-1, width 48": {"layers": [1, 2, 2, 1], "width": 48, "head_width": 32},
    "ViT, patch 16, width 192, 6 layers": {"patch_size": 16, "width": 192, "layers": 6, "head_width": 32},
    "ViT, patch 8, width 192, 6 layers": {"patch_size": 8, "width": 192, "layers": 6, "head_width": 32},
    "ConvNeXt V2 atto (timm)": {"timm_model_name": "convnextv2_atto", "timm_pool": "avg", "timm_proj": "linear"},
    "ResNet-10t (timm)": {"timm_model_name": "resnet10t", "timm_pool": "avg", "timm_proj": "linear"},
    "ResNet-18 (timm)": {"timm_model_name": "resnet18", "timm_pool": "avg", "timm_proj": "linear"},
}


def seconds(tower: torch.nn.Module, pictures: torch.Tensor, repeats: int) -> float:
    """Return the least time of a forward and backward pass, after one that is not counted."""
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            vectors = tower(pictures)
        vectors.float().square().mean().backward()
        times.append(time.perf_counter() - began)
    return min(times[1:])


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="counted passes a tower")
    repeats = parser.parse_args().repeats
    pictures = torch.rand(128, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    print(f"{torch.get_num_threads()} threads\n")
    print("| image tower | weights | seconds | times the chosen |\n|---|---|---|---|")
    first = 0.0
    for name, config in TOWERS.items():
        model = CLIP(embed_dim=256, vision_cfg={"image_size": 64, **config}, text_cfg=MODEL_CONFIG["text_cfg"])
        tower = model.visual.to(memory_format=torch.channels_last)
        weights = sum(p.numel() for p in tower.parameters()) / 1e6
        took = seconds(tower, pictures, repeats)
        first = first or took
        print(f"| {name} | {weights:.1f} M | {took:.2f} | {took / first:.1f} |", flush=True)


if __name__ == "__main__":
    main()
