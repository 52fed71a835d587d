"""Train a nadir-aware model: tiles from the database, photographs of them, the multi-similarity loss."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geosearch.bluemarble import atmosphere
from geosearch.geometry import EARTH_RADIUS_M, unit_vectors
from geosearch.nadir.loss import multi_similarity
from geosearch.nadir.model import NadirModel, follow
from geosearch.nadir.towers import normalise
from geosearch.training.nadir_ground import Tiles
from geosearch.training.nadir_photos import shoot

RUN = "run"
LOG_EVERY = 25
LIGHT = atmosphere.Weather(0.08, 0.0, 0.12, 0.04, 0.1, 2.0)  # tiles are clear, but no two sensors see alike


@dataclass(frozen=True)
class Options:
    """What a run is made of; a batch depends on these, its step and the clusters alone."""

    steps: int = 3000
    batch: int = 96  # pairs
    learning_rate: float = 1e-3  # of what is new
    tower_rate: float = 0.3  # the tower's share of it
    weight_decay: float = 0.01
    warmup: int = 100
    decay: float = 0.3  # the share of the steps, at the end, over which the learning rate falls to nothing
    trainable: int | None = None  # blocks of the tower, from its end; None: all
    image_weight: float = 1.0  # of the same loss on the image's vector alone
    unknown: float = 0.1  # the share of photographs whose nadir is withheld
    uniform: float = 0.25  # the share of photographs from any distance up to the horizon
    hard: float = 0.5  # the share of batches that are drawn from one cluster of tiles that look and lie alike
    clusters: int = 64
    cluster_every: int = 500
    average: float = 0.998
    seed: int = 26

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: warm-up, plateau, then a fall along 1 − √x."""
        fall = max(1, round(self.steps * self.decay))
        left = (self.steps - step) / fall
        down = 1.0 if left >= 1 else 1 - math.sqrt(1 - max(left, 0.0))
        return self.learning_rate * min(1.0, (step + 1) / self.warmup) * down


class Batch(NamedTuple):
    """pixels (2n, s, s, 3) uint8, tiles first; nadirs (2n,) in degrees, NaN unknown; positive, negative (2n, 2n)."""

    pixels: NDArray[np.uint8]
    lat: NDArray[np.float64]
    lon: NDArray[np.float64]
    positive: NDArray[np.bool_]
    negative: NDArray[np.bool_]


@dataclass
class State:
    """All that a step changes."""

    model: NadirModel
    average: NadirModel
    optimizer: torch.optim.Optimizer
    groups: NDArray[np.int64]
    step: int = 0
    seconds: float = 0.0


def draw(tiles: Tiles, groups: NDArray[np.int64], options: Options, step: int) -> Batch:
    """Return the batch of a step: tiles, all over or of one cluster, and a photograph of each."""
    rng = np.random.default_rng([options.seed, step])
    pool = np.arange(len(tiles))
    if step >= options.cluster_every and rng.random() < options.hard:
        members = np.flatnonzero(groups == rng.integers(groups.max() + 1))
        pool = members if len(members) >= 2 else pool
    n = min(options.batch, len(pool))
    some = rng.choice(pool, n, replace=False)
    lat, lon, cap = tiles.lat[some], tiles.lon[some], tiles.cap_m[some]
    size = tiles.pixels.shape[1]
    shots = shoot(lat, lon, 0.5 * cap, size, rng, options.uniform)
    plain = atmosphere.apply(np.asarray(tiles.pixels[some], np.float32), rng, LIGHT)
    points = unit_vectors(np.concatenate([lat, shots.aim[0]]), np.concatenate([lon, shots.aim[1]]))
    reach = np.concatenate([cap, shots.reach_m]) / EARTH_RADIUS_M
    apart = np.arccos(np.clip(points @ points.T, -1, 1)) > reach[:, None] + reach
    pair = np.tile(np.arange(n), 2)
    withheld = rng.random(n) < options.unknown
    eye_lat, eye_lon = np.where(withheld, np.nan, shots.nadir[0]), np.where(withheld, np.nan, shots.nadir[1])
    return Batch(
        np.concatenate([plain, shots.pixels]),
        np.concatenate([tiles.place[0][some], eye_lat]),
        np.concatenate([tiles.place[1][some], eye_lon]),
        pair[:, None] == pair,
        apart & (pair[:, None] != pair),
    )


