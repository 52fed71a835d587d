"""A nadir-aware model and ground of a few random patterns, so small that a run takes seconds."""

import numpy as np
import shapely
import torch
from PIL import Image
from torch import nn

from geosearch.geometry import EARTH_RADIUS_M, destination
from geosearch.nadir.fourier import NadirShape
from geosearch.nadir.loss import multi_similarity
from geosearch.nadir.model import NadirModel
from geosearch.nadir.salad import SaladShape
from geosearch.nadir.towers import Tower
from geosearch.training.nadir import Course, Options
from geosearch.training.nadir_batches import draw, right_and_wrong
from geosearch.training.nadir_catalogued import Photos
from geosearch.training.nadir_ground import Tiles, caps

SIDE = 32
TINY = Options(steps=40, batch=8, learning_rate=3e-3, tower_rate=1.0, warmup=3, trainable=None, catalogued=1.0,
               cluster_every=10, clusters=2, hard=0.5, precision="off", seed=5)  # fmt: skip


class TinyTower(Tower):
    """16 patches of 4 × 4 pixels' means through two layers."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 8, stride=8), nn.Conv2d(16, 16, 1)
        self.blocks = [self.first, self.second]
        self.channels = self.token_channels = 16

    def forward(self, pixels):
        x = self.second(torch.relu(self.first(pixels)))
        return x.flatten(2).transpose(1, 2), x.mean((2, 3))


def tiny_model(dropout=0.0, seed=0):
    torch.manual_seed(seed)
    return NadirModel(TinyTower(), SaladShape(4, 8, 16, 32, dropout), NadirShape(16, 1.0, 16.0, 32, 16))


def pattern(rng):
    small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
    return np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def square(lat, lon, half=1.0):
    """A footprint of 2 · half degrees a side, cut at ±180° as the catalogue has it."""
    west, east = lon - half, lon + half
    parts = [shapely.box(west, lat - half, min(east, 180), lat + half)]
    if east > 180:
        parts.append(shapely.box(-180, lat - half, east - 360, lat + half))
    return shapely.MultiPolygon(parts)


def ground(n=16, seed=1, spacing=6.0):
    """n tiles in a row along the equator and a photograph of each, which also shows a little of the tile east of it."""
    rng = np.random.default_rng(seed)
    pictures = np.stack([pattern(rng) for _ in range(n)])
    lon = spacing * np.arange(n) - 30
    shapes = np.array([square(0, x) for x in lon], object)
    lat, lon, cap = caps(shapes)
    tiles = Tiles(np.arange(n) + 100, lat, lon, cap, (lat, lon), pictures)
    seen = np.clip(pictures.astype(int) + rng.integers(-12, 13, pictures.shape), 0, 255).astype(np.uint8)
    eye = destination(lat, lon, rng.uniform(0, 360, n), np.full(n, 4e5))
    photos = Photos(
        ids=np.arange(n) + 500,
        nadir=eye,
        middle=(lat, lon),
        cap=cap / EARTH_RADIUS_M,
        shapes=shapes,
        pixels=seen,
        first=np.concatenate([np.arange(n) * 2, [2 * n - 1]]),
        tile=np.concatenate([[i, i + 1] for i in range(n)])[: 2 * n - 1],
        overlap=np.tile([0.8, 0.0], n)[: 2 * n - 1],
    )
    return tiles, photos


MEAN, STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]


def gradients(ranks):
    """The gradients (name → array) of the first batch's loss, of which each process makes its own part."""
    tiles, photos = ground()
    model = tiny_model()
    part = draw(tiles, photos, np.zeros(len(tiles), int), TINY, 0, ranks.rank, ranks.count)
    course = Course(tiles, photos, MEAN, STD, TINY, "cpu", ranks)
    vectors = model(course.prepare(part.pixels), torch.from_numpy(part.lat), torch.from_numpy(part.lon))
    middle, reach = (ranks.halves(torch.from_numpy(v)).numpy() for v in (part.middle, part.reach))
    masks = (torch.from_numpy(m) for m in right_and_wrong(part.plan, middle, reach, photos))
    multi_similarity(ranks.halves(vectors.both), *masks).backward()
    ranks.add_gradients(model)
    return {name: p.grad.numpy().copy() for name, p in model.named_parameters()}
