"""The mathematics of re-ranking: arrays in, arrays out. No database, no storage.

A score is the weighted sum of cosines over spaces, which is one dot product: unit vectors side by side, the query's
parts multiplied by the weights. Products in float32 only propose; every row that could be among the k best by the
bound of their rounding is scored again in float64. So the answer does not depend on which library proposed.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geosearch.errors import InputError
from geosearch.search import faiss_flat

if TYPE_CHECKING:
    import torch

Way = Literal["torch", "faiss"]
_EPSILON = 2.0**-24  # half a unit in the last place of float32
_PAIR_BYTES = {"cpu": 1 << 22, "cuda": 1 << 28}  # rows that are scored in float64 at a time
DIGITS = 13  # scores are rounded to so many decimals: equal vectors stay equal in whatever order sums were made


def half_queries(queries: ArrayLike, dimension: int) -> NDArray[np.float64]:
    """Return queries (n, d) or (d,) as `geosearch.search` takes them: rounded to half precision; (n, d), unit length.

    Raises InputError for another dimension, numbers that are not finite and zero vectors.
    """
    try:
        with np.errstate(over="ignore"):  # becomes infinite, which is refused below
            given = np.atleast_2d(np.asarray(np.asarray(queries, np.float64), np.float32))
    except (TypeError, ValueError) as error:
        raise InputError(f"the queries are not made of numbers: {error}") from error
    if given.ndim != 2 or given.shape[1] != dimension:
        raise InputError(f"queries have the shape (n, {dimension}), not {np.shape(queries)}")
    wide = given.astype(np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    bad = ~np.isfinite(length[:, 0]) | (length[:, 0] == 0)
    if bad.any():
        raise InputError(f"query {int(bad.argmax())} has no direction: its length is 0 or not finite")
    # Scaled first only where rounding would overflow or vanish, as in SQL.
    half = np.where((length >= 0.01) & (length <= 1000), wide, wide / length).astype(np.float16).astype(np.float64)
    return half / np.linalg.norm(half, axis=1, keepdims=True)


def reference(
    queries: Mapping[str, ArrayLike],
    vectors: Mapping[str, NDArray[np.floating]],
    image_ids: NDArray[np.int64],
    k: int,
    weights: Mapping[str, float],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return image ids and scores, (n, min(k, m)) each, plainly, in float64: what every other way must equal.

    queries: (n, d) a space. vectors: (m, d) stored half-precision values a space, row i being image_ids[i].
    """
    scores: NDArray[np.float64] = np.zeros(())
    for space, weight in weights.items():
        stored = vectors[space].astype(np.float64)
        unit = stored / np.linalg.norm(stored, axis=1, keepdims=True)
        scores = scores + weight * (half_queries(queries[space], stored.shape[1]) @ unit.T)
    order = np.array([np.lexsort((image_ids, -row)) for row in np.round(scores, DIGITS)])[:, :k]
    return image_ids[order], np.take_along_axis(scores, order, axis=1)


def margin(dimension: int, weight_sum: float = 1.0, norm_error: float = 0.0) -> float:
    """Return by how much two proposals may differ from what their exact scores differ by.

    A float32 dot product of n terms errs by at most n/2²⁴ times the sum of their sizes, which Cauchy and Schwarz bound
    by the sum of |weights|. norm_error: how far stored lengths are from 1 where rows are not scaled first.
    """
    return 2 * weight_sum * ((dimension + 8) * _EPSILON + norm_error)


