"""Train mini-clip: a small OpenCLIP model that knows Blue Marble's ground from above, from aside and by words."""

from __future__ import annotations

import gzip
import json
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from geosearch.errors import InputError
from geosearch.training.averages import follow
from geosearch.training.contrast import info_nce, multi_positive
from geosearch.training.rates import plateau
from geosearch.training.run_files import append_record, save_checkpoint
from geosearch.training.views import Batch, Views

MEAN, STD = (0.36, 0.37, 0.36), (0.26, 0.26, 0.27)
RUN = "run"  # the checkpoint and the log lie apart from the finished model, whose folder can be copied as it is
MERGES, CONTEXT = 1486, 24  # 512 bytes and byte ends, these merges, start and end: 2 000 tokens
MODEL_CONFIG: dict[str, Any] = {
    "embed_dim": 256,
    "vision_cfg": {"image_size": 64, "layers": [1, 2, 2, 1], "width": 32, "head_width": 32},
    "text_cfg": {"context_length": CONTEXT, "vocab_size": 514 + MERGES, "width": 192, "heads": 4, "layers": 3},
}


@dataclass(frozen=True)
class Options:
    """What a run is made of; two runs with the same options on the same machine see the same batches."""

    steps: int = 3600
    batch: int = 192
    learning_rate: float = 8e-4
    weight_decay: float = 0.05
    warmup: int = 200
    decay: float = 0.25  # the share of the steps, at the end, over which the learning rate falls to nothing
    text_weight: float = 0.5
    average: float = 0.998  # exponential average of the weights, which is what is kept
    seed: int = 20

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: warm-up, plateau, then a fall along 1 − √x."""
        return plateau(step, self.steps, self.learning_rate, self.warmup, self.decay)


def train(
    out: Path,
    options: Options,
    device: str = "cpu",
    every: int = 250,
    report: Callable[[dict[str, float]], None] = lambda _: None,
) -> None:
    """Train, or go on from ``out/run/checkpoint.pt``, and leave an open_clip folder in ``out``.

    A checkpoint is written every ``every`` steps, whole or not at all. Options may change between runs.
    """
    (out / RUN).mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    model = build().to(device).to(memory_format=torch.channels_last)
    pair_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07), device=device))
    average = deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(
        _groups(model, pair_scale, options.weight_decay), betas=(0.9, 0.98), eps=1e-6, fused=True
    )
    step, spent = _resume(out, model, average, pair_scale, optimizer)
    tokenize = write_tokenizer(out)
    began = time.monotonic()
    sums: dict[str, float] = {}
    for batch in _batches(options, step, options.steps - step):
        for group in optimizer.param_groups:
            group["lr"] = options.rate(step)
        losses = _step(model, pair_scale, optimizer, batch, tokenize, options, device)
        step += 1
        follow(average, model, min(options.average, step / (step + 10)))
        for key, value in losses.items():
            sums[key] = sums.get(key, 0.0) + value
        if step % 50 == 0:
            record = {"step": step, "seconds": spent + time.monotonic() - began, **{k: v / 50 for k, v in sums.items()}}
            sums = {}
            append_record(out / RUN / "log.jsonl", record)
            report(record)
        if step % every == 0 or step == options.steps:
            state = {
                "model": model.state_dict(),
                "average": average.state_dict(),
                "pair_scale": pair_scale.detach(),
                "optimizer": optimizer.state_dict(),
                "step": step,
                "seconds": spent + time.monotonic() - began,
                "options": asdict(options),
            }
            save_checkpoint(out / RUN / "checkpoint.pt", state)
            write_weights(average, out)


def build() -> nn.Module:
    """Return the untrained model."""
    from open_clip.model import CLIP

    return CLIP(**deepcopy(MODEL_CONFIG))


def write_tokenizer(out: Path) -> Callable[[list[str]], Tensor]:
    """Write the configuration and the vocabulary, the first merges of CLIP's own (MIT); return the tokenizer."""
    from open_clip.tokenizer import SimpleTokenizer

    spec = find_spec("open_clip")
    if spec is None or spec.origin is None:
        raise InputError("open_clip is not installed; get it with: pip install open_clip_torch")
    with gzip.open(Path(spec.origin).parent / "bpe_simple_vocab_16e6.txt.gz", "rt", encoding="utf-8") as file:
        lines = [next(file) for _ in range(MERGES + 1)]
    # mtime=0 and no name: the same bytes from every run
    (out / "merges.txt.gz").write_bytes(gzip.compress("".join(lines).rstrip("\n").encode(), mtime=0))
    config = {
        "model_cfg": MODEL_CONFIG,
        "preprocess_cfg": {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "shortest"},
        "geosearch_tokenizer": {"merges": "merges.txt.gz", "context_length": CONTEXT},
    }
    (out / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    return SimpleTokenizer(bpe_path=str(out / "merges.txt.gz"), context_length=CONTEXT)


def write_weights(model: nn.Module, out: Path) -> None:
    """Write ``model.safetensors`` in half precision."""
    from safetensors.torch import save

    state = {
        k: v.detach().cpu().half().contiguous() if v.is_floating_point() else v.cpu()
        for k, v in model.state_dict().items()
    }
    # Not save_file, which leaves a file that only its owner may read.
    (out / "model.tmp").write_bytes(save(state, metadata={"format": "pt"}))
    (out / "model.tmp").replace(out / "model.safetensors")


def to_tensor(pixels: NDArray[np.uint8], device: str = "cpu") -> Tensor:
    """Return (n, 3, s, s) normalised float32 of pictures (n, s, s, 3) uint8."""
    x = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor(MEAN, device=device)[:, None, None]) / torch.tensor(STD, device=device)[:, None, None]


