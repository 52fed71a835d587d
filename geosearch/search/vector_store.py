"""Vectors in memory by image id and version: which are here, where they lie, and their rows on a device."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from geosearch.search.resident_form import KEY_BYTES, Form
from geosearch.search.shards import Shard, inverse_lengths
from geosearch.search.slot_index import SlotIndex

log = logging.getLogger(__name__)
_GROWTH_BYTES = 16 << 20  # memory is taken for so much more at a time


class Fetched:
    """Rows (m) that were read from the table just now, by image id; `asked` are the ids that were looked for."""

    def __init__(self, dimension: int) -> None:
        self.asked = np.empty(0, np.int64)
        self.ids, self.versions = np.empty(0, np.int64), np.empty(0, np.int64)
        self.halves = np.empty((0, dimension), np.float16)

    def add(
        self,
        asked: NDArray[np.int64],
        ids: NDArray[np.int64],
        versions: NDArray[np.int64],
        halves: NDArray[np.float16],
    ) -> None:
        """Take in what was found of the ids asked for; of a row read twice, the later reading counts."""
        keep = ~np.isin(self.ids, asked)
        ids, versions = np.concatenate([self.ids[keep], ids]), np.concatenate([self.versions[keep], versions])
        order = np.argsort(ids)
        self.asked = np.union1d(self.asked, asked)
        self.ids, self.versions = ids[order], versions[order]
        self.halves = np.concatenate([self.halves[keep], halves])[order]

    def find(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the row of each id (n,), -1 where there is none."""
        if not len(self.ids):
            return np.full(len(ids), -1, np.int64)
        at = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return np.where(self.ids[at] == ids, at, -1)


class Located(NamedTuple):
    """Where the rows of n ids are: a slot here (-1: none), else a row of what was fetched (-1: none); and versions.

    Both are -1 for an image that has no vector in the space; its version is 0.
    """

    slots: NDArray[np.int64]
    fetched: NDArray[np.int64]
    versions: NDArray[np.int64]


