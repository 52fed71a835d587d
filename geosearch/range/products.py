"""Products with a matrix that stays: the keys, the places, the values of a bank."""

from __future__ import annotations

import torch
import torch.nn.functional as F


class Factor:
    """A matrix (inner, outer) that others are multiplied by, kept on a device in the form that is fastest there."""

    def __init__(self, matrix: torch.Tensor, device: torch.device, dtype: torch.dtype, packed: bool = True) -> None:
        """packed: for a large inner axis. On a processor oneDNN multiplies these; torch.mm's own library reaches, in
        fp32 on some makes of processor, half its speed.
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
        """Return rows (m, inner) times the matrix: (m, outer), freshly made, of the factor's type."""
        rows = rows.to(self.dtype)
        if self._onednn:
            return F.linear(rows.to_mkldnn(), self._matrix).to_dense()
        return rows @ self._matrix
