"""RANGE in plain NumPy and float64, one place after the other: what every other way of computing it is held against.

Retrieval-augmented neural fields (Dhakal et al., arXiv 2502.19781), section 3 and the released code. A bank holds N
places x_i (unit vectors), keys k_i (unit vectors of the space of the location encoder) and values v_i. A place x is
asked for with its location embedding q, of unit length:

    h_sem = softmax(τ_sem · K q) V            RANGE, τ_sem = 15: the semantic softmax alone (β = 1)
    h_geo = softmax(τ_geo · X x) V            HAVER: the geographic softmax alone (β = 0)
    h     = β h_sem + (1 − β) h_geo           RANGE+, τ_sem = 12, τ_geo = 40, β = 0.5
    embedding = [h ‖ q]

τ multiplies the cosines. Softmaxes that are cut to the k greatest weights, to one, or to the plain mean of the k are
the paper's ablations; `min_cos` is the angle threshold of the paper, which the released code leaves out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geosearch.errors import InputError
from geosearch.geometry import Floats, unit_vectors
from geosearch.range.bank import Bank
from geosearch.range.options import Retrieval
from geosearch.range.queries import unit_queries


class Reference(NamedTuple):
    """embedding (n, dv + dk) float64; mass_sem, mass_geo (n,): what share of each softmax the kept places have.

    The mass is 1 for a softmax that is not cut or not used at all.
    """

    embedding: Floats
    mass_sem: Floats
    mass_geo: Floats


def embed(
    bank: Bank, lat: ArrayLike, lon: ArrayLike, options: Retrieval | None = None, queries: ArrayLike | None = None
) -> Reference:
    """Return the embeddings of places. lat, lon (n,) degrees; queries (n, dk): instead of the bank's encoder.

    Raises InputError where a place is none, or where min_cos leaves a place without any of the bank's.
    """
    options = options or Retrieval()
    lat, lon = np.atleast_1d(np.asarray(lat, np.float64)), np.atleast_1d(np.asarray(lon, np.float64))
    asked = unit_queries(bank, lat, lon, queries)
    keys, values, places = bank.keys.astype(np.float64), bank.values.astype(np.float64), bank.positions()
    here = unit_vectors(lat, lon)
    found = np.empty((len(lat), bank.dimension))
    mass = np.ones((2, len(lat)))
    for row in range(len(lat)):
        weights = np.zeros(len(bank))
        if options.beta > 0:
            cut, mass[0, row] = _weights(options.semantic_tau * (keys @ asked[row]), options)
            weights += options.beta * cut
        if options.beta < 1:
            cosines = places @ here[row]
            logits = options.tau_geo * cosines
            if options.least_cos is not None:
                logits[cosines < options.least_cos] = -np.inf
                if np.isneginf(logits).all():
                    raise no_place_near(row, lat[row], lon[row], options.least_cos)
            cut, mass[1, row] = _weights(logits, options)
            weights += (1 - options.beta) * cut
        found[row] = np.concatenate([weights @ values, asked[row]])
    return Reference(found, *mass)


def no_place_near(row: int, lat: float, lon: float, min_cos: float) -> InputError:
    """Return the error for a place that min_cos leaves with nothing."""
    degrees = np.degrees(np.arccos(min_cos))
    return InputError(
        f"row {row}: no place of the bank lies within {degrees:.2f}° of {lat}, {lon}; lower min_cos ({min_cos}) or "
        "leave it out"
    )


def _weights(logits: Floats, options: Retrieval) -> tuple[Floats, float]:
    """Return weights (N,) of sum 1 on the places that are kept, and the share of the whole softmax that those have."""
    softmax = np.exp(logits - logits.max())
    softmax /= softmax.sum()
    if options.mode == "soft":
        return softmax, 1.0
    # Of equal logits the place that comes first is kept; what min_cos hides is never kept.
    best: NDArray[np.int64] = np.argsort(-logits, kind="stable")[: options.kept(len(logits))]
    best = best[logits[best] > -np.inf]
    mass = float(softmax[best].sum())
    weights = np.zeros_like(softmax)
    weights[best] = 1 / len(best) if options.mode == "mean" else softmax[best] / mass
    return weights, mass
