"""Embeddings of places by name: any location encoder, and a bank asked in any way. What probes and tables run over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from geosearch.errors import UnknownNameError
from geosearch.geometry import Floats
from geosearch.range.options import Retrieval

if TYPE_CHECKING:
    from geosearch.range.bank import Bank

# Every encoder that needs no weights from elsewhere, in the order of the paper's table.
ENCODERS = (
    "coordinates:direct", "coordinates:unit-vector", "coordinates:wrap", "coordinates:theory",
    "coordinates:sphere2vec-c", "coordinates:sphere2vec-c+", "coordinates:sphere2vec-m", "coordinates:sphere2vec-m+",
    "coordinates:harmonics-5", "coordinates:harmonics-10", "coordinates:harmonics-20", "mini-location",
)  # fmt: skip

METHODS = {"range": ("RANGE", 1.0), "range+": ("RANGE+", 0.5), "haver": ("HAVER", 0.0)}
CUTS = {"soft": "", "topk": ", top {k}", "top1": ", top 1", "mean": ", mean of the top {k}"}
MODES = ("range", "range+", "haver")
BETAS = (0.0, 0.25, 0.5, 0.75, 1.0)
ABLATIONS = ("range:top1", "range:topk", "range:mean", "range+:top1", "range+:topk", "range+:mean")


@dataclass(frozen=True)
class Way:
    """A way to embed places. encode: lat, lon (n,) in degrees → embeddings (n, d)."""

    name: str
    encode: Callable[[Floats, Floats], NDArray[Any]]


def encoder_way(name: str) -> Way:
    """Return a location encoder as it leaves its network, not brought to unit length (as the paper probes it)."""
    from geosearch.range.queries import place_encoder

    encoder = place_encoder(name)
    return Way(name, lambda lat, lon: encoder.encode_places(lat, lon, normalise=False))


def retrieval(mode: str, k: int = 100) -> tuple[str, Retrieval]:
    """Return the title and the options of a mode: a method, and after a colon which places its softmaxes keep.

    Methods: range, range+, haver. Kept: soft (all, the default), topk, top1, mean. E.g. `range+`, `range:topk`.
    """
    method, _, cut = mode.partition(":")
    known = [*METHODS, *(f"{m}:{c}" for m in METHODS for c in CUTS if c != "soft")]
    if method not in METHODS or (cut or "soft") not in CUTS:
        raise UnknownNameError("mode", mode, known)
    title, beta = METHODS[method]
    return title + CUTS[cut or "soft"].format(k=k), Retrieval(beta=beta, mode=cut or "soft", k=k)


def bank_way(bank: Bank, options: Retrieval, title: str) -> Way:
    """Return a bank asked with some options; its embeddings are [h ‖ q]."""
    from geosearch.range.soft import SoftRetrieval

    soft = SoftRetrieval(bank, options)
    return Way(title, lambda lat, lon: soft.embed(lat, lon))


def bank_ways(bank: Bank, modes: Sequence[str] = MODES, k: int = 100) -> list[Way]:
    """Return a bank asked in several modes (see `retrieval`)."""
    return [bank_way(bank, options, title) for title, options in (retrieval(mode, k) for mode in modes)]


def beta_ways(bank: Bank, betas: Sequence[float]) -> list[Way]:
    """Return a bank asked with RANGE+'s temperatures and several β: what mixes the two softmaxes."""
    return [bank_way(bank, Retrieval(beta=beta, tau_sem=12.0), f"β = {beta:g}") for beta in betas]
