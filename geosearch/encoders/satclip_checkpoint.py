"""SatCLIP's published checkpoints, as PyTorch Lightning wrote them, and the weights of our own folders.

The published encoder was trained on harmonics of another convention than ours (see `harmonics`): "analytic", whose
m = 0 are π times as long, or "closed-form", whose odd m have the other sign. A factor of an input is a factor of its
column in the first layer, so it goes there, and the published vectors come out of our harmonics.

At degree 40 the published "analytic" harmonics are expanded polynomials in cos θ with 15 digits, which cancel towards
the poles: Y_39,0 is off by 5e-5 at 45° of latitude, by 0.1 at 70° and by 0.6 of 7.9 at 90°; Y_30,0 by 2e-5 there.
Ours are not, so at degree 40 vectors of places beyond 60° are near those of the published code, not equal to them.
"""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import pickle
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from geosearch.encoders import location_folder, weights
from geosearch.encoders.harmonics import MAX_DEGREE
from geosearch.encoders.satclip import SirenLocation
from geosearch.errors import ModelError

# What Lightning leaves in hyper_parameters besides plain values. Paths come back as pure ones: they touch no disk.
# Newer Pythons name the class by another module.
_PATHS = [f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in ("PosixPath", "WindowsPath")]
ALLOWED: list[Any] = [argparse.Namespace, *((pathlib.PurePosixPath, name) for name in _PATHS)]
NAMES = {
    "degree": "legendre_polys",
    "width": "capacity",
    "hidden_layers": "num_hidden_layers",
    "dimension": "embed_dim",
}


@dataclass(frozen=True)
class Loaded:
    """An encoder's module in float64, with the harmonics it was trained on and what its folder says."""

    module: SirenLocation
    harmonics: str
    config: dict[str, Any]


def read(path: Path, folder: Path | None = None) -> Loaded:
    """Return the encoder of a checkpoint (.ckpt), or of a folder with its location.json; read once while unchanged.

    Raises ModelError for a file that is not one, names and shapes included; WeightsError for a missing file.
    """
    if folder is None:
        return _checkpoint(path, weights.sha256(path))
    return _folder(path, weights.sha256(path), json.dumps(location_folder.read_config(folder)))


@lru_cache(maxsize=4)
def _folder(path: Path, digest: str, text: str) -> Loaded:
    config = json.loads(text)
    try:
        state = load_file(str(path)) if path.suffix == ".safetensors" else torch_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: cannot be read as safetensors ({error}); copy it again") from error
    return Loaded(_module(path, {key: config[key] for key in NAMES}, state), "orthonormal", config)


def torch_file(path: Path) -> Any:
    """Return what a file of torch.save holds: tensors, plain values and the types of ALLOWED, nothing that runs."""
    try:
        with torch.serialization.safe_globals(ALLOWED):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, AttributeError, KeyError, ValueError) as error:
        # Of torch's page of advice, the line that names the type; its advice to load unsafely is not ours.
        lines = [line for line in str(error).splitlines() if "GLOBAL" in line] or str(error).splitlines()[:1]
        what = "".join(lines[:1]).partition(" Please use")[0].removesuffix(".")
        raise ModelError(
            f"{path}: cannot be read as weights ({what or type(error).__name__}). Only tensors and plain values are "
            "read, for another type in a file could run code; save its state_dict alone"
        ) from error


@lru_cache(maxsize=2)
def _checkpoint(path: Path, digest: str) -> Loaded:
    held = torch_file(path)
    facts, state = (held.get(key) if isinstance(held, dict) else None for key in ("hyper_parameters", "state_dict"))
    if isinstance(facts, argparse.Namespace):
        facts = vars(facts)
    if not isinstance(facts, dict) or not isinstance(state, dict):
        raise ModelError(
            f"{path}: is no checkpoint of SatCLIP: hyper_parameters and state_dict are not in it. A folder with "
            "location.json is loaded as satclip:local-dir:/folder"
        )
    harmonics = facts.get("harmonics_calculation", "analytic")
    for key, value, known in (
        ("le_type", facts.get("le_type"), ("sphericalharmonics",)),
        ("pe_type", facts.get("pe_type", "siren"), ("siren",)),
        ("harmonics_calculation", harmonics, ("analytic", "closed-form")),
    ):
        if value not in known:
            raise ModelError(f"{path}: {key} is {value!r}; geosearch reads encoders with {' or '.join(known)}")
    shape = {ours: facts.get(theirs) for ours, theirs in NAMES.items()}
    for ours, theirs in NAMES.items():
        if type(shape[ours]) is not int or not 1 <= facts[theirs] <= location_folder.SHAPE[ours]:
            raise ModelError(f"{path}: {theirs} in hyper_parameters is {shape[ours]!r}, not a whole number in range")
    # The same tensors stand there twice, below model.location.nnet and below model.nnet.
    prefix = next((p for p in ("model.location.", "location.", "model.", "") if any(_below(p, k) for k in state)), "")
    chosen = {key.removeprefix(prefix): value for key, value in state.items() if _below(prefix, key)}
    module = _module(path, shape, chosen)
    first: Any = module.nnet.layers[0]
    with torch.no_grad():
        first.weight *= column_factors(module.degree, harmonics)
    return Loaded(module, harmonics, {})


def column_factors(degree: int, harmonics: str) -> torch.Tensor:
    """Return (degree²,): a published harmonic divided by ours, in order l, m."""
    if not 1 <= degree <= MAX_DEGREE:
        raise ModelError(f"degree {degree} is not within 1 … {MAX_DEGREE}")
    orders = torch.tensor([m for order in range(degree) for m in range(-order, order + 1)])
    factors = torch.ones(degree * degree, dtype=torch.float64)
    if harmonics == "analytic":
        factors[orders == 0] = math.pi
    else:
        factors[orders % 2 == 1] = -1.0
    return factors


def _below(prefix: str, key: Any) -> bool:
    return isinstance(key, str) and key.startswith(f"{prefix}nnet.")


def _module(path: Path, shape: dict[str, Any], state: dict[str, Any]) -> SirenLocation:
    """Return the module of that shape with weights by name, in float64."""
    if not isinstance(state, dict):
        raise ModelError(f"{path}: holds a {type(state).__name__}, not tensors by name; save a state_dict")
    module = SirenLocation(**shape).double()
    wanted = module.state_dict()
    missing, extra = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    if missing or extra:
        what = f"lacks {', '.join(missing)}" if missing else f"holds {', '.join(extra)} besides"
        raise ModelError(f"{path}: {what}; an encoder of {shape} was expected")
    for name, value in state.items():
        if not isinstance(value, torch.Tensor) or value.shape != wanted[name].shape:
            given = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
            raise ModelError(f"{path}: {name} is {given}, not {tuple(wanted[name].shape)} as {shape} needs")
        if not value.is_floating_point() or not torch.isfinite(value).all():
            raise ModelError(f"{path}: {name} holds numbers that are not finite; copy the file again")
    module.load_state_dict(state)
    return module
