"""Soft retrieval in bulk, in torch: both softmaxes' weights become one matrix, which meets the values once.

The straightforward way multiplies the values twice, once a softmax; weights that are mixed first need one product. Some
hundred places at a time; memory does not grow with their number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from geosearch.errors import InputError
from geosearch.geometry import Floats, unit_vectors
from geosearch.range.bank import Bank
from geosearch.range.options import Retrieval
from geosearch.range.products import Factor, halves_add_up
from geosearch.range.queries import load_encoder, unit_queries
from geosearch.range.reference import no_place_near
from geosearch.search.scoring import full_precision

if TYPE_CHECKING:
    from geosearch.encoders.places import PlaceEncoder

Precision = Literal["fp32", "bf16"]
CHUNK = 256  # places at a time: enough that the products are as fast as they get, while the weights stay in the caches
_CHUNK_GPU = 2048
_WEIGHTS = 1 << 26  # weights held at a time, at most: 256 MB in float32
# Beyond these τ the rounding of a float32 cosine, times τ, is too much: logits in float64. A key's has more terms.
_WIDE_TAU_SEM, _WIDE_TAU_GEO = 32.0, 64.0


class Retrieved(NamedTuple):
    """embedding (n, dv + dk) float32 on the device; mass_sem, mass_geo (n,): shares of the softmaxes that are kept."""

    embedding: torch.Tensor
    mass_sem: torch.Tensor
    mass_geo: torch.Tensor


class SoftRetrieval:
    """Embeddings of places from a bank. The bank is moved to the device once; one thread at a time."""

    def __init__(
        self,
        bank: Bank,
        options: Retrieval | None = None,
        device: str = "cpu",
        precision: Precision = "fp32",
        encoder: PlaceEncoder | None = None,
    ) -> None:
        """device: cpu, cuda, cuda:1. precision: of the product with the values; bf16 errs by up to 1e-2 (L2 a row), is
        faster where the processor has such products; all else is fp32. encoder: instead of the bank's.
        """
        if precision not in ("fp32", "bf16"):
            raise InputError(f"there is no precision {precision!r}; there are: fp32, bf16")
        if not len(bank):
            raise InputError(f"bank {bank.name} is empty; fill it (`geosearch range build`)")
        self.bank, self.options, self.precision = bank, options or Retrieval(), precision
        self.device = torch.device(device)
        self._encoder = encoder
        chunk = _CHUNK_GPU if self.device.type == "cuda" else CHUNK
        self.chunk = max(16, min(chunk, _WEIGHTS // len(bank)))
        values = torch.from_numpy(bank.values)
        # Weights have the sum 1: what all values have in common is added afterwards, and bf16 rounds the rest by less.
        self._common = values.double().mean(0).float() if precision == "bf16" else torch.zeros(1)
        narrow = torch.bfloat16 if precision == "bf16" else torch.float32
        self._values = Factor(values - self._common, self.device, narrow)
        self._common = self._common.to(self.device)
        tau_sem, tau_geo = self.options.semantic_tau, self.options.tau_geo
        keys = torch.from_numpy(bank.keys).double().T * tau_sem
        if precision == "bf16" and self.options.mode == "soft" and halves_add_up(self.device):
            self._keys = Factor(keys, self.device, torch.float16)  # 11 bits of a unit vector's numbers, sums in fp32
        else:
            # On a processor bf16 would round the logits themselves: by 0.2 %, times τ.
            self._keys = Factor(keys, self.device, torch.float64 if tau_sem > _WIDE_TAU_SEM else torch.float32)
        positions = torch.from_numpy(bank.positions())
        self._places = Factor(
            positions.T * tau_geo,
            self.device,
            torch.float64 if tau_geo > _WIDE_TAU_GEO else torch.float32,
            packed=False,
        )
        self._masked = None
        if self.options.least_cos is not None and self.options.beta < 1:
            # The border between in and out is drawn where the reference draws it.
            self._masked = Factor(positions.T, self.device, torch.float64, packed=False)

    def embed(self, lat: ArrayLike, lon: ArrayLike, queries: ArrayLike | None = None) -> NDArray[np.float32]:
        """Return embeddings (n, dv + dk) float32 of places (n,) in degrees. queries (n, dk): instead of the encoder.

        Raises InputError where a place or a query is none, or where min_cos leaves a place without any of the bank's.
        """
        return np.asarray(self.embed_tensor(lat, lon, queries).cpu().numpy(), np.float32)

    def embed_tensor(self, lat: ArrayLike, lon: ArrayLike, queries: ArrayLike | None = None) -> torch.Tensor:
        """Return the same as a tensor that stays on the device."""
        return self.retrieve(lat, lon, queries).embedding

    def retrieve(self, lat: ArrayLike, lon: ArrayLike, queries: ArrayLike | None = None) -> Retrieved:
        """Return the same, and what the kept places have of each softmax (1 where none is cut, or it is not used)."""
        lat, lon = np.atleast_1d(np.asarray(lat, np.float64)), np.atleast_1d(np.asarray(lon, np.float64))
        asked = unit_queries(self.bank, lat, lon, queries, self._encoder_if(queries))
        here = torch.from_numpy(unit_vectors(lat, lon)).to(self.device)
        with torch.inference_mode(), full_precision():
            return self._run(here, torch.from_numpy(asked).to(self.device), (lat, lon))

    def lonely(self, lat: Floats, lon: Floats) -> NDArray[np.bool_]:
        """Return for which places (n,) min_cos leaves none of the bank's: `retrieve` refuses these."""
        alone = np.zeros(len(lat), bool)
        if self._masked is None or self.options.least_cos is None:
            return alone
        here = torch.from_numpy(unit_vectors(lat, lon)).to(self.device)
        for start in range(0, len(lat), self.chunk):
            part = slice(start, start + self.chunk)
            alone[part] = (self._masked.after(here[part]).amax(1) < self.options.least_cos).cpu().numpy()
        return alone

    def from_tensors(self, here: torch.Tensor, asked: torch.Tensor) -> Retrieved:
        """Return the same of unit vectors here (n, 3) and asked (n, dk) that are on the device; nothing is checked."""
        with torch.inference_mode(), full_precision():
            return self._run(here, asked, None)

    def _encoder_if(self, queries: ArrayLike | None) -> PlaceEncoder | None:
        if queries is None and self._encoder is None:
            self._encoder = load_encoder(self.bank)
        return self._encoder

    def _run(self, here: torch.Tensor, asked: torch.Tensor, named: tuple[Floats, Floats] | None) -> Retrieved:
        n, dv = len(here), self.bank.values.shape[1]
        out = torch.empty(n, self.bank.dimension, dtype=torch.float32, device=self.device)
        out[:, dv:] = asked
        mass = torch.ones(2, n, dtype=torch.float32, device=self.device)
        for start in range(0, n, self.chunk):
            part = slice(start, start + self.chunk)
            weights = self._weights(here[part], asked[part], mass[:, part], start, named)
            torch.add(self._values.after(weights), self._common, out=out[part, :dv])
        return Retrieved(out, mass[0], mass[1])

    def _weights(
        self,
        here: torch.Tensor,
        asked: torch.Tensor,
        mass: torch.Tensor,
        start: int,
        named: tuple[Floats, Floats] | None,
    ) -> torch.Tensor:
        """Return weights (m, N) of sum 1, in fp32; writes the kept shares into mass (2, m)."""
        beta = self.options.beta
        if beta == 0:
            return self._geographic(here, mass[1], start, named)
        semantic = self._softmax(self._keys.after(asked), mass[0])
        if beta == 1:
            return semantic
        return torch.lerp(self._geographic(here, mass[1], start, named), semantic, beta, out=semantic)

    def _geographic(
        self, here: torch.Tensor, mass: torch.Tensor, start: int, named: tuple[Floats, Floats] | None
    ) -> torch.Tensor:
        logits = self._places.after(here)
        if self._masked is not None:
            logits = self._mask(logits, self._masked.after(here), start, named)
        return self._softmax(logits, mass)

    def _softmax(self, logits: torch.Tensor, mass: torch.Tensor) -> torch.Tensor:
        """Return weights (m, N) of sum 1, in fp32; writes the kept shares into mass (m,)."""
        if logits.dtype == torch.float64:
            logits = (logits - logits.amax(1, keepdim=True)).float()
        weights = torch.softmax(logits, 1, dtype=torch.float32)
        if self.options.mode == "soft":
            return weights
        keep = _greatest(logits, self.options.kept(logits.shape[1]))
        kept = weights.mul_(keep)
        mass.copy_(kept.sum(1))
        if self.options.mode == "mean":
            kept = keep.float()
        return kept.div_(kept.sum(1, keepdim=True))

    def _mask(
        self, logits: torch.Tensor, cosines: torch.Tensor, start: int, named: tuple[Floats, Floats] | None
    ) -> torch.Tensor:
        assert self.options.least_cos is not None
        logits = logits.masked_fill_(cosines < self.options.least_cos, -torch.inf)
        none = torch.isneginf(logits).all(1).nonzero()
        if len(none) and named is not None:
            row = start + int(none[0, 0])
            raise no_place_near(row, float(named[0][row]), float(named[1][row]), self.options.least_cos)
        return logits


def _greatest(logits: torch.Tensor, count: int) -> torch.Tensor:
    """Return which of N logits (m, N) are the `count` greatest of their row, of equal ones the first; never -inf.

    Not which weights: far from the best those are all 0, and for a small τ all equal.
    """
    border = logits.topk(count, dim=1).values[:, -1:]
    keep = logits >= border
    if (keep.sum(1) > count).any():
        above, equal = logits > border, logits == border
        room = count - above.sum(1, keepdim=True)
        keep = above | (equal & (equal.cumsum(1, dtype=torch.int32) <= room))
    return keep & (logits > -torch.inf)
