"""Real spherical harmonics of a place, in float64, finite everywhere. Plain NumPy.

Convention: φ = lon + 180°, θ = lat + 90°, so cos θ = −sin lat and sin θ = cos lat; orthonormal on the sphere; the
associated Legendre functions P̄ bear no Condon–Shortley sign (P̄_mm ≥ 0):

    Y_l0 = P̄_l0(cos θ),   Y_lm = √2 P̄_lm(cos θ) cos mφ,   Y_l,−m = √2 P̄_lm(cos θ) sin mφ   (m > 0).

That is the sign of SatCLIP's "analytic" harmonics (Rußwurm et al., arXiv 2310.06743), whose Y_l0 are π times as long:
`satclip_checkpoint` carries that factor into the first layer's weights, so one set of harmonics serves every encoder.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geosearch.encoders.coordinates import degrees
from geosearch.errors import InputError

MAX_DEGREE = 40  # of SatCLIP's larger encoders; the recurrence is exact far beyond


def spherical_harmonics(lat: ArrayLike, lon: ArrayLike, degree: int) -> NDArray[np.float64]:
    """Return harmonics (n, degree²) of n places in degrees, order l = 0 … degree − 1, within it m = −l … l.

    The recurrence of fully normalised functions (Holmes and Featherstone 2002, eq. 11 and 13) has no factorial and no
    quotient by sin θ: near a pole a small power becomes 0, not NaN. Raises InputError for places that are not on Earth.
    """
    if not 1 <= degree <= MAX_DEGREE:
        raise InputError(f"degree {degree} of spherical harmonics is not within 1 … {MAX_DEGREE}")
    lats, lons = degrees(lat, lon)
    x, s = -np.sin(np.radians(lats)), np.cos(np.radians(lats))
    phi = np.radians(lons + 180.0)
    out = np.empty((degree * degree, len(lats)))  # a row a harmonic, so that every step writes one run of memory
    sectoral = np.full(len(lats), math.sqrt(1 / (4 * math.pi)))  # P̄_mm
    for m in range(degree):
        if m:
            sectoral = sectoral * s * math.sqrt((2 * m + 1) / (2 * m))
        cosine, sine = math.sqrt(2) * np.cos(m * phi), math.sqrt(2) * np.sin(m * phi)
        before, now = np.zeros_like(x), sectoral
        for order in range(m, degree):
            if order > m:
                a = math.sqrt((4 * order**2 - 1) / (order**2 - m**2))
                b = math.sqrt(((order - 1) ** 2 - m**2) / (4 * (order - 1) ** 2 - 1))
                before, now = now, a * (x * now - b * before)
            middle = order * order + order
            if m == 0:
                out[middle] = now
            else:
                out[middle + m], out[middle - m] = now * cosine, now * sine
    return np.ascontiguousarray(out.T)
