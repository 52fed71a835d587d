"""Real spherical harmonics of a place, in float64, finite everywhere, with NumPy or on a GPU with torch.

Convention: φ = lon + 180°, θ = lat + 90°, so cos θ = −sin lat and sin θ = cos lat; orthonormal on the sphere; the
associated Legendre functions P̄ bear no Condon–Shortley sign (P̄_mm ≥ 0):

    Y_l0 = P̄_l0(cos θ),   Y_lm = √2 P̄_lm(cos θ) cos mφ,   Y_l,−m = √2 P̄_lm(cos θ) sin mφ   (m > 0).

That is the sign of SatCLIP's "analytic" harmonics (Rußwurm et al., arXiv 2310.06743), whose Y_l0 are π times as long:
`satclip_checkpoint` carries that factor into the first layer's weights, so one set of harmonics serves every encoder.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geosearch.encoders.coordinates import degrees
from geosearch.errors import InputError

MAX_DEGREE = 40  # of SatCLIP's larger encoders
_BLOCK = 512  # places at a time: what a step of the recurrence reads and writes stays in the cache


def spherical_harmonics(lat: ArrayLike, lon: ArrayLike, degree: int) -> NDArray[np.float64]:
    """Return harmonics (n, degree²) of n places in degrees, order l = 0 … degree − 1, within it m = −l … l.

    Raises InputError for places that are not on Earth and for a degree beyond 1 … 40.
    """
    check_degree(degree)
    lats, lons = degrees(lat, lon)
    out = np.empty((len(lats), degree * degree))
    rows = np.empty((degree * degree, _BLOCK))
    for start in range(0, len(lats), _BLOCK):
        stop = min(start + _BLOCK, len(lats))
        block = rows[:, : stop - start]
        fill_harmonics(np, np.radians(lats[start:stop]), np.radians(lons[start:stop] + 180.0), degree, block)
        out[start:stop] = block.T
    return out


def check_degree(degree: int) -> None:
    """Raise InputError for a degree that is not within 1 … 40."""
    if not 1 <= degree <= MAX_DEGREE:
        raise InputError(f"degree {degree} of spherical harmonics is not within 1 … {MAX_DEGREE}")


def fill_harmonics(xp: Any, lat: Any, phi: Any, degree: int, out: Any) -> None:
    """Write harmonics into out (degree², n); xp: numpy or torch; lat and phi (n,) in radians, float64, as out.

    The recurrence of fully normalised functions (Holmes and Featherstone 2002, eq. 11 and 13), for all m at once. It
    has no factorial and no quotient by sin θ: near a pole a small power becomes 0, not NaN.
    """
    x, s = -xp.sin(lat), xp.cos(lat)
    a, b = _factors(degree)
    angles = phi[None, :] * _column(xp, np.arange(degree, dtype=np.float64), phi)
    cosines, sines = np.sqrt(2.0) * xp.cos(angles), np.sqrt(2.0) * xp.sin(angles)
    before: Any = None  # P̄ of l − 2 for m = 0 … l − 2
    now = xp.full_like(s, np.sqrt(1 / (4 * np.pi)))[None, :]  # P̄ of l − 1 for m = 0 … l − 1
    out[0] = now[0]
    for order in range(1, degree):
        new = xp.empty_like(out[: order + 1])
        new[: order - 1] = x * now[: order - 1]
        if order > 1:
            new[: order - 1] -= _column(xp, b[order, : order - 1], phi) * before
            new[: order - 1] *= _column(xp, a[order, : order - 1], phi)
        new[order - 1] = np.sqrt(2 * order + 1.0) * x * now[order - 1]
        new[order] = np.sqrt((2 * order + 1) / (2 * order)) * s * now[order - 1]
        middle = order * order + order
        out[middle] = new[0]
        out[middle + 1 : middle + order + 1] = new[1:] * cosines[1 : order + 1]
        out[middle - order : middle] = xp.flip(new[1:] * sines[1 : order + 1], (0,))
        before, now = now, new


@lru_cache(maxsize=8)
def _factors(degree: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a and b (degree, degree) of P̄_lm = a (cos θ P̄_l−1,m − b P̄_l−2,m), for m < l − 1."""
    order, m = np.meshgrid(np.arange(degree, dtype=np.float64), np.arange(degree, dtype=np.float64), indexing="ij")
    inside = m < order - 1
    square, previous = np.where(inside, order**2 - m**2, 1), np.where(inside, 4 * (order - 1) ** 2 - 1, 1)
    a = np.sqrt(np.where(inside, 4 * order**2 - 1, 0) / square)
    b = np.sqrt(np.where(inside, (order - 1) ** 2 - m**2, 0) / previous)
    return a, b


def _column(xp: Any, values: NDArray[np.float64], like: Any) -> Any:
    return values[:, None] if xp is np else xp.as_tensor(values, device=like.device)[:, None]
