"""The simulated benchmark, made small: its archives, what it measures, and the tables that a document keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from PIL import Image

from geosearch.database.archives import ensure_archive, show_archive
from geosearch.database.connection import connect
from geosearch.demo import archive, orbit, photos
from geosearch.encoders.base import ModelInfo
from geosearch.encoders.pictures import open_image
from geosearch.errors import InputError, ModelError
from geosearch.evaluation import nadir_earth, nadir_earth_files, nadir_earth_plot, nadir_earth_run, nadir_real
from geosearch.evaluation.colours import ColourEncoder
from geosearch.evaluation.histogram import colour_histogram
from geosearch.evaluation.nadir_data import read_images
from geosearch.evaluation.nadir_earth_tables import fill, tables
from geosearch.geometry import distance_m, unit_vectors
from geosearch.item import Item
from geosearch.training import nadir_photos
from geosearch.training.split import split

SIZE = nadir_earth.Size(tiles=400, photographs=40, fit=40, seed=3)


class Pointer:
    """Pictures by their colours, places by their direction: knows the Earth without having learned anything."""

    scale = 2.0
    info = ModelInfo("pointer", "test", "1", "d" * 64, 516, "cosine", frozenset({"image", "place"}), {})

    def prepare(self, item: Item) -> Any:
        return ColourEncoder().prepare(Item(image=item.image))

    def image_vectors(self, prepared: Any) -> np.ndarray:
        return colour_histogram(np.stack(prepared))

    def nadir_vectors(self, lat: Any, lon: Any) -> np.ndarray:
        known = unit_vectors(lat, lon)
        lost = np.isnan(known).any(axis=-1).reshape(-1)
        return np.column_stack([np.where(lost[:, None], 0, known), lost]).astype(np.float32)

    def encode_parts(self, prepared: Any) -> Any:
        raise AssertionError("pictures of the real photographs are asked with their nadirs apart")


@pytest.fixture(scope="module")
def earth(module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Path]]:
    """A connection to a database with the benchmark made small, and its folder."""
    folder = tmp_path_factory.mktemp("earth")
    with connect(module_database_url, autocommit=True) as conn:
        nadir_earth.make(conn, folder, SIZE)
        yield conn, folder


def test_photographs_have_nadirs_footprints_and_files(earth: tuple[Any, Path]) -> None:
    """Nothing is flagged, no name is used twice, and a second run makes nothing anew."""
    conn, folder = earth
    names = [*nadir_earth.archives().values(), *nadir_earth.fit_archives().values()]
    for name in names:
        found = show_archive(conn, name)
        assert (found.images, found.with_nadir, found.with_footprint, found.flagged) == (40, 40, 40, 0)
    assert show_archive(conn, nadir_earth.TILES).with_nadir == 0
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.jpg")}
    assert len(before) > 400 + 4 * 40 - 40
    lost = next(folder.glob("nadir-earth-horizon*/*.jpg"))
    nadir_earth.make(conn, folder, SIZE)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.jpg")} == before and lost.exists()


def test_the_laws_look_as_far_as_they_say(earth: tuple[Any, Path]) -> None:
    """Astronauts' photographs lie near their nadirs; the other law goes on nearly to the horizon, 2 240 km away."""
    conn, _ = earth
    shown = (read_images(conn, [name]) for name in nadir_earth.archives().values())
    near, far = (distance_m(i.nadir_lat, i.nadir_lon, i.middle_lat, i.middle_lon) for i in shown)
    assert np.median(near) < 550_000 and near.max() < 2_000_000
    assert 850_000 < np.median(far) < 1_450_000 and far.max() > 1_850_000
    assert max(near.max(), far.max()) < 2_300_000


def test_half_of_what_is_asked_is_held_out_and_nothing_that_is_fitted(earth: tuple[Any, Path]) -> None:
    """By the middle of what is seen, which lies a little beside the aim."""
    conn, _ = earth
    for name in nadir_earth.archives().values():
        images = read_images(conn, [name])
        assert 15 <= (split().region(images.middle_lat, images.middle_lon) >= 0).sum() <= 25
    for name in nadir_earth.fit_archives().values():
        images = read_images(conn, [name])
        assert (split().region(images.middle_lat, images.middle_lon) < 0).all()


def test_the_orbit_is_another_than_in_training() -> None:
    """Other days: half a year lies between them."""
    taught, _ = nadir_photos.track()
    asked = orbit.track(orbit.element_set(), nadir_earth.START, photos.DAYS * 24)
    assert asked.time.min() - taught.time.max() > np.timedelta64(150, "D")


def test_archives_of_others_are_left_alone(database_url: str, tmp_path: Path) -> None:
    with connect(database_url, autocommit=True) as conn:
        ensure_archive(conn, nadir_earth.TILES)
        with pytest.raises(InputError, match="was not made by this benchmark"):
            nadir_earth.make(conn, tmp_path, SIZE)


def test_sizes_that_leave_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="at least 40"):
        nadir_earth.Size(fit=10)


