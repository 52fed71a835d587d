"""Views of the Earth: where each pixel of a tile or of an astronaut's photograph looks. Arrays in, arrays out.

Angles are in degrees, lengths in metres, latitude before longitude; the Earth is PostGIS's sphere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geosearch.bluemarble.raster import Patch
from geosearch.geometry import EARTH_RADIUS_M, Floats, local_axes, unit_vectors

ISS_ALTITUDE_M = 420_000.0


def _pixel_offsets(size: int) -> NDArray[np.float32]:
    """Return pixel centres along one side as numbers in −1 … 1."""
    return ((np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1).astype(np.float32)


def _degrees(v: NDArray[np.float32]) -> Patch:
    """Return the places below vectors (…, 3), of any length."""
    x, y, z = v[..., 0], v[..., 1], v[..., 2]
    return Patch(np.degrees(np.arctan2(z, np.hypot(x, y))), np.degrees(np.arctan2(y, x)))


def tile_view(lat: ArrayLike, lon: ArrayLike, width_m: ArrayLike, size: int, turn_deg: ArrayLike = 0.0) -> Patch:
    """Return the ground (n, size, size) under square tiles seen from above (gnomonic), turned clockwise from north-up.

    lat, lon, width_m, turn_deg: shape (n,) or scalars. Row 0 is the far (northern) side.
    """
    lat, lon, width_m, turn = np.broadcast_arrays(np.atleast_1d(lat), lon, width_m, turn_deg)
    up, east, north = local_axes(lat, lon)
    t = np.radians(turn.astype(float))[:, None]
    right, ahead = np.cos(t) * east - np.sin(t) * north, np.sin(t) * east + np.cos(t) * north
    half = np.tan(width_m.astype(float) / 2 / EARTH_RADIUS_M)[:, None]
    s = _pixel_offsets(size)
    columns = (right * half).astype(np.float32)[:, None, None, :] * s[None, None, :, None]
    rows = (ahead * half).astype(np.float32)[:, None, None, :] * -s[None, :, None, None]
    return _degrees(up.astype(np.float32)[:, None, None, :] + columns + rows)


def tile_corners(lat: ArrayLike, lon: ArrayLike, width_m: ArrayLike) -> tuple[Floats, Floats]:
    """Return (lat, lon), each (n, 4), of north-up tiles' corners, anticlockwise from the lower left.

    The sides of a gnomonic square are great circles, as are the edges of a PostGIS geography: the polygon is exact.
    """
    up, east, north = local_axes(np.atleast_1d(lat), np.atleast_1d(lon))
    half = np.tan(np.broadcast_to(np.asarray(width_m, float), up.shape[:1]) / 2 / EARTH_RADIUS_M)[:, None]
    corners = np.stack([up + half * (sx * east + sy * north) for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))], 1)
    patch = np.degrees(np.arctan2(corners[..., 2], np.hypot(corners[..., 0], corners[..., 1])))
    return patch, np.degrees(np.arctan2(corners[..., 1], corners[..., 0]))


def photo_view(
    nadir_lat: ArrayLike,
    nadir_lon: ArrayLike,
    target_lat: ArrayLike,
    target_lon: ArrayLike,
    width_m: ArrayLike,
    size: int,
    turn_deg: ArrayLike = 0.0,
    altitude_m: float = ISS_ALTITUDE_M,
) -> Patch:
    """Return the ground (n, size, size) seen by a pinhole camera above the nadirs that looks at the targets.

    width_m: how much ground, across the line of sight, fills the picture at the target; turn_deg rolls the camera.
    All arguments have shape (n,) or are scalars. Rays above the horizon are NaN: the sky.
    """
    nadir_lat, nadir_lon, target_lat, target_lon, width_m, turn = np.broadcast_arrays(
        np.atleast_1d(nadir_lat), nadir_lon, target_lat, target_lon, width_m, turn_deg
    )
    eye = unit_vectors(nadir_lat, nadir_lon) * (1 + altitude_m / EARTH_RADIUS_M)  # Earth radii
    line = unit_vectors(target_lat, target_lon) - eye
    slant = np.linalg.norm(line, axis=-1, keepdims=True)
    forward = line / slant
    # "Up" in the picture is away from the Earth's centre, rolled by the turn; straight down it is north-ish.
    helper = eye + 0.05 * local_axes(nadir_lat, nadir_lon)[2]
    right = np.cross(forward, helper)
    right /= np.linalg.norm(right, axis=-1, keepdims=True)
    above = np.cross(right, forward)
    t = np.radians(turn.astype(float))[:, None]
    right, above = np.cos(t) * right + np.sin(t) * above, np.cos(t) * above - np.sin(t) * right
    half = width_m.astype(float)[:, None] / 2 / EARTH_RADIUS_M / slant
    s = _pixel_offsets(size)
    rays = (
        forward.astype(np.float32)[:, None, None, :]
        + (right * half).astype(np.float32)[:, None, None, :] * s[None, None, :, None]
        - (above * half).astype(np.float32)[:, None, None, :] * s[None, :, None, None]
    )
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    origin = eye.astype(np.float32)[:, None, None, :]
    b = (rays * origin).sum(-1)
    disc = b * b - ((origin * origin).sum(-1) - 1)
    reach = -b - np.sqrt(np.where(disc < 0, np.nan, disc))
    reach[~(reach > 0)] = np.nan
    return _degrees(origin + rays * reach[..., None])
