"""The demo, step by step: each step finds what an earlier run has done and does the rest."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from geosearch.catalog.ingest import add
from geosearch.database.archives import list_archives, remove_archive
from geosearch.database.connection import connect
from geosearch.database.spaces import create_space, drop_space
from geosearch.demo import archive, colours, composed, expected, measure, photos, truth
from geosearch.demo.findings import Demo
from geosearch.embedding.identity import record_model
from geosearch.embedding.run import embed
from geosearch.encoders import registry
from geosearch.encoders.names import MINI_CLIP
from geosearch.errors import GeosearchError, InputError
from geosearch.search.client import Client
from geosearch.settings import settings

TILES, PHOTOS, SPACE = "bluemarble-demo", "astronaut-demo", "demo"
VERSION = 1  # of what the tiles and photographs look like: another version is made anew
TEXTS: tuple[tuple[str, tuple[float, float] | None, float], ...] = (
    ("snow-covered mountains", (28.0, 84.0), 1500.0),
    ("tropical rainforest", (-3.0, -60.0), 2500.0),
    ("a sandy desert", None, 2500.0),
    ("islands in the ocean", None, 2500.0),
)
TEXT_ANSWERS = 8

Tell = Callable[[str, int, int], None]


def run(
    page: Path,
    *,
    tiles: int = 4000,
    photographs: int = 240,
    model: str = "mini-clip",
    places: int = 10_000,
    seed: int = 1,
    url: str | None = None,
    tell: Tell | None = None,
) -> Demo:
    """Make the archive and the photographs, catalogue, embed, ask and measure; write the page and return what came.

    tiles: about how many. places: of RANGE's bank, which belongs to mini-clip; none is built for another model.
    url: the database, the one that is set by default. tell: called with (step, done, of).
    Raises GeosearchError. Killed at any moment, the same call goes on where it was.
    """
    steps = _Steps(tell or (lambda title, done, of: None))
    folder = settings().home / "demo"
    # First: what cannot be reached or written should not be found out after minutes of work.
    page.parent.mkdir(parents=True, exist_ok=True)
    with steps("database opened"):
        opened = connect(url, autocommit=True)
    with opened as conn:
        with steps("tiles cut from Blue Marble") as progress:
            plan = archive.plan_tiles(tiles)
            tile_folder = folder / f"tiles-{tiles}-v{VERSION}"
            index = archive.write_tiles(tile_folder, plan, progress)
        with steps("photographs simulated") as progress:
            planned = photos.plan_photos(photographs, plan, seed)
            photo_folder = folder / f"photographs-{photographs}-of-{tiles}-seed-{seed}-v{VERSION}"
            photos.write_photos(photo_folder, planned, seed, progress)
        with steps("images catalogued") as progress:
            _catalogue(conn, TILES, index, "vector", len(plan), archive.FACTS, progress)
            _catalogue(conn, PHOTOS, photo_folder, "photo", len(planned), photos.FACTS, progress)
        with steps("images embedded") as progress:
            _space(conn, SPACE, model)
            for name in (TILES, PHOTOS):
                counts = embed(url, SPACE, name, progress=progress)
                if counts.rejected:
                    raise GeosearchError(
                        f"{counts.rejected} pictures of archive {name} could not be embedded; "
                        f"`geosearch catalog rejects --archive {name}` says why. "
                        f"Delete {folder} and run the demo again"
                    )
        names = [f"{name}.jpg" for name in planned.name]
        with steps("colour histograms imported"):
            colours.fill(conn, url, TILES, tile_folder, plan.name)
            colours.fill(conn, url, PHOTOS, photo_folder, names)
        client = Client(conn)
        with steps("photographs asked") as progress:
            shown = json.loads((photo_folder / photos.TRUTH).read_text("utf-8"))
            right = truth.relevant(conn, TILES, {f"{name}.jpg": shape for name, shape in shown.items()})
            asked = measure.ask(
                client,
                photos=PHOTOS,
                tiles=TILES,
                space=SPACE,
                colours=colours.SPACE,
                nadirs=dict(zip(names, zip(*(map(float, part) for part in planned.nadir), strict=True), strict=True)),
                truth=right,
                held_out=dict(zip(names, map(bool, planned.held_out), strict=True)),
                progress=progress,
            )
        with steps("texts asked") as progress:
            texts = []
            for done, (text, near, radius_km) in enumerate(TEXTS, 1):
                texts.append(
                    client.search(text=text, near=near, radius_km=radius_km, k=TEXT_ANSWERS, archive=TILES, space=SPACE)
                )
                progress(done, len(TEXTS))
        with steps("tiles and words asked") as progress:
            mixed = composed.ask(client, TILES, SPACE, progress)
        expects = _expected(conn, client, url, places, steps) if model.partition("@")[0] == MINI_CLIP else []
    with steps("page written"):
        from geosearch.demo.page import demo_page

        demo = Demo(
            len(plan),
            len(planned),
            measure.table(asked),
            page,
            steps.seconds,
            model,
            asked,
            texts,
            mixed,
            planned,
            expects,
        )
        archive.write_whole(page, lambda path: path.write_text(demo_page(demo, photo_folder), "utf-8"))
    return demo


def _expected(
    conn: psycopg.Connection[Any], client: Client, url: str | None, places: int, steps: _Steps
) -> list[expected.Expected]:
    """Build RANGE's bank and ask it."""
    with steps("features of tiles embedded") as progress:
        _space(conn, expected.SPACE, expected.FEATURES)
        expected.fill_features(url, TILES, progress)
    with steps("bank built from Blue Marble") as progress:
        expected.build_bank(conn, places, progress)
    with steps("places asked") as progress:
        return expected.ask(client, TILES, progress)