def test_a_picture_with_sky_has_the_ground_as_its_footprint() -> None:
    """A straight horizon: what lies above it is in no footprint, all corners below it are."""
    lat, lon = np.meshgrid(np.arange(33.0), np.arange(33.0), indexing="ij")
    lat = np.where(lat < 10, np.nan, 60 - lat).astype(np.float32)
    ring = np.array(photos._border_below_sky(lat, lon.astype(np.float32)))
    assert (ring[0] == ring[-1]).all()
    assert ring[:, 1].max() == 50 and ring[:, 1].min() == 28
    assert {(0.0, 28.0), (32.0, 28.0)} <= {tuple(point) for point in ring.tolist()}
    plane = ring[:, 0] + 1j * ring[:, 1] - (16 + 44j)
    assert abs(np.angle(plane[1:] / plane[:-1]).sum()) == pytest.approx(2 * np.pi)


def test_colours_are_an_encoder(tmp_path: Path) -> None:
    """A file and the same picture in memory give one vector: `colour_histogram`'s."""
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    of = ColourEncoder()
    vectors = of.encode([Item(image=tmp_path / "a.png"), Item(image=Image.fromarray(pixels))])
    assert vectors == pytest.approx(np.repeat(colour_histogram(pixels[None]), 2, axis=0))
    assert open_image(tmp_path / "a.png").size == (64, 64)


@pytest.fixture(scope="module")
def report(earth: tuple[Any, Path]) -> dict[str, Any]:
    """The benchmark run with a model that never learned, and colours as its baseline."""
    conn, folder = earth
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("geosearch.encoders.registry.load", lambda name: Pointer())
        choice = nadir_earth_run.Choice(("colours",), rotations=True)
        made = nadir_earth_run.run(conn, "pointer", folder, SIZE, choice)
    return dict(json.loads(json.dumps(made)))  # plain JSON values


def test_every_way_and_law_is_measured(report: dict[str, Any]) -> None:
    """Knowing the place helps; the same pictures by the same colours are equally good under two names."""
    for found in report["laws"].values():
        whole = {row["way"]: row for row in found["rows"] if (row["region"], row["ground"]) == ("all", "all")}
        assert {"image", "filter", "prior", "concat", "concat+filter", "concat+prior", "unknown"} < set(whole)
        assert whole["filter"]["R@10"] >= whole["image"]["R@10"] and whole["prior"]["R@10"] > whole["image"]["R@10"]
        assert whole["unknown"]["R@1"] == whole["image"]["R@1"]  # the null vector is the same beside every tile
        assert found["baselines"]["colours"]["image"]["R@1"] == whole["image"]["R@1"]
        assert found["priors"]["training"]["prior"]["R@1"] == whole["prior"]["R@1"]
        assert set(found["rotations"]) == {"shared", "used"}
        assert found["nearest"]["R@1"] <= found["nearest"]["R@100"] and found["nearest"]["R@100"] > 50
        for k in (1, 5, 100):
            assert found["rotations"]["used"]["image"][f"R@{k}"] <= found["rotations"]["shared"]["image"][f"R@{k}"]
        assert found["counted"] + found["facts"]["photographs"] - found["facts"]["asked"] <= 40


def test_tables_stand_in_a_document_and_figures_in_a_folder(report: dict[str, Any], tmp_path: Path) -> None:
    """A second run replaces them; the text between stays."""
    document, figures = tmp_path / "a.md", tmp_path / "figures"
    figures.mkdir()
    document.write_text(
        "A\n<!-- table: model -->\nold\n<!-- end -->\nB\n<!-- table: regions-horizon -->\n<!-- end -->\n"
    )
    files = nadir_earth_files.Files(tmp_path / "a.json", document, figures)
    files.check()
    files.write(report)
    once = document.read_text()
    assert once.startswith("A\n<!-- table: model -->\n|") and "old" not in once and "\nB\n" in once
    assert "| **all** |" in once
    files.write(report)
    assert document.read_text() == once
    assert json.loads((tmp_path / "a.json").read_text())["model"] == "pointer"
    for name in nadir_earth_plot.FIGURES:
        with Image.open(figures / name) as picture:
            assert picture.size[0] > 500


