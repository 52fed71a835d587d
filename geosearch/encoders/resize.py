"""Pictures → pixels of a network's size, by open_clip's own steps; what every encoder of pictures shares."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geosearch.encoders import pictures
from geosearch.errors import ModelError

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image


class Resize:
    """Prepares pictures on the CPU; many threads may share one.

    preprocess: size [height, width], mean, std, interpolation, resize_mode and fill_color, as open_clip names them.
    """

    def __init__(self, preprocess: dict[str, Any]) -> None:
        from torchvision.transforms import Compose

        self._steps = Compose(_geometry(preprocess))
        self._mode = preprocess["resize_mode"]

    def __call__(self, image: Path | str | Image) -> torch.Tensor:
        """Return pixels (3, height, width) uint8 of a file or a decoded picture. Raises InputError."""
        import torch

        picture = pictures.open_image(image) if isinstance(image, str | Path) else pictures.to_rgb(image)
        if self._mode == "shortest":
            picture = _without_far_ends(picture)
        pixels = np.array(self._steps(picture), np.uint8)
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _without_far_ends(picture: Image) -> Image:
    """Return the middle of a picture that is over 100 times as long as wide; the square cut from it later lies there.

    Resized whole, its short side would grow to the network's size and its long side to gigabytes.
    """
    width, height = picture.size
    longest = 100 * min(width, height)
    if max(width, height) <= longest:
        return picture
    left, top = max(0, (width - longest) // 2), max(0, (height - longest) // 2)
    return picture.crop((left, top, left + min(width, longest), top + min(height, longest)))


def _geometry(preprocess: dict[str, Any]) -> list[Any]:
    """Return open_clip's own steps before pixels become numbers: resizing and cropping of RGB pictures."""
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from torchvision.transforms import Normalize

    cfg = PreprocessCfg(**{**preprocess, "size": tuple(preprocess["size"])})
    steps = list(image_transform_v2(cfg, is_train=False).transforms)
    # The last two turn bytes into numbers and normalise: done for a whole batch on the device instead.
    if not isinstance(steps[-1], Normalize) or type(steps[-2]).__name__ not in ("MaybeToTensor", "ToTensor"):
        raise ModelError(
            "this open_clip prepares pictures in another way than geosearch knows; install open_clip_torch 3"
        )
    return steps[:-2]