class _Steps:
    """Tells of each step and keeps its time."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, title: str) -> Iterator[Callable[[int, int], None]]:
        start = time.monotonic()
        last = [0, 0]

        def progress(done: int, of: int) -> None:
            last[:] = [done, of]
            self._tell(title, done, of)

        self._tell(title, 0, 0)
        yield progress
        self._tell(title, last[1] or 1, last[1] or 1)
        self.seconds[title] = round(time.monotonic() - start, 2)


def _catalogue(
    conn: psycopg.Connection[Any],
    name: str,
    source: Path,
    reader: str,
    images: int,
    facts: dict[str, str],
    progress: Callable[[int, int], None],
) -> None:
    """Catalogue a source of so many images, unless that was done; an archive of another demo makes room."""
    key = f"{source.name if source.is_dir() else source.parent.name}"
    there = next((found for found in list_archives(conn) if found.name == name), None)
    if there is not None and "demo" not in there.properties:
        raise InputError(
            f"archive {name} was not made by the demo; rename or remove it: geosearch archive remove {name}"
        )
    if there is not None and there.properties["demo"] != key:
        remove_archive(conn, name)
    elif there is not None and there.images == images:
        progress(images, images)
        return
    counts = add(
        conn,
        source,
        name,
        reader,
        facts={**facts, "root": str(source.parent if source.is_file() else source), "properties": {"demo": key}},
        progress=lambda counts, _: progress(min(counts.rows, images), images),
    )
    if counts.rejected or counts.rows != images:
        raise GeosearchError(
            f"{images} images went into archive {name}, {counts.rows - counts.rejected} came out; "
            f"`geosearch catalog rejects --archive {name}` says why"
        )


def _space(conn: psycopg.Connection[Any], space: str, model: str) -> None:
    """Make a space of the demo for a model, unless it is there; one that holds vectors of other weights goes."""
    info = registry.describe(model)
    row = conn.execute(
        "select m.weights_sha256, m.preprocessing from geosearch.space s"
        " left join geosearch.model m on m.id = s.model_id where s.name = %s",
        [space],
    ).fetchone()
    if row is not None and row[0] == info.weights_sha256 and info.same_as(*row):
        return
    if row is not None:
        if row[0] is None:
            raise InputError(f"space {space} was not made by the demo; drop it: geosearch space drop {space}")
        drop_space(conn, space)
    create_space(conn, space, info.dimension, record_model(conn, info))
