"""What benchmarks/wide.py searches: vectors of 8 448 numbers with places, and questions. Two sources.

`made`: the synthetic archive of archive.py, its 768 numbers turned into 8 448 by an orthonormal matrix, which leaves
all cosines as they are. Questions: a stored vector with noise, cosine 0.96.

`pictures`: the pictures of an archive described as SALAD describes them, in its own size (64 clusters × 128 + 256), by
the patches of a model that is there. SALAD's three small networks are not trained for that; what stands for them is
fitted as NetVLAD begins (Arandjelović et al. 2016): scores from k-means of the patches, as sharp as ln 100 between the
nearest centre and the next; the parts by principal axes. Who belongs where is shared out by SALAD's own arithmetic, so
that vectors have the blocks, the dustbin and the norms of the real thing. Questions: other views of catalogued
pictures, turned by quarters, cut and with another contrast.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psycopg
import torch
from archive import Shape, make
from numpy.typing import NDArray
from PIL import Image

from geosearch.embedding import files
from geosearch.encoders import registry
from geosearch.encoders.pictures import open_image
from geosearch.nadir.salad import SHAPES, assignment
from geosearch.nadir.towers import normalise, tower_of

WIDE = SHAPES["full"].dimension
NOISE = 0.3  # of a question beside a stored vector of length 1
FITTED = 1500  # pictures that clusters and axes are fitted on
STEP = 64  # pictures at a time


class Wide(NamedTuple):
    """vectors: (n, 8448) float32 of length 1; places: (n, 2) lat, lon; questions: (m, 8448), of: (m,) of which row."""

    vectors: NDArray[np.float32]
    places: NDArray[np.float64]
    questions: NDArray[np.float32]
    of: NDArray[np.int64]
    about: str


def made(rows: int, count: int, folder: Path, seed: int) -> Wide:
    """Return the synthetic archive in 8 448 dimensions, and questions."""
    archive = make(Shape(rows, 768, seed), folder)
    rng = np.random.default_rng([seed, 3])
    wider = np.linalg.qr(rng.standard_normal((WIDE, 768)))[0].T.astype(np.float32)
    vectors = np.empty((rows, WIDE), np.float32)
    for start, _, block in archive.blocks():
        vectors[start : start + len(block)] = units(block.astype(np.float32)) @ wider
    of = rng.choice(rows, count, replace=False)
    noise = units(rng.standard_normal((count, WIDE)).astype(np.float32))
    places = np.column_stack([archive.rows["lat"], archive.rows["lon"]])
    return Wide(vectors, places, units(vectors[of] + NOISE * noise), of, "synthetic clusters, 768 numbers made 8 448")


def pictures(url: str, archive: str, model: str, size: int, rows: int, count: int, seed: int) -> Wide:
    """Return at most `rows` pictures of an archive, with known places, as SALAD has them, and other views of some."""
    with psycopg.connect(url) as conn:
        found = conn.execute(
            "select i.uri, a.root, st_y(p::geometry), st_x(p::geometry) from geosearch.image i"
            " join geosearch.archive a on a.id = i.archive_id"
            " cross join lateral geosearch.encoded_place(i.nadir, i.footprint, i.problems) p"
            " where a.name = %s and p is not null order by hashint8(i.id) limit %s",
            [archive, rows],
        ).fetchall()
    if len(found) <= max(count, FITTED):
        raise SystemExit(f"archive {archive} has {len(found)} images with places; at least {FITTED} are needed")
    describe = _Describer(model, size)
    rng = np.random.default_rng([seed, 4])
    fitted = rng.choice(len(found), FITTED, replace=False)
    describe.fit([_open(found[i]) for i in fitted], rng)
    vectors = np.concatenate([describe([_open(row) for row in part]) for part in _parts(found)])
    of = rng.choice(len(found), count, replace=False)
    views = [_view(_open(found[i]), rng) for i in of]
    questions = np.concatenate([describe(part) for part in _parts(views)])
    places = np.array([row[2:] for row in found], float)
    return Wide(vectors, places, questions, of, f"pictures of {archive} by the patches of {model} at {size} pixels")


def units(vectors: NDArray[Any]) -> NDArray[Any]:
    """Return vectors (…, d) at length 1."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


