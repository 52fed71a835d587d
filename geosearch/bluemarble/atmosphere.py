"""What stands between a camera and the ground: haze, clouds, exposure, grain. Arrays in, arrays out; simulated."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class Weather:
    """How strong each effect may get; every photograph draws its own strength between 0 and these."""

    haze: float = 0.45  # share of bluish white laid over the picture, more of it towards the horizon
    cloud: float = 0.35  # share of the picture under cloud
    exposure: float = 0.35  # natural logarithm of the gain, either way
    tint: float = 0.10  # the same for each colour apart
    contrast: float = 0.25  # exponent, either way
    grain: float = 4.0  # standard deviation of the sensor's noise, of 255


TRAINING = Weather()
LIGHT = Weather(0.08, 0.0, 0.12, 0.04, 0.1, 2.0)  # tiles are clear, but no two sensors see alike
HELD_OUT = Weather(haze=0.35, cloud=0.45, exposure=0.25, tint=0.14, contrast=0.35, grain=5.0)


def apply(photos: Pixels, rng: np.random.Generator, weather: Weather = TRAINING) -> NDArray[np.uint8]:
    """Return photographs (n, s, s, 3) uint8 of clear views (n, s, s, 3) float32 in 0 … 255. Sky stays dark."""
    n, size = photos.shape[:2]
    sky = (photos[..., :1] + photos[..., 1:2] + photos[..., 2:] <= 0).astype(np.float32)
    seen = photos
    if weather.cloud:
        cover = _clouds(n, size, rng, weather.cloud)[..., None] * (1 - sky)
        seen = seen * (1 - cover) + 245 * cover
    if weather.haze:
        slope = (
            rng.uniform(-1, 1, (n, 1, 1, 1)).astype(np.float32)
            * np.linspace(-0.5, 0.5, size, dtype=np.float32)[None, :, None, None]
        )
        veil = np.clip(rng.uniform(0, weather.haze, (n, 1, 1, 1)).astype(np.float32) * (1 + slope), 0, 1) * (
            1 - 0.8 * sky
        )
        seen = seen * (1 - veil) + np.array([178, 198, 226], np.float32) * veil
    gain = np.exp(rng.uniform(-weather.exposure, weather.exposure, (n, 1, 1, 1)))
    gain = gain * np.exp(rng.uniform(-weather.tint, weather.tint, (n, 1, 1, 3)))
    power = np.exp(rng.uniform(-weather.contrast, weather.contrast, (n, 1, 1, 1)))
    seen = 255 * np.power(np.clip(seen / 255, 0, 1), power.astype(np.float32)) * gain.astype(np.float32)
    if weather.grain:
        noise = rng.standard_normal(seen.shape, np.float32)
        seen = seen + noise * rng.uniform(0, weather.grain, (n, 1, 1, 1)).astype(np.float32)
    return np.clip(np.rint(seen), 0, 255).astype(np.uint8)


def _clouds(n: int, size: int, rng: np.random.Generator, most: float) -> Pixels:
    """Return cover (n, size, size) in 0 … 1: fractal noise, cut so that a drawn share of the picture is cloudy."""
    sheets = _cloud_sheets(size)
    side = sheets.shape[1]
    which, y, x = rng.integers(0, len(sheets), n), rng.integers(0, side - size, n), rng.integers(0, side - size, n)
    rows, columns = y[:, None, None] + np.arange(size)[:, None], x[:, None, None] + np.arange(size)
    noise = sheets[which[:, None, None], rows, columns]
    share = rng.uniform(-most, most, n).astype(np.float32)  # negative: no cloud at all, half of the time
    return np.clip((noise - (1 - share[:, None, None])) * 6, 0, 0.95)


@cache
def _cloud_sheets(size: int) -> Pixels:
    """Return 32 sheets of fractal noise (32, 3·size, 3·size) whose values are uniform in 0 … 1."""
    rng, side = np.random.default_rng(7), 3 * size
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    frequency[0, 0] = 1
    sheets = np.empty((32, side, side), np.float32)
    for sheet in sheets:
        noise = np.fft.ifft2(np.fft.fft2(rng.standard_normal((side, side))) * frequency**-1.6).real
        sheet.ravel()[np.argsort(noise, axis=None)] = np.linspace(0, 1, side * side, dtype=np.float32)
    return sheets
