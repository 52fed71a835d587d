"""The OpenCLIP family: images and texts into one space, by any architecture that open_clip knows."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from geosearch.encoders import tokenizer, weights
from geosearch.encoders.base import Vectors, check_readable, unit
from geosearch.encoders.memory import in_halves
from geosearch.encoders.openclip_plan import Plan
from geosearch.encoders.precision import half_on_gpu
from geosearch.encoders.resize import Resize
from geosearch.errors import GeosearchError, InputError, ModelError
from geosearch.item import Item

if TYPE_CHECKING:
    import torch


class Prepared(NamedTuple):
    """One item, ready to be stacked: pixels (3, height, width) uint8, or token ids (context,)."""

    kind: str
    tensor: torch.Tensor


class OpenClipEncoder:
    """A loaded model. Images are decoded and resized on the CPU, normalised and encoded on the device."""

    def __init__(self, built: Plan, device: str) -> None:
        import torch

        self.plan, self.info, self.device = built, built.info, torch.device(device)
        self._model = _build(built).to(self.device)
        self._resize = Resize(built.preprocess)
        shape = (1, 3, 1, 1)
        self._mean = torch.tensor(built.preprocess["mean"], device=self.device).view(shape)
        self._std = torch.tensor(built.preprocess["std"], device=self.device).view(shape)
        self._tokenizer: Any = None
        self._tokenizer_lock = threading.Lock()

    def prepare(self, item: Item) -> Prepared:
        """Return one image or text, ready for `encode_prepared`. Raises InputError, ModelError."""
        check_readable(self.info, item)
        if item.image is not None and item.text is not None:
            raise ModelError(f"{self.info.name} reads an image or a text, not both in one item; ask twice or compose")
        if item.text is not None:
            if not item.text.strip():
                raise InputError("the text is empty")
            return Prepared("text", self._tokenize(item.text))
        image = item.image
        assert image is not None
        return Prepared("image", self._resize(image))

    def encode_prepared(self, prepared: Sequence[Prepared]) -> Vectors:
        """Return unit vectors (n, dimension), float32, in the order given; a batch too large for the GPU is halved."""
        import torch

        vectors = np.empty((len(prepared), self.info.dimension), np.float32)
        for kind in ("image", "text"):
            rows = [i for i, one in enumerate(prepared) if one.kind == kind]
            if rows:
                with torch.inference_mode():
                    run = partial(self._forward, kind)
                    out = in_halves(run, torch.stack([prepared[i].tensor for i in rows]), self.info.name)
                vectors[rows] = unit(out.cpu().numpy(), self.info.name)
        return vectors

    def encode(self, items: Sequence[Item], batch_size: int | None = None) -> Vectors:
        """Return unit vectors (n, dimension) of items, `batch_size` at a time (the setting by default)."""
        from geosearch.settings import settings

        step = batch_size or settings().batch_size
        parts = [
            self.encode_prepared([self.prepare(item) for item in items[i : i + step]])
            for i in range(0, len(items), step)
        ]
        return np.concatenate(parts) if parts else np.empty((0, self.info.dimension), np.float32)

    def _forward(self, kind: str, batch: torch.Tensor) -> torch.Tensor:
        moved = batch.to(self.device, non_blocking=True)
        if kind == "image":
            moved = (moved.float() / 255 - self._mean) / self._std
        return half_on_gpu(self._model.encode_image if kind == "image" else self._model.encode_text, moved)

    def _tokenize(self, text: str) -> torch.Tensor:
        with self._tokenizer_lock:
            if self._tokenizer is None:
                self._tokenizer = _load_tokenizer(self.plan)
        ids: torch.Tensor = self._tokenizer([text])[0]
        return ids


def _build(built: Plan) -> Any:
    weights.offline()
    import open_clip

    spec = built.spec
    try:
        model = open_clip.create_model(
            f"local-dir:{spec.folder}" if spec.folder else spec.architecture,
            None if spec.folder else str(built.path),
            force_quick_gelu=built.quick_gelu,
            force_preprocess_cfg=built.preprocess,
            require_pretrained=True,
            weights_only=True,
        )
    except GeosearchError:
        raise
    except Exception as error:  # of open_clip, torch, pickle, safetensors, json, a hub
        raise weights.explain(spec, error) from error
    size = model.visual.image_size
    if list(size if isinstance(size, tuple | list) else (size, size)) != built.preprocess["size"]:
        raise ModelError(f"{spec.name}: preprocess_cfg says size {built.preprocess['size']}, the network takes {size}")
    return model.eval().requires_grad_(False)


def _load_tokenizer(built: Plan) -> Any:
    import open_clip

    spec = built.spec
    if spec.folder and tokenizer.KEY in built.config:
        return tokenizer.load_tokenizer(spec.folder, built.config)
    try:
        return open_clip.get_tokenizer(f"local-dir:{spec.folder}" if spec.folder else spec.architecture)
    except Exception as error:  # of transformers or a hub
        raise weights.explain(spec, error) from error
