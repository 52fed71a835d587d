"""Nadir-aware retrieval measured on a case made by hand: five tiles, photographs whose answers are counted on paper."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psycopg
import pytest
import shapely
from nadir_case import Case, Compass, Nearer, around, write_case

from geosearch.catalog.footprints import box
from geosearch.catalog.problems import IMPOSSIBLE_NADIR
from geosearch.database.spaces import create_space
from geosearch.errors import InputError, ModelError, UnknownNameError
from geosearch.evaluation import nadir_answers, nadir_real, nadir_relevant, nadir_run, nadir_vectors
from geosearch.evaluation.nadir_data import read_images
from geosearch.evaluation.nadir_vectors import FromSpace
from geosearch.evaluation.nadir_ways import CONCAT_PRIOR, PRIOR
from geosearch.geometry import destination


@pytest.fixture
def case(conn: psycopg.Connection[Any], tmp_path: Path) -> Case:
    return write_case(conn, tmp_path)


def test_ranks_by_every_way(case):
    priors = {PRIOR: Nearer(), CONCAT_PRIOR: Nearer()}
    found = case.ranks(priors=priors)
    at_a = {way: of["at A"] for way, of in found.items()}
    # Together with the nadir at 5° E: B cos 10 + cos 5, A cos 20 + cos 5, C 1 + cos 55. The filter keeps A, B and E.
    # By distance A and B are alike, so that B, which looks more like it, stays first.
    assert at_a == {
        "image": 3, "filter": 2, "prior": 2, "concat": 2, "concat+filter": 2, "concat+prior": 2, "unknown": 3,
    }  # fmt: skip
    # Its nadir is not trusted: neither filter nor prior nor nadir part (which would put D first) have a say.
    assert {of["flagged"] for of in found.values()} == {1}
    assert {of["over 180"] for of in found.values()} == {1}
    assert {of["beside A"] for of in found.values()} == {0}  # a common border is no overlap


def test_a_photograph_is_never_told_the_middle_of_what_it_shows(case):
    case.add("photos", "no nadir", 20, around(0, 0, 0.5))
    case.add("photos", "lying nadir", 20, around(0, 0, 0.5), (0, 150), problems=[IMPOSSIBLE_NADIR])
    ranks = case.ranks("image", "concat", "concat+filter", "unknown")
    for way, of in ranks.items():
        assert (of["no nadir"], of["lying nadir"]) == (3, 3), f"{way}: as by the picture alone, which looks like C"
    assert ranks["concat"]["at A"] == 2, "while a nadir that is known tells"


def test_by_distance_alone_nothing_is_near_a_nadir_that_is_not_known(case):
    case.add("photos", "no nadir", 20, around(0, 0, 0.5))
    measured = case.measured("image")
    ranks = nadir_real.nearest(measured.photos, measured.tiles, measured.relevant)
    found = dict(zip(measured.photos.names, ranks, strict=True))
    assert np.isnan(found.pop("beside A"))
    # "at A" was taken at 5° E, as near to A as to B, and to none else.
    assert found == {"at A": 1, "over 180": 1, "flagged": np.inf, "no nadir": np.inf}


def test_what_is_left_out_is_counted(case):
    facts = case.measured("image").facts
    assert {k: facts[k] for k in ("photographs", "without_footprint", "without_vector", "asked")} == {
        "photographs": 6, "without_footprint": 1, "without_vector": 1, "asked": 4,
    }  # fmt: skip
    assert (facts["asked_without_nadir"], facts["of_these_impossible_nadir"]) == (1, 1)
    everywhere = nadir_run.rows(case.measured("image", "concat"), draws=100)[1]
    assert everywhere["way"] == "image"
    assert (everywhere["photographs"], everywhere["without_relevant"]) == (3, 1)
    assert (everywhere["R@1"], everywhere["R@5"]) == (pytest.approx(66.67), 100)


def test_a_tile_without_a_file_is_not_found_but_stays_right(case):
    (case.folder / "tiles-A.png").unlink()
    measured = case.measured("image")
    assert measured.facts["tiles_without_vector"] == 1
    assert np.isinf(measured.ranks["image"][list(measured.photos.names).index("at A")])


def test_rotations_share_a_rank_or_use_it_up(case):
    # Turned anticlockwise, the top right corner comes to the top left, and so on round the picture.
    case.add("tiles", "F", [90, 19, 90, 22], around(-40, 100))
    assert case.ranks("image")["image"]["at A"] == 3
    assert case.ranks("image", rotations="shared")["image"]["at A"] == 4  # C, F, B, A
    assert case.ranks("image", rotations="used")["image"]["at A"] == 11  # four of C, two of F, four of B
    shown = case.measured("image", rotations="used")
    names = shown.tiles.names[shown.answers["image"][0, :11]].tolist()
    assert names == [*"CCCC", "F", "F", *"BBBB", "A"]
    both = case.ranks("concat", "concat+filter", rotations="shared")
    assert [of["at A"] for of in both.values()] == [2, 2]


def test_blocks_are_kept_and_the_answers_do_not_depend_on_them(case, monkeypatch):
    first = case.ranks("image", "concat+filter")
    encoded = case.encoder.encoded
    assert case.ranks("image", "concat+filter") == first
    assert case.encoder.encoded == encoded  # all was kept
    monkeypatch.setattr(nadir_vectors, "BLOCK", 2)
    monkeypatch.setattr("geosearch.evaluation.nadir_ways.CHUNK", 1)
    assert case.ranks("image", "concat+filter") == first
    for kept in (case.folder / "cache").iterdir():
        kept.write_bytes(kept.read_bytes()[:100])  # cut off
    assert case.ranks("image", "concat+filter") == first
    case.add("tiles", "F", 20, around(-40, 100))
    (case.folder / "tiles-C.png").write_bytes((case.folder / "tiles-A.png").read_bytes())
    # F, B, A: C changed and was read again, and of equals the earlier comes first.
    assert case.ranks("image")["image"]["at A"] == 3


def test_a_model_of_images_alone(case):
    case.encoder = Compass(nadirs=False)
    assert set(case.ranks()) == {"image", "filter"}
    with pytest.raises(InputError, match="needs a model that reads nadirs"):
        case.ranks("concat")
    with pytest.raises(InputError, match="needs a prior"):
        case.ranks("prior")
    case.encoder.info = replace(case.encoder.info, reads=frozenset({"text"}))
    with pytest.raises(ModelError, match="does not read images"):
        case.ranks("image")


def test_a_space_gives_the_same(case, monkeypatch):
    want = case.ranks()
    create_space(case.conn, "compass", 6)
    every = read_images(case.conn, ["photos", "tiles"])
    for block in case.source().blocks(every, every.place_lat, every.place_lon):
        both = np.concatenate([block.image[0].astype(np.float32), block.nadir], axis=1) / np.sqrt(2)
        for i in np.flatnonzero(block.there).tolist():
            case.conn.execute(
                "insert into geosearch.space_compass (image_id, embedding) values (%s, %s::real[]::halfvec)",
                [int(every.ids[i]), both[i].tolist()],
            )
    monkeypatch.setattr(nadir_vectors, "encoder_of", lambda *_: case.encoder)
    source = FromSpace(case.conn, "compass")
    assert case.ranks(source=source) == want
    with pytest.raises(InputError, match="no turned pictures"):
        case.ranks("image", source=source, rotations="shared")
    with pytest.raises(UnknownNameError):
        FromSpace(case.conn, "another")


def test_the_filter_is_postgis_own(case):
    rng = np.random.default_rng(5)
    for n in range(60):
        distance = rng.uniform(2_300_000, 2_700_000)
        lat, lon = destination(60, 170, rng.uniform(0, 360), distance)
        case.add("more", f"tile {n}", None, around(float(np.clip(lat, -88, 88)), float(lon)))
    case.add("more", "by its nadir", None, None, (30, 10))
    case.add("asking", "far north", None, None, (60, 170))
    case.add("asking", "south", None, None, (0, 10))
    case.add("asking", "without", None, around(0, 0))
    photos, tiles = read_images(case.conn, ["asking"]), read_images(case.conn, ["more"])
    found = nadir_relevant.near(case.conn, photos, tiles)(slice(0, 3))
    for row, rows in enumerate(found):
        want = case.conn.execute(
            "select t.id from geosearch.image p, geosearch.image t where p.id = %s and t.archive_id = %s"
            " and st_dwithin(coalesce(t.footprint, t.nadir), p.nadir, 2500000 + t.reach_m) order by 1",
            [int(photos.ids[row]), int(tiles.archive_ids[0])],
        ).fetchall()
        assert tiles.ids[rows].tolist() == [one[0] for one in want]
    assert 10 < len(found[0]) < 50
    assert [len(one) for one in found[1:]] == [1, 0]


def test_overlaps_over_180_and_a_pole(case):
    case.add("polar", "cap", None, box(-180, 80, 180, 90))
    case.add("polar", "east of 180", None, box(-180, 70, -170, 80))
    case.add("asking", "at the pole", None, box(0, 89, 90, 90))
    case.add("asking", "west of 180", None, box(170, 70, 180, 75))
    case.add("asking", "both sides", None, box(175, 70, -175, 75))
    photos, tiles = read_images(case.conn, ["asking"]), read_images(case.conn, ["polar"])
    assert [rows.tolist() for rows in nadir_relevant.relevant(case.conn, photos, tiles)] == [[0], [], [1]]
    assert [r.tolist() for r in nadir_relevant.relevant(case.conn, tiles, tiles)] == [[], []]  # not itself


def test_long_edges_of_large_footprints_are_great_circles(case):
    case.add(
        "large", "to 74° N", None, shapely.MultiPolygon([shapely.box(-60, 0, 60, 60)])
    )  # as high as the circle from 60, -60 to 60, 60
    case.add("large", "the Pacific", None, box(150, -35, -150, 35))
    for name, lat, lon in (("below the circle", 70, 0), ("above", 78, 0), ("east of 180", 0, -170), ("beside", 0, 148)):
        case.add("asking", name, None, around(lat, lon))
    case.add("asking", "touching", None, box(148, -1, 150, 1))
    photos, tiles = read_images(case.conn, ["asking"]), read_images(case.conn, ["large"])
    assert [rows.tolist() for rows in nadir_relevant.relevant(case.conn, photos, tiles)] == [[0], [], [1], [], []]


def test_answers_written_are_judged_alike(case, tmp_path):
    measured = case.measured("image", "concat+filter", rotations="used")
    paths = nadir_answers.write(tmp_path / "answers", measured)
    assert [path.name for path in paths] == ["image.csv", "concat+filter.csv"]
    judged = nadir_run.by_answers(case.conn, "photos", ["tiles"], paths)
    for way, ranks in measured.ranks.items():
        mine = dict(zip(measured.photos.names, ranks, strict=True))
        theirs = dict(zip(judged.photos.names, judged.ranks[way], strict=True))
        assert {name: theirs[name] for name in mine} == pytest.approx(mine, nan_ok=True)
        assert np.isinf(theirs["gone"])  # it has a footprint, and no answer
    assert judged.facts["image: photographs_without_answers"] == 1


def test_answers_as_json_lines(case, tmp_path):
    lists, rows = tmp_path / "lists.jsonl", tmp_path / "rows.jsonl"
    lists.write_text('{"query": "at A", "images": ["C", "A"]}\n\n{"query": "flagged", "images": []}\n')
    rows.write_text('{"query": "at A", "rank": 7, "image": "A"}\n{"query": "nowhere", "rank": 1, "image": "A"}\n')
    judged = nadir_run.by_answers(case.conn, "photos", ["tiles"], [lists, rows])
    at = list(judged.photos.names).index("at A")
    assert [judged.ranks[name][at] for name in ("lists", "rows")] == [2, 7]
    assert judged.facts["lists: photographs_without_answers"] == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("query,image\nat A,A\n", "has no column rank"),
        ("query,rank,image\nat A,1,A\nat A,1,B\n", "line 3: rank 1 of at A was given before"),
        ("query,rank,image\nat A,0,A\n", "line 2: rank '0' is no whole number"),
        ("query,rank,image\nat A,first,A\n", "line 2: rank 'first'"),
        ("query,rank,image\nat A,1,Z\n", "line 2: no tile .* is named 'Z'"),
        ("query,rank,image\nat Z,1,A\n", "line 2: no photograph .* is named 'at Z'"),
        ("query,rank,image\nat A,1\n", "line 2: query and image are names"),
        ('{"query": "at A"}\n', "line 1: rank None"),
        ('{"query": "at A", "rank": Infinity, "image": "A"}\n', "line 1: rank inf"),
        ('{"query": "at A", "rank": true, "image": "A"}\n', "line 1: rank True"),
        ('{"query": "at A", "images": "A"}\n', "images is no list"),
        ('{"query": \n', "line 1: is not"),
        ("", "has no column query"),
    ],
)
def test_a_file_of_answers_that_is_wrong(case, tmp_path, text, says):
    path = tmp_path / "answers.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=says):
        nadir_run.by_answers(case.conn, "photos", ["tiles"], [path])


def test_nothing_to_measure_is_explained(case):
    case.add("elsewhere", "tile", 0, around(-50, -50))
    with pytest.raises(InputError, match="same ground"):
        nadir_run.by_vectors(case.conn, "photos", ["elsewhere"], case.source())
    with pytest.raises(InputError, match=r"footprint and a vector by compass .of 1, 1 with .* embed the archive"):
        case.add("blind", "one", None, around(0, 0))
        nadir_run.by_vectors(case.conn, "blind", ["tiles"], case.source())
    with pytest.raises(InputError, match="there is no way"):
        case.ranks("sideways")
    with pytest.raises(InputError, match="would find itself"):
        nadir_run.by_vectors(case.conn, "photos", ["tiles", "photos"], case.source())
    with pytest.raises(InputError, match="proves nothing"):
        nadir_run.fit(case.conn, "photos", ["tiles"], case.source(), "photos")


def test_a_prior_is_fitted_on_other_photographs_and_kept(case, tmp_path):
    rng = np.random.default_rng(2)
    spots = [(10, (-40, 0)), (60, (-40, 4)), (110, (-36, 0))]
    for n, (degrees, (lat, lon)) in enumerate(spots):
        case.add("spots", f"{n}", degrees, around(lat, lon))
    for n in range(60):
        degrees, (lat, lon) = spots[n % 3]
        off = [float(x) for x in destination(lat, lon, rng.uniform(0, 360), abs(rng.normal(0, 150_000)))]
        case.add("before", f"{n}", degrees + rng.integers(-5, 6) * 2, around(lat, lon, 0.5), off)
    for n in range(6):  # some look like another's ground: nothing is told without a fault
        case.add("before", f"wrong {n}", spots[n % 3][0], around(*spots[(n + 1) % 3][1], 0.5), spots[(n + 1) % 3][1])
    path = tmp_path / "prior.json"
    fitted = nadir_run.fit(case.conn, "photos", ["spots"], case.source(), "before", path)
    assert set(fitted) == {"prior", "concat+prior"}
    kept = nadir_run.nadir_fit.read_priors(path)
    score = [of["prior"].score(np.array([0.5, 0.5, 0.5]), np.array([1e5, 3e6, np.nan])) for of in (fitted, kept)]
    assert score[0] == pytest.approx(score[1], abs=1e-3)
    assert score[0][0] > score[0][2] > score[0][1]  # near is likelier than anywhere, and far is less so
    case.add("photos", "over A", 20, around(0, 0, 0.5), (0, 0.5))
    by = case.ranks("image", "prior", priors=kept)
    assert (by["image"]["over A"], by["prior"]["over A"]) == (3, 1)
    with pytest.raises(InputError, match="fitted to the photographs that it is measured with"):
        nadir_run.nadir_fit.read_priors(path, "before")
    assert nadir_run.nadir_fit.read_priors(path, "photos").keys() == kept.keys()
    path.write_text("{}")
    with pytest.raises(InputError, match="holds no priors"):
        nadir_run.nadir_fit.read_priors(path)
    assert json.loads(json.dumps(case.measured("image").facts))["vectors"] == "compass"


def test_only_images_with_known_places_have_caps(case):
    images = read_images(case.conn, ["photos"])
    row = SimpleNamespace(**{name: i for i, name in enumerate(n.replace(" ", "_") for n in images.names)})
    assert np.isnan(images.nadir_lat[row.flagged])
    assert (images.place_lat[row.flagged], images.place_lon[row.flagged]) == pytest.approx((10, 0), abs=0.1)
    assert images.cap_m[row.at_A] == pytest.approx(78_600, rel=0.01)  # half a degree each way
    assert np.isnan(images.cap_m[row.nowhere])
    assert images.middle_lon[row.over_180] == pytest.approx(-179.45, abs=0.01)
