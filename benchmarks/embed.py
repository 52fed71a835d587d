"""Times an embedding run against its encoder alone: how much of the encoder's own speed is left when files are read,
decoded, and vectors written.

    python benchmarks/embed.py --url postgresql://…/scratch [--model mini-clip] [--images 2000] [--pixels 256]

The database must be migrated; the archive and space `benchmark` are made there and removed again. Pictures are JPEG
files of random patches; every other one has a nadir, the rest a footprint, which a model that reads places is given.
Random weights cost what trained ones cost: `--model random:ViT-B-32` takes an architecture of open_clip, and
`--model random:nadir/vit_base_patch14_reg4_dinov2.lvd142m/full` a nadir-aware one: a tower of timm, a size of SALAD.
Both are timed in turn, in the same process, so that a busy machine slows both; read the ratio.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psycopg
from PIL import Image

from geosearch.catalog.footprints import box
from geosearch.database.archives import ensure_archive, remove_archive
from geosearch.database.connection import connect
from geosearch.database.spaces import create_space, drop_space
from geosearch.embedding.identity import record_model
from geosearch.embedding.run import decode_threads, embed
from geosearch.encoders import registry
from geosearch.encoders.base import Encoder
from geosearch.item import Item, Place
from geosearch.settings import settings

ARCHIVE = SPACE = "benchmark"


def write_pictures(folder: Path, count: int, pixels: int) -> list[Path]:
    """Write JPEG files with patches of colour at several scales."""
    random = np.random.default_rng(0)
    paths = []
    for i in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (5, 5, 3), np.uint8)).resize((pixels, pixels))
        fine = random.integers(-20, 20, (pixels, pixels, 1))
        paths.append(folder / f"{i}.jpg")
        Image.fromarray(np.clip(np.asarray(coarse) + fine, 0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    return paths


def random_model(architecture: str, folder: Path) -> str:
    """Write a model folder of that architecture with random weights; return its name."""
    import open_clip
    from safetensors.torch import save_file

    net = open_clip.create_model(architecture, load_weights=False)
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, folder / "model.safetensors")
    facts = {
        "model_cfg": open_clip.get_model_config(architecture),
        "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(facts))
    return f"open_clip:local-dir:{folder}"


def random_nadir(tower: str, size: str, pixels: int, folder: Path) -> str:
    """Write a folder with a nadir-aware model of random weights; return its name."""
    from geosearch.encoders.nadir_folder import build, write_folder
    from geosearch.nadir.fourier import NadirShape
    from geosearch.nadir.salad import SHAPES

    picture = {"size": [pixels] * 2, "mean": [0.5] * 3, "std": [0.25] * 3}
    config = {
        "tower": {"kind": "timm", "model": tower},
        "picture": {**picture, "interpolation": "bicubic", "resize_mode": "shortest"},
        "salad": asdict(SHAPES[size]),
        "nadir": asdict(NadirShape()),
    }
    write_folder(folder / "nadir", build(config), config)
    return f"nadir:local-dir:{folder / 'nadir'}"


def catalogue(conn: psycopg.Connection[Any], paths: list[Path]) -> list[Place | None]:
    """Catalogue pictures, with nadirs and footprints in turn; return the places they are to be encoded with."""
    archive = ensure_archive(conn, ARCHIVE)
    random = np.random.default_rng(1)
    lats, lons = random.uniform(-51, 51, len(paths)), random.uniform(-178, 178, len(paths))
    tiles = [box(lon - 1, lat - 1, lon + 1, lat + 1).wkt for lat, lon in zip(lats, lons, strict=True)]
    with conn.cursor() as cursor:
        cursor.executemany(
            "insert into geosearch.image (archive_id, name, uri, reach_m, nadir, footprint)"
            " values (%s, %s, %s, 0, st_makepoint(%s, %s), %s::geography)",
            [
                (archive, path.name, str(path), *((lon, lat, None) if i % 2 else (None, None, tiles[i])))
                for i, (path, lat, lon) in enumerate(zip(paths, lats.tolist(), lons.tolist(), strict=True))
            ],
        )
    conn.execute("analyze geosearch.image")
    rows = conn.execute(
        "select st_y(p::geometry), st_x(p::geometry) from geosearch.image i, geosearch.archive a,"
        " geosearch.encoded_place(i.nadir, i.footprint, i.problems) p where a.id = i.archive_id and a.name = %s"
        " order by i.id",
        [ARCHIVE],
    ).fetchall()
    return [Place(*row) for row in rows]


class Alone(NamedTuple):
    """The encoder without the run: images/s of it and of one thread preparing, and processor seconds an image."""

    encoding: float
    preparing: float
    encoding_cpu: float
    preparing_cpu: float


def encoder_alone(encoder: Encoder, paths: list[Path], places: list[Place | None]) -> Alone:
    """Encode all pictures, a batch at a time, each batch prepared before the clock runs."""
    step = settings().batch_size
    if "place" not in encoder.info.reads:
        places = [None] * len(paths)
    items = [Item(image=path, place=place) for path, place in zip(paths, places, strict=True)]
    clocks = time.perf_counter, time.process_time
    spent = np.zeros((2, 2))  # preparing and encoding; by the clock and of the processors
    for i in range(0, len(paths), step):
        start = [clock() for clock in clocks]
        prepared = [encoder.prepare(item) for item in items[i : i + step]]
        between = [clock() for clock in clocks]
        encoder.encode_prepared(prepared)
        end = [clock() for clock in clocks]
        spent += np.diff([start, between, end], axis=0)
    (preparing, preparing_cpu), (encoding, encoding_cpu) = spent / len(paths)
    return Alone(1 / encoding, 1 / preparing, encoding_cpu, preparing_cpu)


def main() -> None:
    """Print images a second of the run and of the encoder alone, and the shares of the run's time."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--url", required=True)
    arguments.add_argument("--model", default="mini-clip")
    arguments.add_argument("--images", type=int, default=2000)
    arguments.add_argument("--pixels", type=int, default=256)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--size", type=int, default=224, help="pixels that a random nadir-aware model takes")
    arguments.add_argument("--device", help="cpu, cuda, …; the setting by default")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name, connect(given.url, autocommit=True) as conn:
        folder = Path(name)
        model = given.model
        if model.startswith("random:nadir/"):
            model = random_nadir(*model.split("/")[1:], given.size, folder)
        elif model.startswith("random:"):
            model = random_model(model.removeprefix("random:"), folder)
        paths = write_pictures(folder, given.images, given.pixels)
        encoder = registry.load(model, given.device)
        encoder.encode([Item(image=path) for path in paths[:64]])  # warm
        try:
            places = catalogue(conn, paths)
            create_space(conn, SPACE, encoder.info.dimension, record_model(conn, encoder.info))
            alone, whole, shares = [], [], []
            for _ in range(given.rounds):
                alone.append(encoder_alone(encoder, paths, places))
                conn.execute(f"truncate geosearch.space_{SPACE}")
                counts = embed(given.url, SPACE, ARCHIVE, encoder=encoder)
                assert counts.embedded == len(paths)
                whole.append(len(paths) / counts.seconds["total"])
                shares.append(counts.shares)
        finally:
            drop_space(conn, SPACE)
            remove_archive(conn, ARCHIVE)
            conn.execute("delete from geosearch.model where name = %s", [model])
    found = Alone(*(statistics.median(values) for values in zip(*alone, strict=True)))
    share = {stage: statistics.median(one[stage] for one in shares) for stage in shares[0]}
    ratio = statistics.median(w / a.encoding for w, a in zip(whole, alone, strict=True))
    print(
        f"{given.model}: {len(paths)} pictures of {given.pixels} × {given.pixels}, {decode_threads()} decoding threads"
    )
    print(f"encoder alone      {found.encoding:8.0f} images/s, {1000 * found.encoding_cpu:7.2f} ms of processors each")
    print(
        f"decoding, 1 thread {found.preparing:8.0f} images/s, {1000 * found.preparing_cpu:7.2f} ms of processors each"
    )
    print(f"whole run          {statistics.median(whole):8.0f} images/s")
    print(f"whole run / encoder alone  {ratio:.2f}")
    for stage, value in share.items():
        print(f"  {stage:<7} {value:6.1%} of the time")


if __name__ == "__main__":
    main()
