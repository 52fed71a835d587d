"""Towers: patches without class and register tokens, sizes that fit, blocks that may learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from geosearch.errors import ModelError, WeightsError
from geosearch.nadir.tower_timm import DINOV2
from geosearch.nadir.towers import ResNetTower, Tower, normalise, timm_tower, tower_of

VIT = {"image_size": 32, "layers": 3, "width": 64, "head_width": 32, "patch_size": 8}
RESNET = {"image_size": 64, "layers": [1, 1, 2, 1], "width": 16, "head_width": 16}
TINY_TIMM = "vit_tiny_patch16_224.augreg_in21k"


def visual(vision: dict[str, Any], embed_dim: int = 24) -> Any:
    from open_clip.model import _build_vision_tower

    torch.manual_seed(2)
    return _build_vision_tower(embed_dim, vision).eval()


def pixels(height: int, width: int, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def dinov2() -> Tower:
    torch.manual_seed(0)
    return timm_tower(DINOV2[0])


class TestDinov2:
    def test_the_articles_names_are_timms(self):
        for name in DINOV2:
            assert timm.is_model_pretrained(name.partition(".")[0])
            assert name.partition(".")[2] in timm.list_pretrained(name)[0]

    @torch.no_grad()
    def test_class_and_register_tokens_are_no_patches(self, dinov2):
        """What timm gives is 1 class token, 4 registers, then the patches, row by row."""
        x = pixels(70, 98)
        patches, token = dinov2(x)
        all_tokens = dinov2.trunk.forward_features(x)
        assert all_tokens.shape == (2, 1 + 4 + 5 * 7, 384)
        assert torch.equal(patches, all_tokens[:, 5:])
        assert torch.equal(token, all_tokens[:, 0])
        assert (dinov2.channels, dinov2.token_channels) == (384, 384)

    def test_any_multiple_of_the_patch_will_do(self, dinov2):
        sizes = [(14, 14), (112, 112), (224, 322), (518, 518)]
        assert [dinov2.patches(*size) for size in sizes] == [1, 64, 16 * 23, 1369]

    @pytest.mark.parametrize(
        ("size", "nearest"),
        [
            ((230, 224), "224 × 224 or 238 × 224"),
            ((224, 223), "224 × 210 or 224 × 224"),
            ((5, 30), "14 × 28 or 14 × 42"),
        ],
    )
    def test_other_sizes_are_refused_with_the_nearest(self, dinov2, size, nearest):
        with pytest.raises(ModelError, match=f"patches of 14 × 14; take {nearest}"):
            dinov2.patches(*size)
        with pytest.raises(ModelError, match="do not divide"):
            dinov2(pixels(*size))

    def test_the_last_blocks_may_learn(self, dinov2):
        assert len(dinov2.blocks) == 13  # the input and 12 blocks
        dinov2.trainable(2)
        learning = {
            name.split(".")[1] + "." + name.split(".")[2] for name, p in dinov2.named_parameters() if p.requires_grad
        }
        assert learning == {"blocks.10", "blocks.11", "norm.weight", "norm.bias"}
        dinov2.trainable(0)
        assert not any(p.requires_grad for p in dinov2.parameters())
        for everything in (None, 13):
            dinov2.trainable(everything)
            assert all(p.requires_grad for p in dinov2.parameters())
        with pytest.raises(ModelError, match="13 blocks; train 0 to 13, not 14"):
            dinov2.trainable(14)


class TestOtherNetworksOfTimm:
    @torch.no_grad()
    @pytest.mark.parametrize(
        ("model", "size", "patches", "channels"),
        [("resnet18", 96, 9, 512), ("swin_tiny_patch4_window7_224", 224, 49, 768), ("convnext_atto", 96, 9, 320)],
    )
    def test_maps_become_sequences_row_by_row(self, model, size, patches, channels):
        torch.manual_seed(0)
        tower = timm_tower(model)
        out, token = tower(pixels(size, size, 1))
        assert out.shape == (1, patches, channels) == (1, tower.patches(size, size), tower.channels)
        features = tower.trunk.forward_features(pixels(size, size, 1))
        first, second = features[0, 0, :2] if tower.last_axis else features[0, :, 0, :2].T
        assert torch.equal(out[0, 0], first)
        assert torch.equal(out[0, 1], second)
        assert token.shape == (1, tower.token_channels)
        assert tower.blocks[0] is not tower.blocks[-1]

    def test_every_weight_belongs_to_a_block_or_to_the_input(self):
        for model in ("resnet18", "convnext_atto", "vit_tiny_patch16_224"):
            tower = timm_tower(model)
            blocks = {id(p) for block in tower.blocks for p in block.parameters()}
            outside = {name for name, p in tower.named_parameters() if id(p) not in blocks}
            assert outside <= {"trunk.cls_token", "trunk.pos_embed"}

    @torch.no_grad()
    def test_weights_come_from_a_file(self, tmp_path: Path):
        torch.manual_seed(0)
        theirs = timm.create_model(TINY_TIMM)
        save_file(theirs.state_dict(), tmp_path / "tower.safetensors")
        torch.save(theirs.state_dict(), tmp_path / "tower.pth")
        x = pixels(224, 224, 1)
        for name in ("tower.safetensors", "tower.pth"):
            patches, _ = timm_tower(TINY_TIMM, tmp_path / name)(x)
            torch.testing.assert_close(patches, theirs.eval().forward_features(x)[:, 1:])

    def test_a_file_that_does_not_fit_is_named(self, tmp_path: Path):
        with pytest.raises(WeightsError, match=r"there is no file .*tower\.pth"):
            timm_tower(TINY_TIMM, tmp_path / "tower.pth")
        lacking = dict(list(timm.create_model(TINY_TIMM).state_dict().items())[:-9])
        save_file(lacking, tmp_path / "other.safetensors")
        with pytest.raises(WeightsError, match=r"cannot be built with .*other\.safetensors"):
            timm_tower(TINY_TIMM, tmp_path / "other.safetensors")

    @pytest.mark.parametrize(
        "name", ["vit_small_patch14_reg4_dinov", "hf-hub:timm/vit_tiny_patch16_224", "local-dir:/x"]
    )
    def test_names_that_are_not_timms_own_are_refused(self, name):
        with pytest.raises(ModelError, match="timm has no model"):
            timm_tower(name)

    def test_a_tag_that_there_is_not_is_refused(self):
        with pytest.raises(ModelError, match="cannot be built: Invalid pretrained tag"):
            timm_tower("vit_tiny_patch16_224.nonsense")


class TestOpenClip:
    @torch.no_grad()
    def test_a_vision_transformers_token_is_what_it_projects(self):
        net, x = visual(VIT), pixels(32, 32)
        tower = tower_of(net)
        patches, token = tower(x)
        torch.testing.assert_close(token @ net.proj, net(x))  # the network that was given still has its projection
        assert patches.shape == (2, 16, 64)
        assert tower.patches(32, 32) == 16

    @torch.no_grad()
    def test_where_it_projects_the_mean_the_token_is_the_mean(self):
        net = visual({**VIT, "pool_type": "avg", "no_ln_pre": True})
        x, projection = pixels(32, 32), net.proj.clone()
        embedding = net(x)
        patches, token = tower_of(net)(x)
        torch.testing.assert_close(token @ projection, embedding)
        torch.testing.assert_close(token, patches.mean(1))

    @torch.no_grad()
    def test_attentional_pooling_is_left_out(self):
        net = visual({**VIT, "attentional_pool": True, "attn_pooler_heads": 4})
        tower = tower_of(net)
        patches, token = tower(pixels(32, 32))
        assert patches.shape == (2, 16, 64)
        assert token.shape == (2, 64)
        assert not any("attn_pool" in name or name.endswith("proj") for name, _ in tower.named_parameters())

    def test_a_vision_transformer_takes_its_own_size_alone(self):
        tower = tower_of(visual(VIT))
        with pytest.raises(ModelError, match="takes 32 × 32 pixels, not 40 × 32"):
            tower.patches(40, 32)
        with pytest.raises(ModelError, match="do not divide into patches of 8 × 8; take 32 × 32 or 40 × 40"):
            tower_of(visual({**VIT, "image_size": 36})).patches(36, 36)

    @torch.no_grad()
    def test_a_resnets_patches_are_its_third_stage(self):
        net = visual(RESNET)
        seen: dict[str, torch.Tensor] = {}
        for name in ("layer3", "layer4"):
            getattr(net, name).register_forward_hook(lambda _m, _i, out, name=name: seen.__setitem__(name, out))
        net(pixels(64, 64))
        tower = tower_of(net)
        patches, token = tower(pixels(64, 64))
        assert isinstance(tower, ResNetTower)
        assert torch.equal(patches[:, 5], seen["layer3"][:, :, 1, 1])  # 4 × 4 patches
        assert torch.equal(token, seen["layer4"].mean((2, 3)))
        assert (tower.patches(64, 64), tower.patches(96, 160)) == (16, 60)

    @torch.no_grad()
    def test_a_network_of_timm_inside_openclip_keeps_its_trunk(self):
        net = visual(
            {"image_size": 224, "timm_model_name": "vit_tiny_patch16_224", "timm_pool": "token", "timm_proj": None}
        )
        x = pixels(224, 224, 1)
        embedding = net(x)
        tower = tower_of(net)
        patches, token = tower(x)
        torch.testing.assert_close(net.trunk.head(token), embedding)
        assert patches.shape == (1, 196, 192)
        with pytest.raises(ModelError, match="takes no pictures of 96 × 96 pixels: Input height"):
            tower.patches(96, 96)

    def test_other_towers_are_refused(self):
        with pytest.raises(ModelError, match="the vision tower Linear gives no patches"):
            tower_of(nn.Linear(1, 1))


class TestEveryTower:
    @torch.no_grad()
    def test_batch_statistics_stay_as_they_are_while_the_rest_learns(self):
        tower = tower_of(visual(RESNET).train())
        before = {name: value.clone() for name, value in tower.named_buffers()}
        alone = tower(pixels(64, 64, 4))[0][:1]
        outer = nn.Sequential(tower).train()
        assert outer.training
        torch.testing.assert_close(tower(pixels(64, 64, 4)[:1])[0], alone)
        assert all(torch.equal(value, before[name]) for name, value in tower.named_buffers())

    def test_counting_patches_computes_nothing_and_keeps_the_weights(self):
        tower = tower_of(visual(RESNET))
        before = {name: (value, value.clone()) for name, value in tower.state_dict().items()}
        assert tower.patches(4096, 4096) == 256 * 256
        for name, value in tower.state_dict().items():
            assert value.data_ptr() == before[name][0].data_ptr()
            assert torch.equal(value, before[name][1])


def test_pixels_are_normalised_as_openclip_does():
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from PIL import Image

    mean, std = [0.3, 0.35, 0.4], [0.2, 0.21, 0.22]
    raw = torch.randint(256, (1, 3, 8, 8), dtype=torch.uint8)
    cfg = PreprocessCfg(size=8, mean=tuple(mean), std=tuple(std))
    theirs = image_transform_v2(cfg, is_train=False)(Image.fromarray(raw[0].permute(1, 2, 0).numpy()))
    torch.testing.assert_close(normalise(raw, mean, std)[0], theirs)