def test_the_projects_own_document_is_one_that_a_run_fills(report: dict[str, Any]) -> None:
    """Every place in it has a table, every table a place, and it shows the figures that are drawn."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "evaluation-nadir.md").read_text("utf-8")
    made = {**tables(report), "real": "| |"}
    assert fill(text, made).count("<!-- end -->") == text.count("<!-- table: ") == len(made)
    assert all(f"images/{name}" in text for name in nadir_earth_plot.FIGURES)


def test_documents_that_cannot_be_filled_are_told_apart(report: dict[str, Any], tmp_path: Path) -> None:
    """No place for a table; a place for one that was not measured; no document and no folder, before the work."""
    made = tables(report)
    with pytest.raises(InputError, match="no place for a table"):
        fill("nothing here", made)
    with pytest.raises(InputError, match="real, which this run does not measure"):
        fill("<!-- table: real -->\n<!-- end -->", made)
    for files in (nadir_earth_files.Files(document=tmp_path / "b.md"), nadir_earth_files.Files(figures=tmp_path / "x")):
        with pytest.raises(InputError):
            files.check()


def test_a_model_without_nadirs_is_refused(earth: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    conn, folder = earth
    monkeypatch.setattr("geosearch.encoders.registry.load", lambda name: ColourEncoder())
    with pytest.raises(ModelError, match="nothing of nadirs"):
        nadir_earth_run.run(conn, "colours", folder, SIZE)


TABLE = "name,nadir_lat,nadir_lon,centre_lat,centre_lon\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,nadir_lat\na,1\n", "no column nadir_lon"),
        (TABLE, "no photographs"),
        (TABLE + "a,1,2,3,4\n", "line 2: a.jpg does not lie beside"),
        (TABLE + "there,1,x,3,4\n", "line 2: could not convert"),
        (TABLE + "there,91,2,3,4\n", "line 2: a place is outside"),
    ],
)
def test_tables_of_real_photographs_that_are_wrong(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "there.jpg").write_bytes(b"")
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=said):
        nadir_real.read_photographs(tmp_path / "t.csv")


def test_the_rank_of_the_first_tile_that_contains_the_middle(earth: tuple[Any, Path], tmp_path: Path) -> None:
    """A tile's own picture, its nadir in its middle: first by every way; a middle at sea lies in no tile."""
    from geosearch.evaluation.nadir_vectors import FromModel

    conn, folder = earth
    tiles = read_images(conn, [nadir_earth.TILES])
    plan = archive.plan_tiles(SIZE.tiles)
    row = 17
    picture = next(folder.glob(f"tiles-*/{plan.name[row]}.jpg"))
    (tmp_path / "own.jpg").write_bytes(picture.read_bytes())
    at = f"{plan.lat[row]},{plan.lon[row]}"
    (tmp_path / "t.csv").write_text(TABLE + f"own,{at},{at}\nown,{at},-40,-120\n")
    real = nadir_real.read_photographs(tmp_path / "t.csv")
    source = FromModel(Pointer(), folder / "vectors")  # type: ignore[arg-type]
    found = nadir_real.ranks(conn, real, tiles, Pointer(), source, ("image", "filter", "concat"), {})  # type: ignore[arg-type]
    assert found[0]["image"] == found[0]["filter"] == found[0]["concat"] == 1
    assert found[0]["tiles"] >= 1 and found[0]["expected"] == round((len(tiles) + 1) / (found[0]["tiles"] + 1))
    assert found[0]["nearest"] == 1 and found[1]["nearest"] is None
    assert found[1]["tiles"] == 0 and found[1]["image"] is None and found[1]["expected"] is None
    assert found[1]["offset_km"] == round(float(distance_m(plan.lat[row], plan.lon[row], -40, -120)) / 1000)


def test_the_real_photographs_are_read(shared_data: Path) -> None:
    """Eight, all within sight of the station."""
    real = nadir_real.read_photographs(shared_data / "iss_photos" / "photos.csv")
    assert len(real) == 8
    assert all(float(distance_m(*one.nadir, *one.centre)) < 600_000 for one in real)


def test_the_command_prints_the_tables(
    earth: tuple[Any, Path], report: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is measured is the library's; a document that is not there is told before any work."""
    from geosearch_cli.evaluate_nadir_earth import nadir_earth as command
    from geosearch_cli.main import app
    from typer.testing import CliRunner

    assert callable(command)
    asked: dict[str, Any] = {}

    def run(conn: Any, model: str, folder: Path, size: Any, choice: Any, tell: Any) -> dict[str, Any]:
        asked.update(model=model, folder=folder, size=size, choice=choice)
        tell("tiles encoded", 1, 2)
        return report

    monkeypatch.setattr("geosearch.evaluation.nadir_earth_run.run", run)
    monkeypatch.setenv("GEOSEARCH_DATABASE_URL", earth[0].info.dsn)
    options = ["--folder", str(tmp_path), "--tiles", "400", "--baseline", "colours", "--out", str(tmp_path / "a.json")]
    shown = CliRunner().invoke(app, ["evaluate", "nadir-earth", *options])
    assert shown.exit_code == 0, shown.output
    assert "regions-horizon" in shown.stdout and "| **all** |" in shown.stdout
    assert asked["model"] == "mini-nadir" and asked["size"].tiles == 400 and asked["choice"].baselines == ("colours",)
    assert json.loads((tmp_path / "a.json").read_text())["tiles"] == report["tiles"]
    lost = CliRunner().invoke(app, ["evaluate", "nadir-earth", "--document", str(tmp_path / "no.md")])
    assert lost.exit_code == 1 and "no such document" in lost.output


def test_a_connection_that_is_not_autocommit_will_do(database_url: str, tmp_path: Path) -> None:
    """What the demo's caller has and what another has: both end with all in the database."""
    with connect(database_url) as conn:
        assert isinstance(conn, psycopg.Connection)
        tiles = archive.plan_tiles(40)
        index = archive.write_tiles(tmp_path, tiles)
        nadir_earth._catalogue(conn, nadir_earth.TILES, index, len(tiles), archive.FACTS, lambda *_: None)
        assert show_archive(conn, nadir_earth.TILES).images == len(tiles)