def contenders(
    queries: torch.Tensor,
    rows: torch.Tensor,
    k: int,
    floor: torch.Tensor,
    slack: float,
    way: Way,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (query index, row index), (p,) int64 each: every pair that may be among the k best of its query.

    queries (n, d), rows (b, d): on one device, both float32 or both float16. floor (n,) float32: a score that k rows
    elsewhere reach already, or -inf. slack: `margin` of the products.
    """
    import torch

    if way == "faiss":
        found = _contenders_faiss(queries, rows, k, floor, slack)
        if found is not None:
            return found
    scores = queries.float() @ rows.float().T
    passing = scores >= (floor - slack)[:, None]
    # After some blocks the floor alone lets hardly any row pass, and looking for the best of the block costs more.
    if rows.shape[0] > k and int(passing.count_nonzero()) > 2 * k * len(queries):
        best = scores.topk(k, dim=1, sorted=False).values.amin(dim=1)
        passing = scores >= (torch.maximum(best, floor) - slack)[:, None]
    query, row = passing.nonzero(as_tuple=True)
    return query, row


def _contenders_faiss(
    queries: torch.Tensor, rows: torch.Tensor, k: int, floor: torch.Tensor, slack: float
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The same by FAISS; None where it cannot select as many as may be needed (more than 2 048 on a GPU)."""
    import torch

    count = rows.shape[0]
    wanted = min(count, k + max(16, k // 8))
    while True:
        if queries.is_cuda and wanted > faiss_flat.GPU_K:
            return None
        scores, found = faiss_flat.knn(queries, rows, wanted)
        best = scores[:, k - 1] if wanted >= k else torch.full_like(floor, -math.inf)
        bar = torch.maximum(best, floor) - slack
        # Complete once the last one found lies below all that may count.
        if wanted == count or bool((scores[:, -1] < bar).all()):
            query, place = (scores >= bar[:, None]).nonzero(as_tuple=True)
            return query, found[query, place]
        wanted = min(count, 4 * wanted)


def exact_scores(
    queries: torch.Tensor,
    rows: torch.Tensor,
    query: torch.Tensor,
    row: torch.Tensor,
    inverse: torch.Tensor | None = None,
) -> NDArray[np.float64]:
    """Return the scores (p,) of pairs in float64.

    queries (n, d) float64. rows (b, d) float32 of unit length, or float16 as stored with inverse (b,), 1/length.
    query and row (p,) int64.
    """
    import torch

    if inverse is None and not rows.is_cuda and 2 * len(row) > rows.shape[0]:
        # So many pairs that a whole product costs less; in pieces that stay in the cache.
        whole = torch.cat([queries @ rows[at : at + 512].double().T for at in range(0, len(rows), 512)], dim=1)
        return np.asarray(whole[query, row]).round(DIGITS)
    step = max(1, _PAIR_BYTES[rows.device.type] // (8 * rows.shape[1]))
    scores = np.empty(len(row))
    for at in range(0, len(row), step):
        part = slice(at, at + step)
        units = rows[row[part]] if inverse is None else rows[row[part]].float() * inverse[row[part]][:, None]
        if rows.is_cuda:
            scores[part] = (units.double() * queries[query[part]]).sum(dim=1).cpu().numpy()
        else:  # a few rows: waking torch's threads would take longer
            scores[part] = (units.numpy() * queries.numpy()[query[part].numpy()]).sum(axis=1)
    return scores.round(DIGITS)


@contextmanager
def full_precision() -> Iterator[None]:
    """Let float32 products be float32, whatever else in this process set: TF32 keeps 10 bits, too few for `margin`.

    The setting is the process's: of threads that are in here together, the last one puts it back.
    """
    import torch

    with ExitStack() as stack:
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        _precision.enter()
        stack.callback(_precision.leave)
        yield


class _Precision:
    """Torch's precision of float32 products, put up while anybody wants it so."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._before: list[str] = []

    def enter(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = self._exchange(["highest"], ["ieee", "ieee"])
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._exchange(self._before, self._before)

    def _exchange(self, legacy: list[str], newer: list[str]) -> list[str]:
        """Set the precision and return the one before: one value, or two where newer settings of torch are in use."""
        import torch

        if len(legacy) == 1:
            try:
                before = torch.get_float32_matmul_precision()
            except RuntimeError:  # somebody used the settings of torch 2.9, which do not mix with the older ones
                pass
            else:
                if before != legacy[0]:
                    torch.set_float32_matmul_precision(legacy[0])
                return [before]
        kinds: list[Any] = [torch.backends.cuda, torch.backends.mkldnn]
        found = [kind.matmul.fp32_precision for kind in kinds]
        for kind, value in zip(kinds, newer, strict=True):
            kind.matmul.fp32_precision = value
        return found


_precision = _Precision()


class Best:
    """The k best so far of each of n queries, among candidates given block by block; ties by image id, ascending."""

    def __init__(self, queries: int, k: int, image_ids: NDArray[np.int64]) -> None:
        self.scores = np.full((queries, k), -np.inf)
        self.places = np.full((queries, k), -1, np.int64)
        self._ids = image_ids
        self._waiting: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []
        self._count = 0

    @property
    def floor(self) -> NDArray[np.float32]:
        """The k-th best score of each query, (n,); -inf while there are fewer."""
        # Rounded down: a floor must never lie above what it stands for.
        return np.nextafter(self.scores[:, -1].astype(np.float32), np.float32(-np.inf))

    def add(self, query: NDArray[np.int64], place: NDArray[np.int64], score: NDArray[np.float64]) -> None:
        """Take in scores (p,) of candidates, named by their place in image_ids; each pair comes once."""
        self._waiting.append((query, place, score))
        self._count += len(query)
        # Sorting costs as much for one pair as for many: it waits, unless the floor is not there yet.
        if 4 * self._count >= self.scores.size or not np.isfinite(self.scores[:, -1]).all():
            self.settle()

    def settle(self) -> None:
        """Sort in what was added; to be called before scores and places are read."""
        if not self._count:
            return
        query, place, score = (np.concatenate(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting, self._count = [], 0
        order = np.argsort(query, kind="stable")
        query, place, score = query[order], place[order], score[order]
        touched, starts, counts = np.unique(query, return_index=True, return_counts=True)
        k = self.scores.shape[1]
        scores = np.full((len(touched), k + int(counts.max())), -np.inf)
        places = np.full(scores.shape, -1, np.int64)
        scores[:, :k], places[:, :k] = self.scores[touched], self.places[touched]
        row, column = np.repeat(np.arange(len(touched)), counts), k + np.arange(len(query)) - np.repeat(starts, counts)
        scores[row, column], places[row, column] = score, place
        # Sorting by score alone is several times as fast; rows with equal scores, which are few, are sorted again.
        order = np.argsort(-scores, axis=1)
        ranked = np.take_along_axis(scores, order, axis=1)
        equal = (ranked[:, 1:] == ranked[:, :-1]) & np.isfinite(ranked[:, 1:])
        for i in np.flatnonzero(equal[:, :k].any(axis=1)):
            order[i] = np.lexsort((self._ids[places[i]], -scores[i]))
        self.scores[touched] = np.take_along_axis(scores, order[:, :k], axis=1)
        self.places[touched] = np.take_along_axis(places, order[:, :k], axis=1)
