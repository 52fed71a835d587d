"""A model that reads places: each image is encoded with its own, and anew when the catalogue has another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from embedding_archive import Archive, archive, catalogue, model, picture
from tiny_model import write_nadir_model

from geosearch.catalog.footprints import box
from geosearch.catalog.problems import IMPOSSIBLE_NADIR
from geosearch.database.spaces import create_space, drop_space, get_space
from geosearch.embedding.identity import record_model
from geosearch.embedding.missing import MissingImages
from geosearch.embedding.run import EmbedCounts, embed
from geosearch.embedding.write import VectorWriter
from geosearch.encoders import registry
from geosearch.encoders.base import ModelInfo, Vectors
from geosearch.geometry import unit_vectors
from geosearch.item import Item, Place

__all__ = ["archive", "model"]  # fixtures, imported by name


class PlaceEncoder:
    """The mean colour of a picture, a constant, and the unit vector of its place, 0 where there is none."""

    info = ModelInfo("by-place", "test", "1", "0" * 64, 7, "cosine", frozenset({"image", "place"}), {})

    def __init__(self) -> None:
        self.seen: list[Place | None] = []

    def prepare(self, item: Item) -> np.ndarray:
        assert item.image is not None
        where = np.zeros(3) if item.place is None else unit_vectors(item.place.lat, item.place.lon)
        self.seen.append(item.place)
        return np.concatenate([np.asarray(item.image, float).mean(axis=(0, 1)) / 255, [1], where])

    def encode_prepared(self, prepared: Sequence[np.ndarray]) -> Vectors:
        rows = np.stack(prepared)
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def encode(self, items: Sequence[Item]) -> Vectors:
        return self.encode_prepared([self.prepare(item) for item in items])


@dataclass
class Placed:
    """The archive with a space of the model that reads places."""

    archive: Archive
    encoder: PlaceEncoder

    def put(
        self, name: str, nadir: str | None = None, footprint: str | None = None, problems: Sequence[str] = ()
    ) -> int:
        image = self.archive.save(name, len(name))
        self.move(image, nadir, footprint, problems)
        return image

    def move(
        self, image: int, nadir: str | None = None, footprint: str | None = None, problems: Sequence[str] = ()
    ) -> None:
        self.archive.conn.execute(
            "update geosearch.image set nadir = %s::geography, footprint = %s::geography, problems = %s where id = %s",
            [nadir, footprint, list(problems), image],
        )

    def embed(self, **options: bool) -> tuple[int, int, int, int]:
        self.encoder.seen.clear()
        counts: EmbedCounts = embed(self.archive.url, "placed", encoder=self.encoder, batch_size=3, **options)
        return counts.embedded, counts.unchanged, counts.rejected, counts.gone

    def kept(self) -> dict[str, tuple[float, float] | None]:
        """The places that vectors were made with, as the database keeps them."""
        rows = self.archive.conn.execute(
            "select i.name, e.lat, e.lon from geosearch.embedded_place e"
            " join geosearch.image i on i.id = e.image_id join geosearch.space s on s.id = e.space_id"
            " where s.name = 'placed'"
        ).fetchall()
        return {name: None if lat is None else (lat, lon) for name, lat, lon in rows}


@pytest.fixture
def placed(archive: Archive) -> Placed:
    encoder = PlaceEncoder()
    create_space(archive.conn, "placed", 7, record_model(archive.conn, encoder.info))
    return Placed(archive, encoder)


def test_each_image_is_encoded_with_its_own_place(placed: Placed) -> None:
    tile = box(9, 44, 11, 46).wkt
    placed.put("nadir", "POINT(30 10)", tile)
    placed.put("tile", None, tile)
    placed.put("impossible", "POINT(30 10)", tile, [IMPOSSIBLE_NADIR])
    placed.put("no place at all")
    assert placed.embed() == (4, 0, 0, 0)
    middle = placed.kept()["tile"]
    assert middle == pytest.approx((45, 10), abs=0.01)
    expected = {"nadir": (10.0, 30.0), "tile": middle, "impossible": middle, "no place at all": None}
    assert placed.kept() == expected
    stored = placed.archive.vectors("placed")
    for name, where in expected.items():
        place = None if where is None else Place(*where)
        direct = placed.encoder.encode([Item(image=picture(len(name)), place=place)])[0]
        assert stored[name] == pytest.approx(direct, abs=1e-3)  # stored in half precision
    assert placed.embed() == (0, 4, 0, 0)
    assert placed.encoder.seen == []


def test_a_corrected_place_is_embedded_anew_and_no_other(placed: Placed) -> None:
    images = {name: placed.put(name, "POINT(30 10)") for name in ("a", "bb", "ccc", "dddd", "eeeee")}
    placed.embed()
    before = placed.archive.vectors("placed")
    placed.move(images["a"], "POINT(-60 10)")  # corrected
    placed.move(images["bb"])  # lost
    placed.move(images["ccc"], "POINT(30.000001 10)")  # by a decimetre, which no nadir is known to
    placed.move(images["dddd"], "POINT(30 10)", None, [IMPOSSIBLE_NADIR])  # not trusted any more
    assert placed.embed() == (3, 2, 0, 0)
    after = placed.archive.vectors("placed")
    changed = {name for name in after if not np.array_equal(before[name], after[name])}
    assert changed == {"a", "bb", "dddd"}
    assert placed.kept() == {"a": (10, -60), "bb": None, "ccc": (10, 30), "dddd": None, "eeeee": (10, 30)}
    assert placed.embed() == (0, 5, 0, 0)
    placed.move(images["bb"], "POINT(1 2)")  # found again
    assert placed.embed() == (1, 4, 0, 0)
    assert placed.kept()["bb"] == (2, 1)


def test_a_rechecking_run_sees_a_place_that_moved_though_the_file_did_not(placed: Placed) -> None:
    image = placed.put("a", "POINT(30 10)")
    placed.put("bb", "POINT(30 10)")
    placed.embed()
    placed.move(image, "POINT(31 10)")
    assert placed.embed(recheck=True) == (1, 1, 0, 0)
    assert placed.kept()["a"] == (10, 31)


def test_the_other_side_of_the_antimeridian_is_the_same_place(placed: Placed) -> None:
    image = placed.put("a", "POINT(180 10)")
    placed.embed()
    placed.move(image, "POINT(-180 10)")
    assert placed.embed() == (0, 1, 0, 0)


def test_a_vector_that_came_without_its_place_is_made_anew_where_there_is_one(placed: Placed) -> None:
    known, unknown = placed.put("a", "POINT(30 10)"), placed.put("bb")
    placed.archive.conn.execute(
        "insert into geosearch.space_placed (image_id, embedding, content_sha256)"
        " select id, '[1,0,0,0,0,0,0]', content_sha256 from geosearch.image where id = any(%s)",
        [[known, unknown]],
    )
    assert placed.embed() == (1, 1, 0, 0)
    assert placed.kept() == {"a": (10, 30)}


def test_places_go_with_their_image_and_their_space(placed: Placed) -> None:
    image = placed.put("a", "POINT(30 10)")
    placed.put("bb", "POINT(30 10)")
    placed.embed()
    placed.archive.conn.execute("delete from geosearch.image where id = %s", [image])
    assert set(placed.kept()) == {"bb"}
    drop_space(placed.archive.conn, "placed")
    assert placed.archive.conn.execute("select count(*) from geosearch.embedded_place").fetchone() == (0,)


def test_an_image_that_went_meanwhile_leaves_no_place(placed: Placed) -> None:
    stays = placed.put("a", "POINT(30 10)")
    conn = placed.archive.conn
    writer = VectorWriter(conn, get_space(conn, "placed"))
    with conn.transaction():
        written = writer.write([stays + 1, stays], np.eye(2, 7), [b"x" * 32] * 2, [Place(1, 2), None])
    assert (written.added, written.gone) == (1, 1)
    assert placed.kept() == {"a": None}


def test_a_model_that_reads_no_places_keeps_none_and_ignores_them(archive: Archive) -> None:
    image = archive.save("a", 1)
    archive.conn.execute("update geosearch.image set nadir = 'POINT(30 10)' where id = %s", [image])
    assert embed(archive.url, "tiny").embedded == 1
    archive.conn.execute("update geosearch.image set nadir = 'POINT(31 10)' where id = %s", [image])
    assert embed(archive.url, "tiny").unchanged == 1
    assert archive.conn.execute("select count(*) from geosearch.embedded_place").fetchone() == (0,)


def test_a_missing_file_keeps_the_vector_that_was_there(placed: Placed) -> None:
    image = placed.put("a", "POINT(30 10)")
    placed.embed()
    (placed.archive.folder / "a.png").unlink()
    placed.move(image, "POINT(31 10)")
    assert placed.embed() == (0, 0, 1, 0)
    assert "no such file" in placed.archive.rejects()["a"]
    assert placed.kept()["a"] == (10, 30)
    catalogue(placed.archive.conn, placed.archive.id, "a", str(placed.archive.folder / "a.png"))
    picture(1).save(placed.archive.folder / "a.png")
    assert placed.embed() == (1, 0, 0, 0)
    assert placed.kept()["a"] == (10, 31)
    assert placed.archive.rejects() == {}


def test_a_nadir_aware_model_by_its_name_gives_what_it_gives_alone(archive: Archive, tmp_path: Path) -> None:
    name = write_nadir_model(tmp_path / "nadir")
    info = registry.describe(name)
    create_space(archive.conn, "aware", info.dimension, record_model(archive.conn, info))
    places = {"a": Place(10, 30), "bb": Place(-60, 170), "ccc": None}
    for image, place in places.items():
        row = archive.save(image, 1)  # the same picture thrice
        if place is not None:
            archive.conn.execute(
                "update geosearch.image set nadir = st_makepoint(%s, %s) where id = %s", [place.lon, place.lat, row]
            )
    assert embed(archive.url, "aware").embedded == 3
    direct = registry.load(name, "cpu").encode([Item(image=picture(1), place=place) for place in places.values()])
    stored = archive.vectors("aware")
    for vector, image in zip(direct, places, strict=True):
        assert stored[image] == pytest.approx(vector, abs=1e-3)
    assert max(direct[0] @ direct[1], direct[0] @ direct[2]) < 0.999  # the place does make a difference
    assert embed(archive.url, "aware").unchanged == 3


def test_a_page_is_looked_up_and_not_searched_for_in_all_that_is_known(placed: Placed) -> None:
    conn = placed.archive.conn
    space = get_space(conn, "placed")
    conn.execute(
        "insert into geosearch.image (archive_id, name, nadir, reach_m)"
        " select %s, n::text, 'POINT(1 2)', 0 from generate_series(1, 20000) n",
        [placed.archive.id],
    )
    conn.execute(
        "insert into geosearch.space_placed (image_id, embedding) select id, '[1,0,0,0,0,0,0]' from geosearch.image"
    )
    conn.execute(
        "insert into geosearch.embedded_place"
        " select id, %s, st_y(nadir::geometry), st_x(nadir::geometry) from geosearch.image",
        [space.id],
    )
    conn.execute("analyze geosearch.embedded_place, geosearch.space_placed, geosearch.image")

    def read_whole() -> list[int]:
        conn.execute("select pg_stat_force_next_flush()")
        return [
            conn.execute("select seq_scan from pg_stat_user_tables where relname = %s", [name]).fetchone()[0]
            for name in ("embedded_place", "space_placed")
        ]

    before = read_whole()
    pages = list(MissingImages(conn, space, None, places=True).pages(before_waiting=lambda: None))
    assert sum(page.unchanged for page in pages) == 20000
    assert len(pages) >= 5
    assert read_whole() == before
