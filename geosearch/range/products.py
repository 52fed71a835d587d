"""Products with a matrix that stays: the keys, the places, the values of a bank."""

from __future__ import annotations

import torch
import torch.nn.functional as F


class Factor:
    """A matrix (inner, outer) that others are multiplied by, kept on a device in the form that is fastest there."""

    def __init__(self, matrix: torch.Tensor, device: torch.device, dtype: torch.dtype, packed: bool = True) -> None:
        """dtype: of both factors; of float16 (see `halves_add_up`) the products are float32. packed: for a large inner
        axis. On a processor oneDNN multiplies these; torch.mm's own library has, on some makes, half its speed in fp32.
        """
        self.dtype = dtype
        self._onednn = (
            packed
            and device.type == "cpu"
            and dtype in (torch.float32, torch.bfloat16)
            and torch.backends.mkldnn.is_available()
        )
        if self._onednn:
            self._matrix = matrix.T.to(dtype).contiguous().to_mkldnn()
        else:
            self._matrix = matrix.to(device, dtype).contiguous()

    def after(self, rows: torch.Tensor) -> torch.Tensor:
        """Return rows (m, inner) times the matrix: (m, outer), freshly made."""
        rows = rows.to(self.dtype)
        if self._onednn:
            return F.linear(rows.to_mkldnn(), self._matrix).to_dense()
        if self.dtype == torch.float16:
            return torch.mm(rows, self._matrix, out_dtype=torch.float32)
        return rows @ self._matrix


def halves_add_up(device: torch.device) -> bool:
    """Tell whether products of float16 come as float32 there: a GPU's matrix units, from torch 2.8 on."""
    if device.type != "cuda":
        return False
    one = torch.zeros(16, 16, dtype=torch.float16, device=device)
    try:
        return torch.mm(one, one, out_dtype=torch.float32).dtype == torch.float32
    except (RuntimeError, TypeError, NotImplementedError):
        return False
