"""Features: what a forward hook on open_clip's own model sees, sized without weights, images only."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
open_clip = pytest.importorskip("open_clip")

from geosearch.encoders.features import FeaturesEncoder, features_plan, trunk  # noqa: E402
from geosearch.encoders.names import parse  # noqa: E402
from geosearch.encoders.openclip_plan import plan  # noqa: E402
from geosearch.encoders.registry import describe, list_models, load  # noqa: E402
from geosearch.errors import ModelError, UnknownNameError, WeightsError  # noqa: E402
from geosearch.item import Item  # noqa: E402

# Each family of towers at its smallest: an architecture, and where its features come by.
TOWERS = {
    "resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32},
    "transformer": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
    "transformer, averaged tokens": {
        "image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "pool_type": "avg", "final_ln_after_pool": True,
    },
    "timm, linear projection": {
        "image_size": 64, "timm_model_name": "resnet10t", "timm_pool": "avg", "timm_proj": "linear",
    },
    "timm, attention pooling": {
        "image_size": 64, "timm_model_name": "resnet10t", "timm_pool": "rot_attn", "timm_proj": "linear",
    },
}  # fmt: skip
TEXT = {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1}


@pytest.fixture
def picture():
    return Image.fromarray(np.random.default_rng(5).integers(0, 256, (90, 120, 3), np.uint8))


@pytest.fixture
def encoder():
    return load("features:mini-clip", "cpu")


def test_mini_clip_features_are_the_last_stage_seen_by_a_hook(encoder, picture):
    folder = parse("mini-clip").folder
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    config = json.loads((folder / "open_clip_config.json").read_text())["preprocess_cfg"]
    transform = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**{**config, "size": (64, 64)}), is_train=False
    )
    seen = []
    model.visual.layer4.register_forward_hook(lambda _module, _inputs, out: seen.append(out))
    with torch.inference_mode():
        model.encode_image(transform(picture)[None])
    expected = seen[0].flatten(2).mean(2)[0].numpy()
    assert expected.shape == (1024,)
    np.testing.assert_allclose(
        encoder.encode([Item(image=picture)])[0], expected / np.linalg.norm(expected), rtol=0, atol=2e-6
    )


@pytest.mark.parametrize("kind", TOWERS)
def test_the_projection_of_the_features_is_the_models_own_vector(kind):
    torch.manual_seed(0)
    model = open_clip.model.CLIP(16, TOWERS[kind], TEXT).eval()
    visual, size = model.visual, TOWERS[kind]["image_size"]
    pixels = torch.randn(3, 3, size, size)
    with torch.inference_mode():
        whole, features = model.encode_image(pixels), trunk(visual, pixels)
        if kind.startswith("transformer"):
            assert torch.allclose(features @ visual.proj, whole, atol=1e-5)
        elif kind == "timm, linear projection":
            assert torch.allclose(visual.head.proj(features), whole, atol=1e-5)
        else:  # the pooling mixes positions, so only the map before it can be compared
            maps = []
            last = visual.layer4 if kind == "resnet" else visual.trunk
            handle = last.register_forward_hook(lambda _module, _inputs, out: maps.append(out))
            model.encode_image(pixels)
            handle.remove()
            assert torch.allclose(features, maps[0].flatten(2).mean(2), atol=1e-5)
        assert torch.equal(model.encode_image(pixels), whole), "asking for features changes nothing"


@pytest.mark.parametrize("kind", TOWERS)
def test_the_dimension_is_known_before_anything_is_built(kind):
    base = plan(parse("mini-clip"))
    size = [TOWERS[kind]["image_size"]] * 2
    config = {"model_cfg": {"embed_dim": 16, "vision_cfg": TOWERS[kind], "text_cfg": TEXT}}
    stated = features_plan(replace(base, config=config, preprocess={**base.preprocess, "size": size})).info.dimension
    with torch.inference_mode():
        visual = open_clip.model.CLIP(16, TOWERS[kind], TEXT).eval().visual
        assert stated == trunk(visual, torch.zeros(1, 3, *size)).shape[1]


def test_identity_is_the_base_models_with_another_output(encoder):
    base = plan(parse("mini-clip")).info
    assert isinstance(encoder, FeaturesEncoder)
    assert encoder.info.name == "features:mini-clip"
    assert encoder.info == describe("features:mini-clip")
    assert encoder.info.dimension == 1024
    assert encoder.info.reads == {"image"}
    assert encoder.info.weights_sha256 == base.weights_sha256
    assert encoder.info.preprocessing == {**base.preprocessing, "output": "features"}
    assert not base.same_as(encoder.info.weights_sha256, encoder.info.preprocessing), "the two are never compared"


def test_vectors_have_unit_length_and_their_order(encoder, picture):
    turned = picture.rotate(90, expand=True)
    both = encoder.encode([Item(image=picture), Item(image=turned)])
    np.testing.assert_allclose(np.linalg.norm(both, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(both[1], encoder.encode([Item(image=turned)])[0], atol=1e-6)
    assert np.abs(both[0] - both[1]).max() > 1e-3


def test_texts_are_refused(encoder):
    with pytest.raises(ModelError, match="features:mini-clip does not read text; it reads image"):
        encoder.prepare(Item(text="a desert"))


def test_a_tower_of_another_kind_is_refused():
    with pytest.raises(ModelError, match="Linear has no features"):
        trunk(torch.nn.Linear(2, 2), torch.zeros(1, 3, 8, 8))


def test_names():
    digest = plan(parse("mini-clip")).info.weights_sha256
    assert describe(f"features:mini-clip@{digest[:8]}").dimension == 1024
    with pytest.raises(WeightsError, match="not 00000000"):
        describe("features:mini-clip@00000000")
    assert parse("features:remoteclip:ViT-B-32/file:/w.pt").name == "features:remoteclip:ViT-B-32/file:/w.pt"
    with pytest.raises(ModelError, match="mini-location has no image tower; name mini-clip"):
        parse("features:mini-location")
    with pytest.raises(UnknownNameError, match="no model is named 'miny-clip'"):
        parse("features:miny-clip")
    entry = next(m for m in list_models() if m.name == "features:mini-clip")
    assert (entry.dimension, entry.reads, entry.available) == (1024, "image", True)