class VectorStore:
    """The vectors of one space. Several threads may share it; rows are read while `lock` is held.

    space, dimension; form: how the vectors are kept (`str(form)` says it in words); norm_error: how far any stored
    length is from 1.
    """

    def __init__(self, space: str, dimension: int, form: Form, rows: int, folder: Path) -> None:
        """Take memory for so many vectors and some more; folder: of the files of a form on disk."""
        self.space, self.dimension, self.form = space, dimension, form
        self.lock = threading.RLock()
        self._growth = max(1, _GROWTH_BYTES // (4 * dimension))
        self.norm_error = 0.0
        self._folder = folder
        self._index = SlotIndex()
        self._shards: list[Shard] = []
        self._starts = np.zeros(1, np.int64)
        self._versions = np.empty(0, np.int64)
        self._used, self._free = 0, np.empty(0, np.int64)
        # Some room, so that rows that come later are resident as well.
        rows += max(self._growth, rows // 50)
        for i, device in enumerate(form.devices):
            self._grow(-(-rows // len(form.devices)), device, len(form.devices) - i)

    def __len__(self) -> int:
        return len(self._index)

    @property
    def memory_bytes(self) -> int:
        """What vectors and keys take now, in bytes; of the file, where they lie on disk."""
        return sum(shard.size for shard in self._shards) * (self._row_bytes() + KEY_BYTES)

    def slots(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where ids (n,) lie now, -1 where not here. A hint for a good order: without the lock it may change."""
        with self.lock:
            return self._index.find(ids)

    def shard_of(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of the shard of each slot (n,), 0 for -1."""
        return np.maximum(np.searchsorted(self._starts, slots, side="right") - 1, 0)

    def stale(
        self, ids: NDArray[np.int64], versions: NDArray[np.int64], fetched: Fetched | None = None
    ) -> NDArray[np.int64]:
        """Return those of ids (n,) that are not here under the versions wanted (n,) and were not fetched."""
        with self.lock:
            missing = ids[~self._matches(self._index.find(ids), versions)]
        return missing if fetched is None else np.setdiff1d(missing, fetched.asked)

    def locate(self, ids: NDArray[np.int64], versions: NDArray[np.int64], fetched: Fetched) -> Located | None:
        """Return where the rows of ids (n,) are, under the versions wanted or as fetched; under the lock.

        None where a row that was here has been replaced by another thread meanwhile: fetch `stale` once more.
        """
        slots = self._index.find(ids)
        right = self._matches(slots, versions)
        if right.all():
            return Located(slots, np.full(len(ids), -1, np.int64), versions)
        if len(np.setdiff1d(ids[~right], fetched.asked)):
            return None
        rows = fetched.find(ids)
        rows[right] = -1
        wanted = np.where(right, versions, 0)
        wanted[rows >= 0] = fetched.versions[rows[rows >= 0]]
        slots[~self._matches(slots, wanted)] = -1
        rows[slots >= 0] = -1
        return Located(slots, rows, wanted)

    def units(self, located: Located, fetched: Fetched, device: torch.device) -> torch.Tensor:
        """Return rows (n, d) float32 of unit length on a device; under the lock, and valid only while it is held."""
        whole = self._run(located.slots)
        if whole is not None and whole[0].device == device:
            return whole[0].units(whole[1])
        rows = torch.empty(len(located.slots), self.dimension, dtype=torch.float32, device=device)
        numbers = self.shard_of(located.slots)
        for number in np.unique(numbers[located.slots >= 0]):
            at = np.flatnonzero((numbers == number) & (located.slots >= 0))
            # Slots ascend save for those fetched; a shard wants them ascending.
            at = at[np.argsort(located.slots[at])]
            part = self._shards[number].units(located.slots[at] - self._starts[number])
            rows[torch.from_numpy(at).to(device)] = part.to(device)
        at = np.flatnonzero(located.fetched >= 0)
        if len(at):
            values = torch.from_numpy(fetched.halves[located.fetched[at]])
            rows[torch.from_numpy(at).to(device)] = (values.float() * inverse_lengths(values)[:, None]).to(device)
        return rows

    def halves(self, located: Located, device: torch.device) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return float16 rows (n, d) as stored and 1/length (n,), where all lie so in one shard on the device."""
        whole = self._run(located.slots)
        if whole is None or whole[0].device != device or whole[0].rows.dtype != torch.float16:
            return None
        return whole[0].halves(whole[1])

    def shard_device(self, number: int) -> torch.device:
        """Return the device of a shard."""
        return self._shards[number].device

    def _run(self, slots: NDArray[np.int64]) -> tuple[Shard, NDArray[np.int64]] | None:
        """Return the one shard that holds all slots, and their rows in it, ascending; None where that is not so."""
        if not len(slots) or slots.min() < 0:
            return None
        first, last = self.shard_of(slots[[0, -1]])
        if first != last or (len(slots) > 1 and (np.diff(slots) <= 0).any()):
            return None
        return self._shards[first], slots - self._starts[first]

    def _matches(self, slots: NDArray[np.int64], versions: NDArray[np.int64]) -> NDArray[np.bool_]:
        return (slots >= 0) & (self._versions[slots] == versions) if len(self._versions) else slots >= 0

    def put(self, ids: NDArray[np.int64], versions: NDArray[np.int64], halves: NDArray[np.float16]) -> int:
        """Keep rows, in place of older ones; return how many found no room."""
        with self.lock:
            slots = self._index.find(ids)
            # An older snapshot must not drive out what a newer one brought; which is scored is decided elsewhere.
            here = (slots >= 0) & (self._versions[slots] < versions) if len(self._versions) else slots >= 0
            new = np.flatnonzero(slots < 0)
            room = self._take(len(new))
            kept, left = new[: len(room)], len(new) - len(room)
            slots[kept] = room
            self._index.put(ids[kept], room)
            at = np.concatenate([np.flatnonzero(here), kept])
            at = at[np.argsort(slots[at])]
            self._write(slots[at], halves[at])
            self._versions[slots[at]] = versions[at]
            return left

    def _write(self, slots: NDArray[np.int64], halves: NDArray[np.float16]) -> None:
        if not len(slots):
            return
        numbers = self.shard_of(slots)
        for number in np.unique(numbers):
            part = numbers == number
            error = self._shards[number].write(slots[part] - self._starts[number], halves[part])
            self.norm_error = max(self.norm_error, error)

    def _take(self, count: int) -> NDArray[np.int64]:
        """Return up to `count` slots that are free, ascending, taking more memory where that is allowed."""
        missing = count - len(self._free) - (int(self._starts[-1]) - self._used)
        if missing > 0:
            self._grow(max(missing, self._growth, len(self) // 20), self.form.devices[-1])
        freed, self._free = self._free[:count], self._free[count:]
        fresh = min(count - len(freed), int(self._starts[-1]) - self._used)
        slots = np.concatenate([freed, np.arange(self._used, self._used + fresh)])
        self._used += fresh
        return np.sort(slots)

    def _grow(self, rows: int, device: str, devices: int = 1) -> None:
        """Add a shard, unless that passes the limit or the machine has no more; devices: that share what is left."""
        room = (self.form.limit_bytes - self.memory_bytes) // (self._row_bytes() + KEY_BYTES)
        rows = min(rows, room // devices)
        if rows < 1:
            return
        try:
            shard = Shard(
                rows, self.dimension, self.form.dtype, device, self._folder if self.form.where == "disk" else None
            )
        except (MemoryError, OSError, torch.OutOfMemoryError) as error:
            if not self._shards:
                raise
            log.warning("space %s: no memory for %d more vectors: %s", self.space, rows, error)
            return
        self._shards.append(shard)
        self._starts = np.append(self._starts, self._starts[-1] + rows)
        self._versions = np.append(self._versions, np.zeros(rows, np.int64))

    def drop(self, ids: NDArray[np.int64]) -> None:
        """Forget ids, whether they are here or not; their memory serves others. Under the lock."""
        slots = self._index.find(ids)
        self._index.remove(ids[slots >= 0])
        self._free = np.sort(np.concatenate([self._free, slots[slots >= 0]]))

    def _row_bytes(self) -> int:
        return self.dimension * (4 if self.form.dtype == "float32" else 2)
