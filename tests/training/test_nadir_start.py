"""What a run begins with: the tower of a model by name, and a whole nadir-aware model to go on from."""

import pytest

torch = pytest.importorskip("torch")

from geosearch.encoders import nadir_folder  # noqa: E402
from geosearch.encoders.registry import load  # noqa: E402
from geosearch.errors import GeosearchError  # noqa: E402
from geosearch.nadir.salad import SHAPES, SaladShape  # noqa: E402
from geosearch.training.nadir_start import begin, shape_of  # noqa: E402


def test_shapes_by_name_and_by_number():
    assert shape_of("large") == SHAPES["large"]
    assert (shape_of("16x32+256").dimension, shape_of("64×128+256").dimension) == (768, 8448)
    for wrong in ("medium", "16x32", "0x4+8"):
        with pytest.raises(GeosearchError):
            shape_of(wrong)


def test_mini_clips_tower_is_taken_over_and_the_folder_is_the_model(tmp_path):
    model, config = begin("mini-clip", seed=1)
    assert (model.dimension, config["picture"]["size"]) == (16 * 32 + 256 + 128, [96, 96])
    theirs = load("mini-clip", "cpu")._model.visual
    pixels = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        token = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(theirs.stem(pixels))))).mean((2, 3))
        torch.testing.assert_close(model.tower(pixels)[1], token, rtol=1e-4, atol=1e-4)
    nadir_folder.write_folder(tmp_path, model, config)
    assert nadir_folder.read_config(tmp_path)["salad"]["clusters"] == 16
    again, same = begin(f"nadir:local-dir:{tmp_path}", seed=2)
    assert same["tower"] == config["tower"]
    place = torch.tensor([10.0, torch.nan]), torch.tensor([20.0, torch.nan])
    with torch.no_grad():
        one, other = (net.eval()(pixels, *place).both for net in (model, again))
    torch.testing.assert_close(one, other, atol=5e-3, rtol=0)  # the folder is in half precision
    assert all(p.requires_grad for p in again.parameters()), "to go on learning"
    with pytest.raises(GeosearchError, match="its own size"):
        begin(f"nadir:local-dir:{tmp_path}", seed=2, size=64)


def test_the_same_seed_is_the_same_model():
    one, other, third = (begin("mini-clip", seed)[0].salad.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[k], other[k]) for k in one)
    assert not torch.equal(one["token.0.weight"], third["token.0.weight"])


def test_a_tower_of_timm_with_the_weights_of_a_file(tmp_path, monkeypatch):
    timm = pytest.importorskip("timm")
    from safetensors.torch import save_file

    name = "test_vit"
    torch.manual_seed(3)
    trunk = timm.create_model(name)  # as published: with its classifier
    save_file(trunk.state_dict(), tmp_path / "w.safetensors")
    model, config = begin(f"timm:{name}/file:{tmp_path / 'w.safetensors'}", 0, 64, SaladShape(8, 4, 8))
    assert config["tower"] == {"kind": "timm", "model": name}
    assert config["picture"]["size"] == [64, 64]
    torch.testing.assert_close(model.tower.trunk.state_dict()["cls_token"], trunk.state_dict()["cls_token"])
    assert model.tower.patches(64, 64) == 16
    nadir_folder.write_folder(tmp_path / "out", model, config)
    nadir_folder.build(nadir_folder.read_config(tmp_path / "out"))
    monkeypatch.setenv("GEOSEARCH_HOME", str(tmp_path))
    for wrong, said in (
        (f"timm:{name}", "downloads are off"),
        (f"timm:{name}/file:{tmp_path / 'none'}", "there is no file"),
        (f"timm:{name}/small", "comes nothing"),
    ):
        with pytest.raises(GeosearchError, match=said):
            begin(wrong, 0)
    with pytest.raises(GeosearchError, match="no image tower"):
        begin("mini-location", 0)


def test_the_command_says_the_settings_of_mini_nadir():
    from inspect import signature

    from geosearch_cli.train import nadir

    from geosearch.training.nadir_options import Options

    said = {name: one.default for name, one in signature(nadir).parameters.items()}
    ours = Options()
    named = {"rate": "learning_rate", "share": "catalogued"}
    for name in ("steps", "batch", "rate", "tower_rate", "trainable", "seed", "precision", "overlap", "share"):
        assert said[name] == getattr(ours, named.get(name, name)), name
