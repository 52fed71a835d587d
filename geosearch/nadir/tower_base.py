"""What every tower has in common: patches and one global token out of pixels, and which of its blocks may learn."""

from __future__ import annotations

from itertools import chain

import torch
from torch import Tensor, nn
from torch.func import functional_call

from geosearch.errors import ModelError


class Tower(nn.Module):
    """Normalised pixels (b, 3, h, w) → (patches (b, n, channels), token (b, token_channels)).

    channels, token_channels: of what comes out. blocks: the parts of the network from its input to its output, of which
    the last may be trained and the rest stay as they are.
    """

    channels: int
    token_channels: int
    blocks: list[nn.Module]

    def trainable(self, last: int | None) -> None:
        """Let the last blocks learn and freeze the rest. None, or as many as there are: the whole network.

        Raises ModelError where there are fewer blocks.
        """
        if last is not None and not 0 <= last <= len(self.blocks):
            raise ModelError(f"the tower has {len(self.blocks)} blocks; train 0 to {len(self.blocks)}, not {last}")
        self.requires_grad_(last is None or last == len(self.blocks))
        if last:
            for block in self.blocks[-last:]:
                block.requires_grad_(True)

    def train(self, mode: bool = True) -> Tower:
        """Stay in evaluation mode: a pretrained network's batch statistics are kept, whatever the batches hold."""
        return super().train(False)

    def check_size(self, height: int, width: int) -> None:
        """Raise ModelError where the tower does not take pictures of that many pixels."""

    def patches(self, height: int, width: int) -> int:
        """Return how many patches a picture has; nothing is computed for it. Raises ModelError for a wrong size."""
        return int(self.shapes(height, width)[0].shape[1])

    def shapes(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Return what a picture would give, without its numbers (tensors of device "meta"). Raises ModelError."""
        self.check_size(height, width)
        empty = {
            name: torch.empty_like(value, device="meta")
            for name, value in chain(self.named_parameters(), self.named_buffers())
        }
        try:
            with torch.no_grad():
                out = functional_call(self, empty, (torch.empty(1, 3, height, width, device="meta"),))
        except (AssertionError, RuntimeError, ValueError) as error:  # of torch, open_clip, timm
            raise ModelError(f"the tower takes no pictures of {height} × {width} pixels: {error}") from error
        return out[0], out[1]


def check_multiple(height: int, width: int, patch: tuple[int, int]) -> None:
    """Raise ModelError, which names the nearest sizes, where a picture does not divide into patches (height, width)."""
    if height % patch[0] or width % patch[1] or height < patch[0] or width < patch[1]:
        below = [max(1, size // p) * p for size, p in zip((height, width), patch, strict=True)]
        above = [-(-size // p) * p for size, p in zip((height, width), patch, strict=True)]
        raise ModelError(
            f"{height} × {width} pixels do not divide into patches of {patch[0]} × {patch[1]}; take "
            + " or ".join(dict.fromkeys(f"{h} × {w}" for h, w in (below, above)))
        )