def _step(
    model: Any,
    pair_scale: Tensor,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    tokenize: Callable[[list[str]], Tensor],
    options: Options,
    device: str,
) -> dict[str, float]:
    images = to_tensor(np.concatenate([batch.tiles, batch.photos]), device).contiguous(
        memory_format=torch.channels_last
    )
    flags, claims = torch.from_numpy(batch.flags).to(device), torch.from_numpy(batch.claims).to(device)
    shown = (flags.float() @ claims.float().T) == claims.sum(1)  # image i shows all that text j claims
    shown &= claims.any(1)
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        seen = model.encode_image(images)
        said = model.encode_text(tokenize(batch.texts).to(device))
    tiles, photos = F.normalize(seen.float(), dim=-1).chunk(2)
    words = F.normalize(said.float(), dim=-1)
    pairs = info_nce(tiles, photos, pair_scale.exp())
    text = multi_positive(torch.cat([tiles, photos]), words, shown.repeat(2, 1), model.logit_scale.exp())
    loss = pairs + options.text_weight * text
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    with torch.no_grad():
        model.logit_scale.clamp_(0, math.log(100))
        pair_scale.clamp_(0, math.log(100))
        right = (photos @ tiles.T).argmax(1) == torch.arange(len(tiles), device=device)
    return {"loss": loss.item(), "pairs": pairs.item(), "text": text.item(), "right": right.float().mean().item()}


def _batches(options: Options, start: int, count: int) -> Iterator[Batch]:
    """Yield batches, each drawn one ahead in a thread; a resumed run draws from a seed of its own start."""
    views = Views(options.seed * 1_000_003 + start, MODEL_CONFIG["vision_cfg"]["image_size"])
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(views.batch, options.batch)
        for left in range(count, 0, -1):
            batch = ahead.result()
            if left > 1:
                ahead = pool.submit(views.batch, options.batch)
            yield batch


def _groups(model: nn.Module, pair_scale: nn.Parameter, decay: float) -> list[dict[str, Any]]:
    """Decay matrices only: gains, biases, embeddings' offsets and the scales are left free."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    return [{"params": matrices, "weight_decay": decay}, {"params": [*others, pair_scale], "weight_decay": 0.0}]


def _resume(
    out: Path, model: nn.Module, average: nn.Module, pair_scale: Tensor, optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    file = out / RUN / "checkpoint.pt"
    if not file.exists():
        return 0, 0.0
    state = torch.load(file, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    average.load_state_dict(state["average"])
    with torch.no_grad():
        pair_scale.copy_(state["pair_scale"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"]), float(state["seconds"])
