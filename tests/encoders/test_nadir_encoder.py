"""Nadir-aware models by name: what each form means, the two parts of a vector, what is refused."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("open_clip")

from safetensors.torch import save_file  # noqa: E402
from tiny_model import nadir_config, write_nadir_model  # noqa: E402

from geosearch.encoders import nadir_names, registry  # noqa: E402
from geosearch.encoders.base import seen_from  # noqa: E402
from geosearch.encoders.nadir import NadirAwareEncoder  # noqa: E402
from geosearch.encoders.names import parse  # noqa: E402
from geosearch.errors import InputError, ModelError, UnknownNameError, WeightsError  # noqa: E402
from geosearch.item import Item, Place  # noqa: E402
from geosearch.nadir.fourier import NadirShape  # noqa: E402
from geosearch.nadir.model import NadirModel  # noqa: E402
from geosearch.nadir.salad import SHAPES  # noqa: E402
from geosearch.nadir.towers import normalise, timm_tower  # noqa: E402

TIMM = "nadir:vit_small_patch14_reg4_dinov2.lvd142m/small/file:/w.safetensors"
PLACES = [Place(46, 8), None, Place(-23, 133), Place(46, 8.5)]


@pytest.fixture(scope="module")
def name(tmp_path_factory):
    return write_nadir_model(tmp_path_factory.mktemp("nadir") / "tiny")


@pytest.fixture(scope="module")
def encoder(name):
    return registry.load(name, "cpu")


@pytest.fixture(scope="module")
def items():
    rng = np.random.default_rng(5)
    pictures = [Image.fromarray(rng.integers(0, 256, (70, 90, 3), np.uint8)) for _ in PLACES]
    return [Item(image=picture, place=place) for picture, place in zip(pictures, PLACES, strict=True)]


def angles(encoder, *places):
    return encoder.nadir_vectors([p.lat for p in places], [p.lon for p in places])


class TestVectors:
    def test_they_are_those_of_the_whole_network_in_their_order(self, encoder, items):
        prepared = [encoder.prepare(item) for item in items]
        pixels = normalise(torch.stack([one.pixels for one in prepared]), *(nadir_config()["picture"][k] for k in
                                                                           ("mean", "std")))  # fmt: skip
        lat, lon = (torch.tensor([getattr(p, k) if p else math.nan for p in PLACES]) for k in ("lat", "lon"))
        with torch.inference_mode():
            whole = encoder._model(pixels, lat, lon)
        parts = encoder.encode_parts(prepared)
        for got, expected in (
            (parts.image, whole.image),
            (parts.nadir, whole.nadir),
            (encoder.encode_prepared(prepared), whole.both),
            (encoder.encode(items, batch_size=3), whole.both),
        ):
            assert got.dtype == np.float32
            np.testing.assert_allclose(got, expected.numpy(), rtol=0, atol=2e-6)

    def test_a_cosine_is_made_of_those_of_the_parts(self, encoder, items):
        prepared = [encoder.prepare(item) for item in items]
        parts, both, s2 = encoder.encode_parts(prepared), encoder.encode_prepared(prepared), encoder.scale**2
        assert encoder.scale == pytest.approx(0.5, rel=1e-3)
        for vectors, width in ((parts.image, 48), (parts.nadir, 12), (both, 60)):
            assert vectors.shape == (4, width)
            np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
        expected = (parts.image @ parts.image.T + s2 * parts.nadir @ parts.nadir.T) / (1 + s2)
        np.testing.assert_allclose(both @ both.T, expected, atol=2e-6)
        np.testing.assert_array_equal(encoder.join(*parts), both)

    def test_the_picture_decides_the_first_part_and_the_place_the_second(self, encoder, items):
        moved = [encoder.prepare(replace(item, place=Place(0, 0))) for item in items]
        before, after = encoder.encode_parts([encoder.prepare(item) for item in items]), encoder.encode_parts(moved)
        np.testing.assert_array_equal(before.image, after.image)
        np.testing.assert_allclose(after.nadir, after.nadir[:1].repeat(4, 0), atol=1e-6)
        assert (np.abs(before.nadir - after.nadir).max(1) > 1e-3).all()

    def test_an_unknown_nadir_is_one_learned_vector(self, encoder):
        unknown = encoder.nadir_vectors([math.nan, math.nan, 10], [math.nan, 5, math.nan])
        learned = encoder._model.nadir.unknown.numpy()
        np.testing.assert_allclose(unknown, np.tile(learned / np.linalg.norm(learned), (3, 1)), atol=1e-6)

    def test_the_seam_and_the_poles_are_places_like_others(self, encoder):
        east, west = angles(encoder, Place(-17, 180), Place(-17, -180))
        np.testing.assert_allclose(east, west, atol=1e-6)
        pole = angles(encoder, Place(90, 0), Place(90, 77), Place(90, -180))
        np.testing.assert_allclose(pole, pole[:1].repeat(3, 0), atol=1e-6)

    def test_none_is_no_vector(self, encoder):
        assert encoder.encode([]).shape == (0, 60)
        assert encoder.encode_prepared([]).shape == (0, 60)
        assert [part.shape for part in encoder.encode_parts([])] == [(0, 48), (0, 12)]

    def test_long_and_narrow_pictures(self, encoder):
        narrow = Item(image=Image.new("RGB", (3000, 2), (90, 120, 30)), place=Place(1, 2))
        assert np.isfinite(encoder.encode([narrow])).all()

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
    def test_a_gpu_gives_the_same_vectors(self, name, encoder, items):
        there = registry.load(name, "cuda").encode(items)
        np.testing.assert_allclose((there * encoder.encode(items)).sum(1), 1, atol=1e-3)


class TestRefusals:
    def test_a_place_alone_and_a_text(self, encoder, items):
        with pytest.raises(ModelError, match="reads image and place together; the item has no image"):
            encoder.prepare(Item(place=Place(1, 2)))
        with pytest.raises(ModelError, match="does not read text; it reads image, place"):
            encoder.prepare(Item(text="a desert", image=items[0].image))

    @pytest.mark.parametrize(("lat", "lon", "what"), [(91, 0, "latitude 91"), (0, -181, "longitude -181")])
    def test_nadirs_that_are_not_on_earth(self, encoder, lat, lon, what):
        with pytest.raises(InputError, match=f"{what}.0 of nadir 1 is not within"):
            encoder.nadir_vectors([0, lat], [0, lon])

    def test_it_asks_no_bank_and_goes_into_no_sql(self, name):
        from geosearch.range.install import _load
        from geosearch.range.queries import place_encoder

        with pytest.raises(ModelError, match="not places alone; a bank is asked by a location encoder"):
            place_encoder(name)
        with pytest.raises(ModelError, match="no places alone: SQL does the arithmetic of location encoders only"):
            _load(name)


class TestIdentity:
    def test_it_is_known_before_it_is_built(self, name, encoder):
        info = registry.describe(name)
        assert isinstance(encoder, NadirAwareEncoder)
        assert info == encoder.info
        assert (info.family, info.dimension, info.metric) == ("nadir", 60, "cosine")
        assert (info.reads, info.needs, info.reads_nadirs) == ({"image", "place"}, {"image"}, True)
        assert info.reads_alone("image")
        assert not info.reads_alone("place")
        assert json.loads(json.dumps(info.preprocessing)) == info.preprocessing
        assert info.preprocessing["salad"]["clusters"] == 4
        assert registry.load(name, "cpu", weights_sha256=info.weights_sha256, preprocessing=info.preprocessing)

    def test_another_tower_or_shape_is_another_model(self, tmp_path, encoder):
        for number, change in enumerate(({"clusters": 5}, {"size": 80})):
            other = registry.describe(write_nadir_model(tmp_path / str(number), **change))
            assert not other.same_as(None, encoder.info.preprocessing)

    def test_a_picture_is_seen_from_its_place_only_by_who_reads_nadirs(self, encoder, items):
        picture, words = Item(image=items[0].image), Item(text="a desert")
        assert seen_from(encoder.info, picture, Place(1, 2)).place == Place(1, 2)
        assert seen_from(encoder.info, picture, None) == picture
        assert seen_from(encoder.info, words, Place(1, 2)) == words
        blind = replace(encoder.info, reads=frozenset({"image", "text"}))
        assert seen_from(blind, picture, Place(1, 2)) == picture


class TestNames:
    def test_folders_and_files(self, name, encoder):
        digest = encoder.info.weights_sha256
        assert parse(name).family == "nadir"
        assert registry.describe(f"{name}@{digest[:10]}").weights_sha256 == digest
        with pytest.raises(WeightsError, match="not 00000000"):
            registry.describe(f"{name}@00000000")
        spec = parse(f"{TIMM}?size=322&resize_mode=squash@0123456789")
        assert (spec.architecture, str(spec.file), spec.pinned) == (
            "vit_small_patch14_reg4_dinov2.lvd142m", "/w.safetensors", "0123456789",
        )  # fmt: skip
        assert spec.options["size"] == 322
        assert spec.options["mean"] == [0.485, 0.456, 0.406]
        assert parse(spec.name) == spec
        assert parse(TIMM).options["size"] == 224
        assert nadir_names.is_nadir(spec.name)
        assert nadir_names.is_nadir("mini-nadir@0123456789ab")
        assert not nadir_names.is_nadir("mini-clip")

    @pytest.mark.parametrize(
        ("wrong", "error", "says"),
        [
            ("nadir:", UnknownNameError, "no model is named"),
            ("nadir:local-dir:", UnknownNameError, "no model is named"),
            ("nadir:vit/small", UnknownNameError, "nadir:TOWER/SIZE/file:PATH"),
            ("nadir:vit/tiny/file:/w.safetensors", UnknownNameError, "no size of SALAD is named 'tiny'"),
            ("nadir:vit/small/file:/w.safetensors", ModelError, "does not say how its pictures were normalised"),
            (f"{TIMM}?size=0", ModelError, "option size=0 is not known"),
            (f"{TIMM}?quick_gelu=true", ModelError, "option quick_gelu=true is not known"),
            ("features:mini-nadir", ModelError, "mini-nadir has no image tower"),
        ],
    )
    def test_what_is_none(self, wrong, error, says):
        with pytest.raises(error, match=says):
            parse(wrong)

    def test_the_size_of_a_named_models_vectors_is_known_from_its_name(self, tmp_path):
        (tmp_path / "w.safetensors").write_bytes(b"not read yet")
        sizes = {"small": 2048, "base": 3072, "large": 4096, "full": 8448}
        for size, numbers in sizes.items():
            named = f"nadir:vit_base_patch14_reg4_dinov2.lvd142m/{size}/file:{tmp_path}/w.safetensors"
            info = registry.describe(named)
            assert (info.dimension, info.preprocessing["size"]) == (numbers + 128, [224, 224])

    def test_a_tower_a_size_and_a_file_are_a_whole_model(self, tmp_path, items):
        path = tmp_path / "whole.safetensors"
        whole = NadirModel(timm_tower("test_vit"), SHAPES["small"], NadirShape()).eval()
        save_file(whole.state_dict(), path)
        named = f"nadir:test_vit/small/file:{path}?norm=inception&size=96&resize_mode=squash"
        encoder = registry.load(named, "cpu")
        prepared = [encoder.prepare(item) for item in items]
        assert prepared[0].pixels.shape == (3, 96, 96)
        with torch.inference_mode():
            expected = whole.image(torch.stack([one.pixels for one in prepared]) / 127.5 - 1)
        np.testing.assert_allclose(encoder.encode_parts(prepared).image, expected.numpy(), rtol=0, atol=2e-6)
        with pytest.raises(ModelError, match="another model"):  # weights of one size, the name of another
            registry.load(named.replace("/small/", "/base/"), "cpu")

    def test_the_list_has_the_one_that_comes_along(self):
        entry = next(m for m in registry.list_models() if m.name == "mini-nadir")
        assert (entry.family, entry.reads) == ("mini-nadir", "image, place")


class TestFolders:
    def test_what_is_missing_or_no_configuration_is_told(self, tmp_path):
        folder = tmp_path / "model"
        name = write_nadir_model(folder)
        path = folder / "nadir.json"
        config = json.loads(path.read_text())
        path.write_text(json.dumps({key: value for key, value in config.items() if key != "salad"}))
        with pytest.raises(ModelError, match="salad"):
            registry.describe(name)
        path.write_text("{")
        with pytest.raises(ModelError, match="cannot be read as JSON"):
            registry.describe(name)
        path.unlink()
        with pytest.raises(WeightsError, match=r"nadir\.json"):
            registry.describe(name)

    def test_weights_are_safetensors_of_that_very_network(self, tmp_path):
        folder = tmp_path / "model"
        name = write_nadir_model(folder)
        other = tmp_path / "other"
        write_nadir_model(other, clusters=5)
        (folder / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
        with pytest.raises(ModelError):
            registry.load(name, "cpu")
        (folder / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
        with pytest.raises(ModelError):
            registry.load(name, "cpu")
        (folder / "model.safetensors").rename(folder / "model.pt")
        with pytest.raises(WeightsError, match=r"no \.safetensors"):
            registry.load(name, "cpu")


class TestMiniNadir:
    def test_it_comes_along(self):
        spec, info = parse("mini-nadir"), registry.describe("mini-nadir")
        assert (info.dimension, info.preprocessing["size"]) == (896, [96, 96])
        assert sum(file.stat().st_size for file in spec.folder.iterdir()) < 10e6
        entry = next(m for m in registry.list_models() if m.name == "mini-nadir")
        assert (entry.dimension, entry.available) == (896, True)

    def test_its_nadirs_are_the_less_alike_the_farther_apart(self):
        encoder = registry.load("mini-nadir", "cpu")
        rng = np.random.default_rng(1)
        start = np.radians([np.degrees(np.arcsin(rng.uniform(-0.8, 0.8, 300))), rng.uniform(-180, 180, 300)])
        course = rng.uniform(0, 2 * np.pi, 300)
        here, likeness = encoder.nadir_vectors(*np.degrees(start)), []
        for arc in np.array([50, 200, 500, 1000, 2000, 4000]) / 6371:
            lat = np.arcsin(np.sin(start[0]) * np.cos(arc) + np.cos(start[0]) * np.sin(arc) * np.cos(course))
            east = np.sin(course) * np.sin(arc) * np.cos(start[0])
            lon = start[1] + np.arctan2(east, np.cos(arc) - np.sin(start[0]) * np.sin(lat))
            there = encoder.nadir_vectors(np.degrees(lat), (np.degrees(lon) + 180) % 360 - 180)
            likeness.append(float((here * there).sum(1).mean()))
        assert np.all(np.diff(likeness) < -0.01), likeness
        assert likeness[0] > 0.95