class _Describer:
    """Pictures → (n, 8448): SALAD's arithmetic over the patches of a model, with what is learned there fitted here."""

    def __init__(self, model: str, size: int) -> None:
        encoder: Any = registry.load(model, "cpu")
        self.tower = tower_of(encoder._model.visual)
        self.cfg = encoder.info.preprocessing
        self.size, self.shape = size, SHAPES["full"]

    def fit(self, some: list[Image.Image], rng: np.random.Generator) -> None:
        """Fit centres, their sharpness, and the axes of patches and tokens."""
        read = [self._tower(part) for part in _parts(some)]
        patches = units(np.concatenate([p.reshape(-1, p.shape[-1]) for p, _ in read]))
        patches = patches[rng.choice(len(patches), min(len(patches), 40_000), replace=False)]
        self.centres = _means(patches, self.shape.clusters, rng)
        near = np.sort(
            ((patches**2).sum(1, keepdims=True) + (self.centres**2).sum(1) - 2 * patches @ self.centres.T), 1
        )
        self.sharpness = np.log(100) / (near[:, 1] - near[:, 0]).mean()
        self.dustbin = float(np.quantile(-self.sharpness * near[:, 0], 0.2))
        self.patch_axes = _axes(patches, self.shape.cluster_dim)
        self.token_axes = _axes(units(np.concatenate([t for _, t in read])), self.shape.global_dim)

    def __call__(self, some: list[Image.Image]) -> NDArray[np.float32]:
        patches, tokens = self._tower(some)
        patches, tokens = units(patches), units(tokens)
        away = (patches**2).sum(2, keepdims=True) + (self.centres**2).sum(1) - 2 * patches @ self.centres.T
        shared = assignment(torch.from_numpy(-self.sharpness * away), torch.tensor(self.dustbin)).numpy()
        sums = np.einsum("bnm,bnl->bml", shared, _along(patches, self.patch_axes))
        token = units(_along(tokens, self.token_axes))
        return units(np.concatenate([token, units(sums).reshape(len(some), -1)], 1)).astype(np.float32)

    def _tower(self, some: list[Image.Image]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        pixels = np.stack([np.asarray(p.resize((self.size, self.size), Image.Resampling.BICUBIC)) for p in some])
        with torch.inference_mode():
            moved = normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2), self.cfg["mean"], self.cfg["std"])
            patches, token = self.tower(moved)
        return patches.numpy(), token.numpy()


def _means(points: NDArray[np.float32], count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the centres (count, c) of k-means, after twenty rounds."""
    centres = points[rng.choice(len(points), count, replace=False)]
    for _ in range(20):
        nearest = np.argmax(points @ centres.T - 0.5 * (centres**2).sum(1), 1)
        centres = np.stack([points[nearest == i].mean(0) if (nearest == i).any() else centres[i] for i in range(count)])
    return centres


def _axes(points: NDArray[np.float32], count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the mean (c,) and the first principal axes (c, count); where c is less, random directions of as many."""
    mean = points.mean(0)
    axes = np.linalg.svd(points[:8000] - mean, full_matrices=False)[2].T
    if axes.shape[1] < count:
        axes = axes @ np.linalg.qr(np.random.default_rng(0).standard_normal((count, axes.shape[1])))[0].T
    return mean, axes[:, :count].astype(np.float32)


def _along(points: NDArray[np.float32], fitted: tuple[NDArray[np.float32], NDArray[np.float32]]) -> NDArray[np.float32]:
    return (points - fitted[0]) @ fitted[1]


def _open(row: tuple[Any, ...]) -> Image.Image:
    path = files.locate(row[0], row[1])
    return open_image(files.read(path).source, name=str(path)).convert("RGB")


def _view(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    left, top = (int(rng.uniform(0, 0.2) * side) for side in picture.size)
    cut = picture.crop((left, top, left + int(0.8 * picture.width), top + int(0.8 * picture.height)))
    turned = np.rot90(np.asarray(cut), rng.integers(4)).astype(np.float32)
    changed = (turned - turned.mean()) * rng.uniform(0.6, 1.4) + turned.mean() + rng.uniform(-20, 20)
    return Image.fromarray(np.clip(changed, 0, 255).astype(np.uint8))


def _parts(things: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(things), STEP):
        yield things[start : start + STEP]
