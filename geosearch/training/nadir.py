"""Train a nadir-aware model: tiles from the database, photographs of them, the multi-similarity loss."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geosearch.nadir.loss import multi_similarity
from geosearch.nadir.model import NadirModel
from geosearch.nadir.towers import normalise
from geosearch.training.averages import follow
from geosearch.training.contrast import info_nce
from geosearch.training.nadir_batches import Part, draw, right_and_wrong
from geosearch.training.nadir_catalogued import Photos
from geosearch.training.nadir_ground import Tiles
from geosearch.training.nadir_options import Options
from geosearch.training.nadir_ranks import Ranks

LOG_EVERY = 25
_CHUNK = 256  # tiles encoded at once for the clusters
_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}

Record = dict[str, float]


@dataclass
class State:
    """All that a step changes."""

    model: NadirModel
    average: NadirModel
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler  # fp16's small gradients are multiplied before they vanish; otherwise idle
    groups: NDArray[np.int64]
    step: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Course:
    """What a run learns from and on, the same in every step."""

    tiles: Tiles
    photos: Photos | None
    mean: list[float]
    std: list[float]
    options: Options
    device: str
    ranks: Ranks

    def prepare(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Return pixels (b, s, s, 3) as normalised (b, 3, s, s) on the device."""
        moved = torch.from_numpy(np.array(pixels)).to(self.device).permute(0, 3, 1, 2)
        return normalise(moved, self.mean, self.std).contiguous(memory_format=torch.channels_last)

    def autocast(self) -> torch.autocast:
        """Return the context in which the network runs."""
        half = _HALF.get(self.options.precision)
        return torch.autocast(torch.device(self.device).type, half or torch.bfloat16, enabled=half is not None)


def learn(
    model: NadirModel,
    tiles: Tiles,
    mean: list[float],
    std: list[float],
    options: Options,
    device: str = "cpu",
    every: int = 250,
    resume: dict[str, Any] | None = None,
    report: Callable[[Record], None] = lambda _: None,
    keep: Callable[[dict[str, Any], NadirModel], None] = lambda _state, _model: None,
    photos: Photos | None = None,
    ranks: Ranks | None = None,
) -> NadirModel:
    """Return the averaged model after options.steps steps; resume is what keep was given.

    mean, std: of the pixels, in 0 … 1. report hears what every 25 steps gave, keep is called every `every` steps:
    both in the first of several processes alone. Raises InputError where resume is of other options.
    """
    course = Course(tiles, photos, mean, std, options, device, ranks or Ranks())
    if resume is not None:
        options.check_resumed(resume["options"], "the checkpoint")
    state = _start(model, course, resume)
    if len(state.groups) != len(tiles):  # of other tiles: the weights are good, the clusters are not
        state.groups = clusters(state.average, course)
    began, spent = time.monotonic(), state.seconds
    sums: Record = {}
    count = 0
    for step, part in _batches(state, course):
        for group in state.optimizer.param_groups:
            group["lr"] = options.rate(step) * group["share"]
        # Each process drops out other units; the first drops what one process alone would.
        torch.manual_seed(options.seed * 1_000_003 + step + (course.ranks.rank << 40))
        for key, value in _step(state, part, course).items():
            sums[key] = sums.get(key, 0.0) + value
        count += 1
        state.step += 1
        state.seconds = spent + time.monotonic() - began
        due = state.step % every == 0 or state.step == options.steps
        if state.step % LOG_EVERY == 0 or due:
            if course.ranks.first:
                report({"step": state.step, "seconds": state.seconds, **{k: v / count for k, v in sums.items()}})
            sums, count = {}, 0
        if due and course.ranks.first:
            keep(_checkpoint(state, options), state.average)
    return state.average


def _batches(state: State, course: Course) -> Iterator[tuple[int, Part]]:
    """Yield steps and batches, each drawn one ahead in a thread; clusters are made anew where they are due."""
    options, ranks = course.options, course.ranks
    make = partial(draw, course.tiles, course.photos, options=options, process=ranks.rank, processes=ranks.count)
    with ThreadPoolExecutor(1) as pool:
        ahead = None
        for step in range(state.step, options.steps):
            if step and step % options.cluster_every == 0:
                state.groups = clusters(state.average, course)
                ahead = None
            part = ahead.result() if ahead else make(groups=state.groups, step=step)
            due = (step + 1) % options.cluster_every == 0 or step + 1 == options.steps
            ahead = None if due else pool.submit(make, groups=state.groups, step=step + 1)
            yield step, part


