"""Where vectors lie: blocks of fixed size in RAM, in the memory of a GPU, or in a file."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from geosearch.search.resident_form import Kept


class Shard:
    """Rows (size, d) on one device: float32 rows of unit length, or the stored float16 values with 1/length beside.

    Both give the same float32 numbers bit for bit: stored value × float32(1/length).
    """

    def __init__(self, size: int, dimension: int, dtype: Kept, device: str, folder: Path | None = None) -> None:
        """Take the memory; folder: of the file that holds the rows instead. OSError when the disk is full."""
        self.size, self.device = size, torch.device(device)
        self.inverse = torch.zeros(size, dtype=torch.float32, device=self.device)
        kind = torch.float32 if dtype == "float32" else torch.float16
        if folder is None:
            self.rows = torch.empty(size, dimension, dtype=kind, device=self.device)
        else:
            self.rows = torch.from_numpy(_mapped(size, dimension, folder))

    def write(self, at: NDArray[np.int64], halves: NDArray[np.float16]) -> float:
        """Put stored vectors (m, d), m > 0, into the rows `at` (m,); return how far a length is from 1 at most."""
        values = torch.from_numpy(halves)
        inverse = inverse_lengths(values)
        error = float((inverse.reciprocal() - 1).abs().max())
        if self.rows.dtype == torch.float32:
            values = values.float() * inverse[:, None]
        values, inverse = values.to(self.device), inverse.to(self.device)
        if (np.diff(at) == 1).all():
            where = slice(int(at[0]), int(at[0]) + len(at))
            self.rows[where], self.inverse[where] = values, inverse
        else:
            index = torch.from_numpy(at).to(self.device)
            self.rows[index], self.inverse[index] = values, inverse
        return error

    def units(self, at: NDArray[np.int64]) -> torch.Tensor:
        """Return rows (m, d) as float32 of unit length, on this device; a view where they lie side by side."""
        rows, index = self._rows(at)
        if rows.dtype == torch.float32:
            return rows
        return rows.float().mul_(self.inverse[index][:, None])

    def halves(self, at: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return float16 rows (m, d) as stored and their 1/length (m,); only where they are kept so."""
        rows, index = self._rows(at)
        return rows, self.inverse[index]

    def _rows(self, at: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor | slice]:
        # `at` ascends, so its ends tell whether it is a run.
        if len(at) and at[-1] - at[0] == len(at) - 1:
            run = slice(int(at[0]), int(at[0]) + len(at))
            return self.rows[run], run
        index = torch.from_numpy(at).to(self.device)
        return self.rows.index_select(0, index), index


def inverse_lengths(halves: torch.Tensor) -> torch.Tensor:
    """Return 1/length (m,) float32 of stored vectors (m, d), made in float64."""
    pieces = [part.double().square_().sum(dim=1) for part in halves.split(512)]  # that stay in the cache
    return torch.cat(pieces).sqrt_().reciprocal_().float()


def _mapped(size: int, dimension: int, folder: Path) -> NDArray[np.float16]:
    """Return an array in a file of its own that vanishes with this process, however that ends."""
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix="vectors-", dir=folder)
    try:
        wanted = max(1, size * dimension * 2)
        # The blocks are taken now: on a full disk a write through the map would kill the process later.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(handle, 0, wanted)
        else:
            _write_zeros(handle, wanted)
        with os.fdopen(os.dup(handle), "r+b") as file:
            return np.memmap(file, np.float16, "r+", shape=(size, dimension))
    finally:
        os.close(handle)
        Path(name).unlink()


def _write_zeros(handle: int, count: int) -> None:
    zeros = bytes(1 << 20)
    while count > 0:
        count -= os.write(handle, zeros[:count])
