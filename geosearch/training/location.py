"""Train mini-location: places into the space of mini-clip's images, as SatCLIP does it (arXiv 2311.17179).

The image tower is frozen: a bank's keys are its vectors as they are, and only the places' side learns to meet them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from geosearch.encoders.harmonics import spherical_harmonics
from geosearch.encoders.location_folder import write_folder
from geosearch.encoders.satclip import SirenLocation
from geosearch.errors import InputError
from geosearch.geometry import EARTH_RADIUS_M, unit_vectors
from geosearch.training.contrast import multi_positive
from geosearch.training.place_views import PlaceViews, place_views
from geosearch.training.run_files import append_record, save_checkpoint

IMAGES = "mini-clip"
RUN = "run"  # the checkpoint, the views and the log lie apart from the finished model
LOG_EVERY = 50


@dataclass(frozen=True)
class Options:
    """What a run is made of. Degree, width and places shape the run and cannot change in the middle of one."""

    steps: int = 500
    places: int = 48_000
    batch: int = 1024
    degree: int = 10
    width: int = 512
    hidden_layers: int = 2
    dropout: float = 0.0
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    smoothness: float = 1.0  # harmonics of degree l are scaled by (1 + l)^−smoothness while the network learns
    same_m: float = 450e3  # views of places nearer than this count as right for one another
    scale: float | None = None  # what cosines are multiplied by; None: learned
    warmup: int = 100
    average: float = 0.995  # exponential average of the weights, which is what is kept
    seed: int = 22

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: warm-up, then half a cosine down to nothing."""
        return (
            self.learning_rate
            * min(1.0, (step + 1) / self.warmup)
            * (1 + math.cos(math.pi * min(step / self.steps, 1.0)))
            / 2
        )


@dataclass
class _State:
    """All that a step changes."""

    net: SirenLocation
    average: SirenLocation
    log_scale: nn.Parameter
    optimizer: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0


def train(
    out: Path,
    options: Options,
    device: str = "cpu",
    every: int = 500,
    report: Callable[[dict[str, float]], None] = lambda _: None,
    ready: Callable[[int], None] = lambda _: None,
) -> None:
    """Train, or go on from ``out/run/checkpoint.pt``, and leave a folder that the registry loads in ``out``.

    ready is told how many places have their views, report what every 50 steps gave. A checkpoint is written every
    ``every`` steps, whole or not at all. Raises InputError where a checkpoint is of another run.
    """
    from geosearch.encoders.registry import load

    (out / RUN).mkdir(parents=True, exist_ok=True)
    checkpoint = out / RUN / "checkpoint.pt"
    resume = torch.load(checkpoint, map_location="cpu", weights_only=True) if checkpoint.exists() else None
    if resume is not None:
        _check_resumed(options, resume["options"], checkpoint)
    images = load(IMAGES, device)
    views = place_views(out / RUN / "views", images, options.places, options.seed, report=ready)
    aligned = {"model": images.info.name, "weights_sha256": images.info.weights_sha256}

    def log(record: dict[str, float]) -> None:
        append_record(out / RUN / "log.jsonl", record)
        report(record)

    def keep(state: dict[str, Any], net: SirenLocation) -> None:
        save_checkpoint(checkpoint, state)
        write_folder(out, net, {"aligned_with": aligned, "trained": {"steps": state["step"], **asdict(options)}})

    learn(views, options, device, every, resume, log, keep)


def learn(
    views: PlaceViews,
    options: Options,
    device: str = "cpu",
    every: int = 500,
    resume: dict[str, Any] | None = None,
    report: Callable[[dict[str, float]], None] = lambda _: None,
    keep: Callable[[dict[str, Any], SirenLocation], None] = lambda _state, _net: None,
) -> SirenLocation:
    """Return the averaged network after ``options.steps`` steps on views; ``resume`` is what ``keep`` was given.

    A batch depends on the seed and its step alone: a run that goes on from a checkpoint does what it would have done.
    """
    torch.manual_seed(options.seed)
    gain = input_gain(options)
    state = _start(options, views.vectors.shape[2], device, resume)
    inputs = torch.from_numpy((spherical_harmonics(views.lat, views.lon, options.degree) * gain).astype(np.float32))
    inputs, vectors = inputs.to(device), torch.from_numpy(views.vectors).to(device)
    points = torch.from_numpy(unit_vectors(views.lat, views.lon)).to(device)
    nearest = math.cos(options.same_m / EARTH_RADIUS_M) - 1e-12  # a place is near itself, whatever the rounding
    began, spent = time.monotonic(), state.seconds
    sums: dict[str, float] = {}
    while state.step < options.steps:
        for group in state.optimizer.param_groups:
            group["lr"] = options.rate(state.step)
        rng = np.random.default_rng([options.seed, state.step])
        torch.manual_seed(int(rng.integers(2**62)))
        places = torch.from_numpy(rng.choice(len(inputs), min(options.batch, len(inputs)), replace=False)).to(device)
        which = torch.from_numpy(rng.integers(0, vectors.shape[1], len(places))).to(device)
        same = points[places] @ points[places].T >= nearest
        for key, value in _step(state, inputs[places], vectors[places, which], same, options).items():
            sums[key] = sums.get(key, 0.0) + value
        state.step += 1
        state.seconds = spent + time.monotonic() - began
        if state.step % LOG_EVERY == 0 or state.step == options.steps:
            count = state.step % LOG_EVERY or LOG_EVERY
            report({"step": state.step, "seconds": state.seconds, **{k: v / count for k, v in sums.items()}})
            sums = {}
        if state.step % every == 0 or state.step == options.steps:
            keep(_checkpoint(state, options), folded(state.average, gain))
    return folded(state.average, gain)


