"""What every encoder is and says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from geosearch.errors import ModelError
from geosearch.item import Item, Place

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class ModelInfo:
    """A model's identity: vectors are comparable only where all of it is equal.

    name: what the registry loads. revision: tag, hub repository or folder version. weights_sha256: of the weights file.
    dimension: numbers a vector. reads: a subset of {"image", "text", "place"}. preprocessing: all that is done to an
    input before the network, and what else shapes a vector; plain JSON values. needs: parts that no item may lack, such
    as the image of a model that reads where it was taken from as well.
    """

    name: str
    family: str
    revision: str
    weights_sha256: str
    dimension: int
    metric: str
    reads: frozenset[str]
    preprocessing: dict[str, Any]
    needs: frozenset[str] = frozenset()

    def reads_alone(self, kind: str) -> bool:
        """Tell whether an item may have this part and no other."""
        return kind in self.reads and self.needs <= {kind}

    @property
    def reads_nadirs(self) -> bool:
        """Whether a picture is read together with the place that it was taken from."""
        return {"image", "place"} <= self.reads

    def same_as(self, weights_sha256: str | None, preprocessing: dict[str, Any] | None) -> bool:
        """Tell whether recorded facts are this model's; what was not recorded (None) is not compared."""
        return weights_sha256 in (None, self.weights_sha256) and (
            preprocessing is None or preprocessing == self.preprocessing
        )


@runtime_checkable
class Encoder(Protocol):
    """Items → unit vectors. `prepare` runs in many threads at once, `encode_prepared` in one."""

    @property
    def info(self) -> ModelInfo:
        """Identity, dimension and what can be read."""
        ...

    def prepare(self, item: Item) -> Any:
        """Decode and preprocess one item on the CPU; thread-safe. Raises InputError for an item that cannot be used."""
        ...

    def encode_prepared(self, prepared: Sequence[Any]) -> Vectors:
        """Return vectors (n, dimension), float32 of unit length, in the order given."""
        ...

    def encode(self, items: Sequence[Item]) -> Vectors:
        """Return vectors (n, dimension) of items: prepare and encode_prepared, in batches."""
        ...


def check_readable(info: ModelInfo, item: Item) -> None:
    """Raise ModelError when an item has a part that the model does not read."""
    missing = item.kinds - info.reads
    if missing:
        raise ModelError(
            f"{info.name} does not read {' and '.join(sorted(missing))}; it reads {', '.join(sorted(info.reads))}. "
            "Leave that part out or use another model (`geosearch model list`)."
        )
    if not info.needs <= item.kinds:
        lacking = " and ".join(sorted(info.needs - item.kinds))
        raise ModelError(f"{info.name} reads {' and '.join(sorted(info.reads))} together; the item has no {lacking}")


def seen_from(info: ModelInfo, item: Item, place: Place | None) -> Item:
    """Return a picture with the place it was taken from, if the model reads nadirs; any other item as it is.

    place: None where it is not known.
    """
    return replace(item, place=place) if item.image is not None and info.reads_nadirs else item


def unit(vectors: NDArray[Any], model: str) -> Vectors:
    """Return vectors (n, d) at length 1 in float32; raises ModelError for one that is zero or not finite."""
    wide = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    bad = np.flatnonzero(~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0))
    if len(bad):
        raise ModelError(
            f"{model} gave a zero or non-finite vector for item {bad[0]} of {len(wide)}; are its weights whole?"
        )
    return (wide / lengths).astype(np.float32)
