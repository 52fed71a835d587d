"""Nadir-aware models: a picture and the place beneath the camera → one vector, the two parts of which can be had apart.

The picture's part is a unit vector, the nadir's too; the whole is [picture, s · nadir] / √(1 + s²) with a learned s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geosearch.encoders import weights
from geosearch.encoders.base import Vectors, check_readable, unit
from geosearch.encoders.memory import in_halves
from geosearch.encoders.nadir_plan import NadirPlan
from geosearch.encoders.precision import half_on_gpu
from geosearch.encoders.resize import Resize
from geosearch.errors import GeosearchError, InputError, ModelError
from geosearch.item import Item

if TYPE_CHECKING:
    import torch

    from geosearch.nadir.model import NadirModel


class Prepared(NamedTuple):
    """A picture ready to be stacked: pixels (3, height, width) uint8; the nadir in degrees, NaN where not known."""

    pixels: torch.Tensor
    lat: float
    lon: float


class Parts(NamedTuple):
    """image (n, d) and nadir (n, e): unit vectors, float32, of pictures alone and of nadirs alone."""

    image: Vectors
    nadir: Vectors


class NadirAwareEncoder:
    """A loaded model. Pictures are decoded and resized on the CPU and encoded on the device; nadirs on the CPU.

    scale: s, how much the nadir's part weighs beside the picture's.
    """

    def __init__(self, built: NadirPlan, device: str) -> None:
        import torch

        self.plan, self.info, self.device = built, built.info, torch.device(device)
        self._model = network(built)
        # Not the nadir's encoder: it is small, and its waves are summed in float64, which some devices lack.
        self._model.tower.to(self.device)
        self._model.salad.to(self.device)
        self.scale = float(self._model.fusion.log_scale.exp())
        self._resize = Resize(built.preprocess)

    @property
    def image_dimension(self) -> int:
        """Numbers of the picture's part, which come first."""
        return int(self._model.salad.shape.dimension)

    def prepare(self, item: Item) -> Prepared:
        """Return one picture and its nadir, ready for `encode_prepared`. Raises InputError, ModelError.

        An item without a place is one whose nadir is not known: it gets what the model learned for those.
        """
        check_readable(self.info, item)
        image, place = item.image, item.place
        assert image is not None
        lat, lon = (math.nan, math.nan) if place is None else (place.lat, place.lon)
        return Prepared(self._resize(image), lat, lon)

    def encode_prepared(self, prepared: Sequence[Prepared]) -> Vectors:
        """Return unit vectors (n, dimension), float32, in the order given; a batch too large for the GPU is halved."""
        if not prepared:
            return np.empty((0, self.info.dimension), np.float32)
        return self.join(*self.encode_parts(prepared))

    def encode(self, items: Sequence[Item], batch_size: int | None = None) -> Vectors:
        """Return unit vectors (n, dimension) of items, `batch_size` at a time (the setting by default)."""
        from geosearch.settings import settings

        step = batch_size or settings().batch_size
        parts = [
            self.encode_prepared([self.prepare(item) for item in items[i : i + step]])
            for i in range(0, len(items), step)
        ]
        return np.concatenate(parts) if parts else np.empty((0, self.info.dimension), np.float32)

    def encode_parts(self, prepared: Sequence[Prepared]) -> Parts:
        """Return the vectors of pictures and of nadirs alone; `join` makes the whole of them."""
        lat, lon = [one.lat for one in prepared], [one.lon for one in prepared]
        return Parts(self.image_vectors(prepared), self.nadir_vectors(lat, lon))

    def image_vectors(self, prepared: Sequence[Prepared]) -> Vectors:
        """Return unit vectors (n, d) of pictures alone."""
        import torch

        if not prepared:
            return np.empty((0, self.image_dimension), np.float32)
        with torch.inference_mode():
            out = in_halves(self._images, torch.stack([one.pixels for one in prepared]), self.info.name)
        return unit(out.cpu().numpy(), self.info.name)

    def nadir_vectors(self, lat: ArrayLike, lon: ArrayLike) -> Vectors:
        """Return unit vectors (n, e) of nadirs alone. lat, lon: (n,) degrees, NaN where not known.

        Raises InputError for a nadir that is not on Earth.
        """
        import torch

        degrees = [np.asarray(values, np.float64).reshape(-1) for values in (lat, lon)]
        for values, most, what in zip(degrees, (90, 180), ("latitude", "longitude"), strict=True):
            bad = np.flatnonzero(np.abs(values) > most)
            if len(bad):
                raise InputError(f"{what} {values[bad[0]]} of nadir {bad[0]} is not within -{most} … {most}")
        with torch.inference_mode():
            out = self._model.nadir(*(torch.from_numpy(np.ascontiguousarray(values)) for values in degrees))
        return unit(out.numpy(), self.info.name)

    def join(self, image: NDArray[np.float32], nadir: NDArray[np.float32]) -> Vectors:
        """Return the unit vectors (n, d + e) of pictures (n, d) and nadirs (n, e): [image, s · nadir] / √(1 + s²)."""
        both = np.concatenate([image, np.float32(self.scale) * nadir], axis=1)
        return unit(both, self.info.name)

    def _images(self, pixels: torch.Tensor) -> torch.Tensor:
        from geosearch.nadir.towers import normalise

        moved = normalise(
            pixels.to(self.device, non_blocking=True), self.plan.preprocess["mean"], self.plan.preprocess["std"]
        )
        return half_on_gpu(self._model.image, moved)  # SALAD shares out in float32 itself


def network(built: NadirPlan) -> NadirModel:
    """Return the network of a plan with its weights, on the CPU. Raises ModelError, which names the model."""
    from geosearch.encoders import nadir_folder

    weights.offline()
    try:
        return nadir_folder.load_weights(nadir_folder.build(built.config), built.path)
    except ModelError as error:
        raise ModelError(f"{built.spec.name}: {error}") from error
    except GeosearchError:
        raise
    except Exception as error:  # of timm, open_clip, torch, safetensors
        raise weights.explain(built.spec, error) from error