def input_gain(options: Options) -> NDArray[np.float64]:
    """Return what harmonics are multiplied by in training (degree²,); all ones without smoothness.

    Weight decay then costs a fine pattern more than a coarse one, as a smoothing spline on the sphere does.
    """
    order = np.repeat(np.arange(options.degree), 2 * np.arange(options.degree) + 1)
    gain = (1.0 + order) ** -options.smoothness
    return np.asarray(gain * math.sqrt(len(gain) / (gain**2).sum()))


def folded(net: SirenLocation, gain: NDArray[np.float64]) -> SirenLocation:
    """Return a copy of the network on the CPU that takes plain harmonics: the gain goes into its first layer."""
    out = deepcopy(net).cpu().eval()
    with torch.no_grad():
        first: Any = next(out.nnet.parameters())  # the first layer's weights
        first.mul_(torch.from_numpy(gain).float())
    return out


def _check_resumed(options: Options, before: dict[str, Any], checkpoint: Path) -> None:
    for name in ("places", "degree", "width", "hidden_layers", "smoothness", "seed"):
        if before[name] != getattr(options, name):
            raise InputError(
                f"{checkpoint} is of a run with {name} {before[name]}, not {getattr(options, name)}; "
                "give the same, or another folder"
            )


def _start(options: Options, dimension: int, device: str, resume: dict[str, Any] | None) -> _State:
    net = SirenLocation(options.degree, options.width, options.hidden_layers, dimension, options.dropout).to(device)
    log_scale = nn.Parameter(torch.tensor(math.log(options.scale or 1 / 0.07), device=device))
    log_scale.requires_grad_(options.scale is None)
    matrices = [p for p in net.parameters() if p.ndim >= 2]
    others = [p for p in net.parameters() if p.ndim < 2] + [log_scale]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": options.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        betas=(0.9, 0.98),
        eps=1e-6,
    )
    state = _State(net, deepcopy(net).requires_grad_(False), log_scale, optimizer)
    if resume is not None:
        net.load_state_dict(resume["net"])
        state.average.load_state_dict(resume["average"])
        with torch.no_grad():
            log_scale.copy_(resume["log_scale"])
        optimizer.load_state_dict(resume["optimizer"])
        state.step, state.seconds = int(resume["step"]), float(resume["seconds"])
    return state


def _step(state: _State, inputs: Tensor, vectors: Tensor, same: Tensor, options: Options) -> dict[str, float]:
    said = F.normalize(state.net.train()(inputs), dim=-1)
    loss = multi_positive(said, vectors, same, state.log_scale.exp())
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(state.net.parameters(), 1.0)
    state.optimizer.step()
    with torch.no_grad():
        state.log_scale.clamp_(0, math.log(100))
        keep = min(options.average, (state.step + 1) / (state.step + 11))
        for mean, now in zip(state.average.parameters(), state.net.parameters(), strict=True):
            mean.lerp_(now, 1 - keep)
        right = ((said @ vectors.T).argmax(1) == torch.arange(len(said), device=said.device)).float().mean()
    return {"loss": loss.item(), "right": right.item(), "scale": state.log_scale.exp().item()}


def _checkpoint(state: _State, options: Options) -> dict[str, Any]:
    return {
        "net": state.net.state_dict(),
        "average": state.average.state_dict(),
        "log_scale": state.log_scale.detach(),
        "optimizer": state.optimizer.state_dict(),
        "step": state.step,
        "seconds": state.seconds,
        "options": asdict(options),
    }