@torch.no_grad()
def clusters(model: NadirModel, course: Course) -> NDArray[np.int64]:
    """Return the cluster (n,) of each tile: k-means over the vectors of image and place together.

    Each process encodes its share of the tiles, and the first one divides them into clusters for all.
    """
    import faiss

    model.eval()
    tiles, options, ranks, n = course.tiles, course.options, course.ranks, len(course.tiles)
    share = -(-n // ranks.count)
    mine = np.minimum(np.arange(ranks.rank * share, (ranks.rank + 1) * share), n - 1)
    parts = []
    for start in range(0, share, _CHUNK):
        some = mine[start : start + _CHUNK]
        lat, lon = (torch.from_numpy(v[some]).to(course.device) for v in tiles.place)
        with course.autocast():
            parts.append(model(course.prepare(tiles.pixels[some]), lat, lon).both.float())
    vectors = ranks.stack(torch.cat(parts)).flatten(0, 1)[:n].cpu().numpy()
    groups = np.zeros(n, np.int64)
    if ranks.first:
        count = min(options.clusters, max(1, n // 8))
        means = faiss.Kmeans(
            vectors.shape[1], count, niter=15, seed=options.seed, spherical=True, min_points_per_centroid=1
        )
        means.train(vectors)
        groups = np.asarray(means.index.search(vectors, 1)[1][:, 0], np.int64)
    return ranks.share(torch.from_numpy(groups).to(course.device)).cpu().numpy()


def _step(state: State, part: Part, course: Course) -> Record:
    device, ranks, options = course.device, course.ranks, course.options
    lat, lon = torch.from_numpy(part.lat).to(device), torch.from_numpy(part.lon).to(device)
    own_caps = torch.from_numpy(np.column_stack([part.middle, part.reach])).to(device)
    caps = ranks.halves(own_caps).cpu().numpy()
    masks = right_and_wrong(part.plan, caps[:, :3], caps[:, 3], course.photos)
    positive, negative = (torch.from_numpy(mask).to(device) for mask in masks)
    state.model.train()
    with course.autocast():
        own = state.model(course.prepare(part.pixels), lat, lon)
    # The loss takes its own care of precision, and sees the vectors of the whole batch.
    whole_both, whole_image = ranks.halves(own.both), ranks.halves(own.image)
    both = multi_similarity(whole_both, positive, negative, base=options.base)
    if options.image_loss == "contrast":
        n = len(whole_image) // 2
        sharpness = torch.tensor(1 / options.temperature, device=device)
        image = info_nce(whole_image[n:], whole_image[:n], sharpness, negative[n:, :n])
    else:
        image = multi_similarity(whole_image, positive, negative, base=options.base)
    loss = options.both_weight * both + options.image_weight * image
    state.optimizer.zero_grad(set_to_none=True)
    state.scaler.scale(loss).backward()
    ranks.add_gradients(state.model)
    state.scaler.unscale_(state.optimizer)
    nn.utils.clip_grad_norm_([p for p in state.model.parameters() if p.requires_grad], 1.0)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    follow(state.average, state.model, min(options.average, (state.step + 1) / (state.step + 11)))
    scale = state.model.fusion.log_scale.exp().item()
    return {"loss": loss.item(), "both": both.item(), "image": image.item(), "scale": scale,
            "right": _right(whole_both), "image right": _right(whole_image)}  # fmt: skip


@torch.no_grad()
def _right(vectors: Tensor) -> float:
    """Return the share of photographs whose own tile is the most similar of the batch."""
    tiles, photos = vectors.chunk(2)
    return float(((photos @ tiles.T).argmax(1) == torch.arange(len(tiles), device=tiles.device)).float().mean())


def _start(model: NadirModel, course: Course, resume: dict[str, Any] | None) -> State:
    options = course.options
    model = model.to(course.device)
    model.tower.trainable(options.trainable)
    inside = {id(p) for p in model.tower.parameters()}
    new = [p for p in model.parameters() if p.requires_grad and id(p) not in inside]
    old = [p for p in model.tower.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in some if (p.ndim >= 2) == big], "share": share, "weight_decay": decay}
            for some, share in ((new, 1.0), (old, options.tower_rate))
            for big, decay in ((True, options.weight_decay), (False, 0.0))
        ],
        lr=options.learning_rate,
        eps=1e-7,
    )
    average = deepcopy(model).requires_grad_(False)
    scaler = torch.amp.GradScaler(torch.device(course.device).type, enabled=options.precision == "fp16")
    state = State(model, average, optimizer, scaler, np.zeros(len(course.tiles), np.int64))
    if resume is not None:
        state.groups = resume["groups"].numpy()
        model.load_state_dict(resume["model"])
        average.load_state_dict(resume["average"])
        optimizer.load_state_dict(resume["optimizer"])
        if scaler.is_enabled() and resume.get("scaler"):
            scaler.load_state_dict(resume["scaler"])
        state.step, state.seconds = int(resume["step"]), float(resume["seconds"])
    return state


def _checkpoint(state: State, options: Options) -> dict[str, Any]:
    return {
        "model": state.model.state_dict(),
        "average": state.average.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "scaler": state.scaler.state_dict(),
        "groups": torch.from_numpy(state.groups),
        "step": state.step,
        "seconds": state.seconds,
        "options": asdict(options),
    }