def learn(
    model: NadirModel,
    tiles: Tiles,
    mean: list[float],
    std: list[float],
    options: Options,
    device: str = "cpu",
    every: int = 250,
    resume: dict[str, Any] | None = None,
    report: Callable[[dict[str, float]], None] = lambda _: None,
    keep: Callable[[dict[str, Any], NadirModel], None] = lambda _state, _model: None,
) -> NadirModel:
    """Return the averaged model after options.steps steps; resume is what keep was given."""
    state = _start(model, options, device, len(tiles), resume)
    prepare = lambda pixels: normalise(  # noqa: E731
        torch.from_numpy(np.array(pixels)).to(device).permute(0, 3, 1, 2), mean, std
    ).contiguous(memory_format=torch.channels_last)
    began, spent = time.monotonic(), state.seconds
    sums: dict[str, float] = {}
    for step, batch in _batches(state, tiles, options, prepare, device):
        for group in state.optimizer.param_groups:
            group["lr"] = options.rate(step) * group["share"]
        torch.manual_seed(options.seed * 1_000_003 + step)
        for key, value in _step(state, batch, prepare, options, device).items():
            sums[key] = sums.get(key, 0.0) + value
        state.step += 1
        state.seconds = spent + time.monotonic() - began
        if state.step % LOG_EVERY == 0 or state.step == options.steps:
            count = state.step % LOG_EVERY or LOG_EVERY
            report({"step": state.step, "seconds": state.seconds, **{k: v / count for k, v in sums.items()}})
            sums = {}
        if state.step % every == 0 or state.step == options.steps:
            keep(_checkpoint(state, options), state.average)
    return state.average


def _batches(state: State, tiles: Tiles, options: Options, prepare: Any, device: str) -> Iterator[tuple[int, Batch]]:
    """Yield steps and batches, each drawn one ahead in a thread; clusters are made anew where they are due."""
    with ThreadPoolExecutor(1) as pool:
        ahead = None
        for step in range(state.step, options.steps):
            if step and step % options.cluster_every == 0:
                state.groups = clusters(state.average, tiles, prepare, options, device)
                ahead = None
            batch = ahead.result() if ahead else draw(tiles, state.groups, options, step)
            due = (step + 1) % options.cluster_every == 0
            ahead = None if due else pool.submit(draw, tiles, state.groups, options, step + 1)
            yield step, batch


@torch.no_grad()
def clusters(model: NadirModel, tiles: Tiles, prepare: Any, options: Options, device: str) -> NDArray[np.int64]:
    """Return the cluster (n,) of each tile: k-means over the vectors of image and place together."""
    import faiss

    model.eval()
    parts = []
    for start in range(0, len(tiles), 256):
        part = slice(start, start + 256)
        lat, lon = (torch.from_numpy(v[part]).to(device) for v in tiles.place)
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            parts.append(model(prepare(np.asarray(tiles.pixels[part])), lat, lon).both.cpu().numpy())
    vectors = np.concatenate(parts).astype(np.float32)
    count = min(options.clusters, max(1, len(tiles) // 8))
    means = faiss.Kmeans(vectors.shape[1], count, niter=15, seed=options.seed, spherical=True)
    means.train(vectors)
    return np.asarray(means.index.search(vectors, 1)[1][:, 0])


def _step(state: State, batch: Batch, prepare: Any, options: Options, device: str) -> dict[str, float]:
    lat, lon = torch.from_numpy(batch.lat).to(device), torch.from_numpy(batch.lon).to(device)
    positive, negative = torch.from_numpy(batch.positive).to(device), torch.from_numpy(batch.negative).to(device)
    state.model.train()
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        vectors = state.model(prepare(batch.pixels), lat, lon)
    both = multi_similarity(vectors.both, positive, negative)
    image = multi_similarity(vectors.image, positive, negative)
    loss = both + options.image_weight * image
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_([p for p in state.model.parameters() if p.requires_grad], 1.0)
    state.optimizer.step()
    follow(state.average, state.model, min(options.average, (state.step + 1) / (state.step + 11)))
    scale = state.model.fusion.log_scale.exp().item()
    return {"loss": loss.item(), "both": both.item(), "image": image.item(), "scale": scale,
            "right": _right(vectors.both), "image right": _right(vectors.image)}  # fmt: skip


@torch.no_grad()
def _right(vectors: Tensor) -> float:
    """Return the share of photographs whose own tile is the most similar of the batch."""
    tiles, photos = vectors.chunk(2)
    return float(((photos @ tiles.T).argmax(1) == torch.arange(len(tiles), device=tiles.device)).float().mean())


def _start(model: NadirModel, options: Options, device: str, tiles: int, resume: dict[str, Any] | None) -> State:
    model = model.to(device)
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
    state = State(model, average, optimizer, np.zeros(tiles, np.int64))
    if resume is not None:
        model.load_state_dict(resume["model"])
        average.load_state_dict(resume["average"])
        optimizer.load_state_dict(resume["optimizer"])
        state.groups = resume["groups"].numpy()
        state.step, state.seconds = int(resume["step"]), float(resume["seconds"])
    return state


def _checkpoint(state: State, options: Options) -> dict[str, Any]:
    return {
        "model": state.model.state_dict(),
        "average": state.average.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "groups": torch.from_numpy(state.groups),
        "step": state.step,
        "seconds": state.seconds,
        "options": asdict(options),
    }


def log_to(path: Path, report: Callable[[dict[str, float]], None]) -> Callable[[dict[str, float]], None]:
    """Return a report that also writes each record as a line of JSON."""

    def log(record: dict[str, float]) -> None:
        with path.open("a") as file:
            file.write(json.dumps({k: round(v, 5) for k, v in record.items()}) + "\n")
        report(record)

    return log
