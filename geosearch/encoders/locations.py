"""The families of location encoders in the registry: what each name is, how it is built, which there are."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geosearch.encoders import baselines, location_names, weights
from geosearch.encoders.base import ModelInfo
from geosearch.encoders.location_names import COORDINATES, GEOCLIP, MINI_LOCATION, SATCLIP, SATCLIP_ARCHITECTURES
from geosearch.encoders.spec import Spec
from geosearch.errors import ModelError, WeightsError

if TYPE_CHECKING:
    from geosearch.encoders.places import PlaceEncoder

PLACE = frozenset({"place"})


@dataclass(frozen=True)
class LocationPlan:
    """What is to be built; module: torch's, with its weights, or None for an encoder without."""

    spec: Spec
    info: ModelInfo
    module: Any


def plan(spec: Spec) -> LocationPlan:
    """Find a location encoder's weights and state its identity.

    Raises WeightsError, which says where to get them, and ModelError for a file of another shape.
    """
    if spec.family == COORDINATES:
        info, _ = baselines.describe(spec.name, str(spec.architecture))
        if spec.pinned and not info.weights_sha256.startswith(spec.pinned):
            raise WeightsError(
                f"{spec.name}: it has no weights, its digest is {info.weights_sha256[:12]}…; name it bare"
            )
        return LocationPlan(spec, info, None)
    path = weights.find(spec)
    return _geoclip(spec, path) if spec.family == GEOCLIP else _satclip(spec, path)


def build(planned: LocationPlan, device: str) -> PlaceEncoder:
    """Return the encoder of a plan on a device."""
    spec = planned.spec
    if spec.family == COORDINATES:
        return baselines.CoordinatesEncoder(planned.info, baselines.describe(spec.name, str(spec.architecture))[1])
    module = copy.deepcopy(planned.module)  # the plan's may be built once more, on another device
    if spec.family == GEOCLIP:
        from geosearch.encoders.geoclip import GeoClipEncoder

        return GeoClipEncoder(planned.info, module, device)
    from geosearch.encoders.satclip import SatClipEncoder

    return SatClipEncoder(planned.info, module, device)


def specs() -> list[Spec]:
    """Return those that a list of models shows."""
    bare = [MINI_LOCATION, *(f"{SATCLIP}:{a}" for a in SATCLIP_ARCHITECTURES), GEOCLIP]
    found = [location_names.parse(name) for name in (*bare, *(f"{COORDINATES}:{kind}" for kind in baselines.kinds()))]
    return [spec for spec in found if spec is not None]


def dimension(spec: Spec) -> int | None:
    """Return how many numbers a vector has, without reading published weights; None where a folder does not say."""
    if spec.family == COORDINATES or spec.folder is not None:
        try:
            return plan(spec).info.dimension
        except (ModelError, WeightsError):
            return None
    return 512 if spec.family == GEOCLIP else 256


def _satclip(spec: Spec, path: Path) -> LocationPlan:
    from geosearch.encoders import satclip, satclip_checkpoint

    loaded = satclip_checkpoint.read(path, spec.folder)
    module = loaded.module
    if spec.architecture and module.degree != int(spec.architecture.rpartition("-L")[2]):
        raise ModelError(f"{spec.name}: {path} has harmonics of degree {module.degree}; it holds another model")
    aligned = loaded.config.get("aligned_with")
    facts = {
        "network": satclip.definition(module.degree),
        "harmonics": loaded.harmonics,
        "degree": module.degree,
        "width": module.width,
        "hidden_layers": module.hidden_layers,
        **({"aligned_with": aligned} if aligned else {}),
    }
    return LocationPlan(spec, _info(spec, path, satclip.FAMILY, module.dimension, facts), module)


def _geoclip(spec: Spec, path: Path) -> LocationPlan:
    from geosearch.encoders import geoclip

    facts = {"network": geoclip.DEFINITION, "sigmas": list(geoclip.SIGMAS)}
    return LocationPlan(spec, _info(spec, path, geoclip.FAMILY, geoclip.DIMENSION, facts), geoclip.read(path))


def _info(spec: Spec, path: Path, family: str, size: int, facts: dict[str, Any]) -> ModelInfo:
    digest = weights.sha256(path)
    published = spec.published.repository if spec.published and spec.file is None else ""
    return ModelInfo(spec.name, family, published or digest[:12], digest, size, "cosine", PLACE, facts)
