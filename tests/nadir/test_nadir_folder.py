"""Folders of nadir-aware models: what is written is read, and what is wrong in one is named."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from geosearch.encoders import nadir_folder
from geosearch.errors import ModelError, WeightsError
from geosearch.nadir.model import NadirModel
from geosearch.training.averages import follow

CONFIG: dict[str, Any] = {
    "family": "nadir",
    "tower": {
        "kind": "open_clip",
        "embed_dim": 24,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 16},
    },
    "picture": {
        "size": [64, 64], "mean": [0.3, 0.35, 0.4], "std": [0.2, 0.2, 0.2],
        "interpolation": "bicubic", "resize_mode": "shortest",
    },
    "salad": {"clusters": 6, "cluster_dim": 4, "global_dim": 8, "hidden": 16, "dropout": 0.1},
    "nadir": {"frequencies": 8, "lowest": 1.0, "highest": 48.0, "hidden": 16, "dimension": 10},
}  # fmt: skip


def changed(**changes: Any) -> dict[str, Any]:
    """Return the configuration with some of its values replaced, named as tower__kind; ... removes a key."""
    config = deepcopy(CONFIG)
    for path, value in changes.items():
        inner, *keys = config, *path.split("__")
        for key in keys[:-1]:
            inner = inner[key]
        if value is ...:
            del inner[keys[-1]]
        else:
            inner[keys[-1]] = value
    return config


def model(config: dict[str, Any] = CONFIG, seed: int = 4) -> NadirModel:
    torch.manual_seed(seed)
    return nadir_folder.build(config).eval()


def ask(net: NadirModel) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    lat, lon = torch.tensor([45.0, torch.nan], dtype=torch.float64), torch.tensor([10.0, 3], dtype=torch.float64)
    with torch.no_grad():
        return net(torch.randn(2, 3, 64, 64, generator=draw), lat, lon).both


class TestRoundTrip:
    def test_what_is_written_is_read(self, tmp_path: Path):
        written = model()
        nadir_folder.write_folder(tmp_path, written, {**CONFIG, "training": {"steps": 3}})
        config = nadir_folder.read_config(tmp_path)
        assert config["training"] == {"steps": 3}
        read = nadir_folder.load_weights(model(config, seed=9), tmp_path / nadir_folder.WEIGHTS)
        assert not read.training
        torch.testing.assert_close(ask(read), ask(written), rtol=0, atol=2e-3)
        torch.testing.assert_close(ask(read).norm(dim=1), torch.ones(2))
        assert read.dimension == 6 * 4 + 8 + 10

    def test_weights_are_halved_and_waves_are_not(self, tmp_path: Path):
        written = model()
        nadir_folder.write_folder(tmp_path, written, CONFIG)
        tensors = load_file(tmp_path / nadir_folder.WEIGHTS)
        assert torch.equal(tensors["nadir.waves"], written.nadir.waves)
        assert tensors["salad.dustbin"].dtype == torch.float16
        assert (tmp_path / nadir_folder.WEIGHTS).stat().st_mode & 0o044  # others may read it

    def test_the_image_comes_first_then_the_nadir(self):
        net = model()
        x, place = torch.randn(1, 3, 64, 64), torch.tensor([12.0])
        with torch.no_grad():
            vectors = net(x, place, place)
            scale = net.fusion.log_scale.exp()
            torch.testing.assert_close(vectors.image, net.image(x))
            both = torch.cat([vectors.image, scale * vectors.nadir], 1) / (1 + scale**2).sqrt()
        torch.testing.assert_close(vectors.both, both)

    def test_weights_that_overflow_half_precision_are_not_written(self, tmp_path: Path):
        broken = model()
        broken.salad.dustbin.data.fill_(1e6)
        with pytest.raises(ModelError, match=r"salad\.dustbin holds numbers that are not finite"):
            nadir_folder.write_folder(tmp_path, broken, CONFIG)
        assert not list(tmp_path.iterdir())

    def test_a_timm_tower_is_built_by_name(self):
        config = changed(tower={"kind": "timm", "model": "resnet18"}, picture__size=[96, 96])
        assert nadir_folder.build(config).tower.channels == 512


def test_quick_gelu_is_part_of_the_tower():
    vit = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
    nets = [
        model(changed(tower__vision_cfg=vit, tower__quick_gelu=quick, picture__size=[32, 32]))
        for quick in (True, False)
    ]
    nets[1].load_state_dict(nets[0].state_dict())
    with torch.no_grad():
        one, other = (net.image(torch.ones(1, 3, 32, 32)) for net in nets)
    assert 1e-4 < (one - other).norm() < 0.5


class TestWrongConfigurations:
    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"tower": ...}, "needs tower as an object"),
            ({"salad": [1]}, "needs salad as an object"),
            ({"tower__kind": "vgg"}, "tower must be"),
            ({"tower__quick_gelu": "no"}, "tower must be"),
            ({"tower__model": "resnet18"}, "model is no key of a tower of kind open_clip"),
            ({"tower__embed_dim": ...}, "open_clip cannot build it (KeyError: 'embed_dim')"),
            ({"tower__vision_cfg": {"depth": 3}}, "open_clip cannot build it (TypeError"),
            ({"tower__vision_cfg": {"timm_model_name": "hf-hub:a/b"}}, "timm has no model"),
            ({"tower": {"kind": "timm", "model": "vit_nonsense"}}, "timm has no model 'vit_nonsense'"),
            ({"picture__size": 64}, "picture.size must be [height, width]"),
            ({"picture__size": [64, 10**5]}, "picture.size must be"),
            ({"picture__mean": [0.1, 0.2]}, "picture.mean must be three numbers"),
            ({"picture__mean": [0.1, 0.2, float("nan")]}, "picture.mean must be three numbers"),
            ({"picture__std": [0.1, 0.2, 0]}, "picture.std must be above 0"),
            ({"picture__interpolation": ...}, "picture.interpolation must be one of bicubic, bilinear"),
            ({"picture__resize_mode": "crop"}, "picture.resize_mode must be one of"),
            ({"salad__clusters": 0}, "salad.clusters must be a whole number"),
            ({"salad__clusters": ...}, "salad: missing or unknown: clusters"),
            ({"salad__tokens": 4}, "salad: missing or unknown: tokens"),
            ({"nadir__highest": 0.5}, "lowest ≤ highest"),
            ({"nadir__frequencies": ...}, "nadir: missing or unknown: frequencies"),
            ({"salad__clusters": 16}, "shares 16 patches out to 16 clusters"),
        ],
    )
    def test_the_key_is_named(self, changes, says):
        with pytest.raises(ModelError, match=re.escape(says)):
            nadir_folder.build(changed(**changes))

    def test_full_salad_on_dinov2_needs_more_than_112_pixels(self):
        """112 pixels give 8 × 8 patches, as many as there are clusters: the dustbin would be left nothing."""
        full = {"clusters": 64, "cluster_dim": 128, "global_dim": 256, "hidden": 512, "dropout": 0.3}
        config = changed(
            tower={"kind": "timm", "model": "vit_small_patch14_reg4_dinov2.lvd142m"},
            picture__size=[112, 112],
            salad=full,
        )
        with pytest.raises(ModelError, match=r"64 patches out to 64 clusters.*larger pictures"):
            nadir_folder.build(config)

    def test_what_is_no_folder_of_a_model_is_named(self, tmp_path: Path):
        with pytest.raises(WeightsError, match=r"there is no .*nadir\.json; train it first"):
            nadir_folder.read_config(tmp_path, "train it first")
        for text, says in (
            ("{", "cannot be read as JSON"),
            ("[]", "family must be nadir"),
            ("{}", "family must be nadir"),
        ):
            (tmp_path / nadir_folder.CONFIG).write_text(text)
            with pytest.raises(ModelError, match=says):
                nadir_folder.read_config(tmp_path)


class TestWrongWeights:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        nadir_folder.write_folder(tmp_path, model(), CONFIG)
        return tmp_path / nadir_folder.WEIGHTS

    def test_weights_of_another_shape_are_refused(self, path: Path):
        with pytest.raises(ModelError, match=r"nadir\.unknown is \(10,\) in the file and \(12,\) in the conf"):
            nadir_folder.load_weights(model(changed(nadir__dimension=12)), path)

    @pytest.mark.parametrize(
        ("name", "says"), [("salad.dustbin", "missing in the file"), ("extra", "missing in the conf")]
    )
    def test_weights_that_lack_or_add_something_are_refused(self, path: Path, name, says):
        tensors = load_file(path)
        if tensors.pop(name, None) is None:
            tensors[name] = torch.zeros(2)
        save_file(tensors, path)
        with pytest.raises(ModelError, match=f"{re.escape(name)} is .*{says}"):
            nadir_folder.load_weights(model(), path)

    @pytest.mark.parametrize("value", [torch.nan, torch.inf])
    def test_numbers_that_are_not_finite_are_refused(self, path: Path, value):
        save_file({**load_file(path), "salad.dustbin": torch.tensor(value)}, path)
        with pytest.raises(ModelError, match=r"salad\.dustbin holds numbers that are not finite"):
            nadir_folder.load_weights(model(), path)

    def test_nothing_but_safetensors_is_opened(self, path: Path, tmp_path: Path):
        torch.save(load_file(path), tmp_path / "model.pt")
        with pytest.raises(ModelError, match="cannot be read as safetensors"):
            nadir_folder.load_weights(model(), tmp_path / "model.pt")
        with pytest.raises(WeightsError, match="there is no"):
            nadir_folder.load_weights(model(), tmp_path / "none.safetensors")

    def test_the_configuration_is_json_that_states_the_shapes(self, path: Path):
        stated = json.loads((path.parent / nadir_folder.CONFIG).read_text())
        assert stated == CONFIG


def test_an_average_of_weights_follows_the_model():
    average, net = model(seed=1), model(seed=2)
    expected = {
        name: 0.75 * value + 0.25 * net.state_dict()[name]
        for name, value in average.state_dict().items()
        if value.is_floating_point()
    }
    follow(average, net, 0.75)
    for name, value in expected.items():
        torch.testing.assert_close(average.state_dict()[name], value)
