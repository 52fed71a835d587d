"""A folder with a location encoder: written by training, read by the registry, and what is no such folder."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from geosearch.encoders import registry
from geosearch.encoders.harmonics import spherical_harmonics
from geosearch.encoders.location_folder import write_folder
from geosearch.encoders.places import PlaceEncoder
from geosearch.encoders.satclip import SirenLocation
from geosearch.errors import ModelError, WeightsError

LAT, LON = np.linspace(-90, 90, 11), np.linspace(-180, 180, 11)
ALIGNED: dict[str, Any] = {"aligned_with": {"model": "mini-clip", "weights_sha256": "0" * 64}, "steps": 100}


@pytest.fixture
def module() -> SirenLocation:
    torch.manual_seed(3)
    return SirenLocation(6, width=16, hidden_layers=3, dimension=8)


def test_starts_as_the_paper_of_siren_says() -> None:
    """Uniform within ±1/n in the first layer, within ±√(6/n) in the others (their w0 is 1), biases as well."""
    torch.manual_seed(0)
    state = SirenLocation(10).state_dict()
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    assert shapes == {"nnet.layers.0.weight": (512, 100), "nnet.layers.0.bias": (512,),
                      "nnet.layers.1.weight": (512, 512), "nnet.layers.1.bias": (512,),
                      "nnet.last_layer.weight": (256, 512), "nnet.last_layer.bias": (256,)}  # fmt: skip
    for name, bound in (("layers.0", 1 / 100), ("layers.1", (6 / 512) ** 0.5), ("last_layer", (6 / 512) ** 0.5)):
        for part in ("weight", "bias"):
            values = state[f"nnet.{name}.{part}"]
            assert values.abs().max() <= bound
            assert abs(values.std().item() - bound / 3**0.5) < 0.08 * bound


def test_dropout_is_for_training_alone() -> None:
    module = SirenLocation(4, width=64, dropout=0.5)
    harmonics = torch.from_numpy(spherical_harmonics(LAT, LON, 4)).float()
    assert not torch.equal(module(harmonics), module(harmonics))
    module.eval()
    assert torch.equal(module(harmonics), module(harmonics))


@pytest.mark.skipif(os.name != "posix", reason="rights of files are POSIX's")
def test_weights_may_be_read_by_whom_any_new_file_may(module: SirenLocation, tmp_path: Path) -> None:
    from geosearch.training.clip import write_weights

    before = os.umask(0o022)
    try:
        write_folder(tmp_path / "place", module, ALIGNED)
        write_weights(module, tmp_path)
    finally:
        os.umask(before)
    for folder in (tmp_path / "place", tmp_path):
        assert stat.S_IMODE((folder / "model.safetensors").stat().st_mode) == 0o644
        assert not list(folder.glob("*.tmp"))


@pytest.mark.parametrize("half", [False, True])
def test_what_is_written_is_read(half: bool, module: SirenLocation, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_folder(folder, module, ALIGNED, half=half)
    kept = load_file(folder / "model.safetensors")
    assert {value.dtype for value in kept.values()} == {torch.float16 if half else torch.float32}
    encoder = registry.load(f"satclip:local-dir:{folder}", "cpu")
    assert isinstance(encoder, PlaceEncoder)
    module.load_state_dict(kept)
    with torch.no_grad():
        expected = module.double()(torch.from_numpy(spherical_harmonics(LAT, LON, 6))).numpy()
    np.testing.assert_allclose(encoder.encode_places(LAT, LON, normalise=False), expected, rtol=0, atol=1e-12)
    info = registry.describe(f"satclip:local-dir:{folder}")
    assert (info.family, info.dimension, info.reads) == ("satclip", 8, frozenset({"place"}))
    assert info.preprocessing["aligned_with"] == ALIGNED["aligned_with"]
    assert info.preprocessing["network"] == encoder.network().definition
    assert info.preprocessing["network"]["degree"] == 6
    assert json.loads((folder / "location.json").read_text())["steps"] == 100


def test_two_devices_do_not_share_a_module(module: SirenLocation, tmp_path: Path) -> None:
    """Encoders of one file are copies: what is done to one does not reach another."""
    write_folder(tmp_path, module, ALIGNED)
    name = f"satclip:local-dir:{tmp_path}"
    first = registry.load(name, "cpu")
    assert registry.load(name, "cpu") is first
    write_folder(tmp_path, SirenLocation(6, 16, 3, 8), ALIGNED)
    second = registry.load(name, "cpu")
    assert isinstance(first, PlaceEncoder)
    assert isinstance(second, PlaceEncoder)
    assert not np.allclose(first.encode_places(1, 2), second.encode_places(1, 2))


def test_what_training_must_not_write(module: SirenLocation, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="config says degree 7, the module has 6"):
        write_folder(tmp_path, module, {**ALIGNED, "degree": 7})
    with pytest.raises(ModelError, match="aligned_with must name"):
        write_folder(tmp_path, module, {})
    with torch.no_grad():
        module.nnet.last_layer.bias[0] = 1e6
    with pytest.raises(ModelError, match=r"last_layer\.bias holds numbers that are not finite in torch\.float16"):
        write_folder(tmp_path, module, ALIGNED, half=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"family": "geoclip"}, "family must be satclip"),
        ({"degree": 41}, "degree must be a whole number from 1 to 40, it is 41"),
        ({"width": True}, "width must be a whole number"),
        ({"dimension": 9}, r"last_layer\.bias is \(8,\), not \(9,\)"),
        ({"hidden_layers": 2}, r"holds nnet\.layers\.2\.bias"),
        ({"aligned_with": {"model": "mini-clip"}}, "aligned_with must name"),
    ],
)
def test_folders_that_do_not_fit(change: dict[str, Any], words: str, module: SirenLocation, tmp_path: Path) -> None:
    write_folder(tmp_path, module, ALIGNED)
    path = tmp_path / "location.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ModelError, match=words):
        registry.describe(f"satclip:local-dir:{tmp_path}")


def test_folders_with_files_missing_or_damaged(module: SirenLocation, tmp_path: Path) -> None:
    write_folder(tmp_path, module, ALIGNED)
    name = f"satclip:local-dir:{tmp_path}"
    (tmp_path / "location.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read as JSON"):
        registry.describe(name)
    (tmp_path / "location.json").unlink()
    with pytest.raises(WeightsError, match=r"there is no .*location\.json"):
        registry.describe(name)
    write_folder(tmp_path, module, ALIGNED)
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelError, match="cannot be read as safetensors"):
        registry.describe(name)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="no weights file"):
        registry.describe(name)
    save_file(module.state_dict(), tmp_path / "a.safetensors")
    save_file(module.state_dict(), tmp_path / "b.safetensors")
    with pytest.raises(WeightsError, match="2 weights files"):
        registry.describe(name)


def test_mini_location_is_here_and_goes_with_mini_clip() -> None:
    encoder = registry.load("mini-location", "cpu")
    assert isinstance(encoder, PlaceEncoder)
    clip = registry.describe("mini-clip")
    assert encoder.info.preprocessing["aligned_with"] == {"model": "mini-clip", "weights_sha256": clip.weights_sha256}
    assert encoder.info.dimension == clip.dimension
    found = encoder.encode_places(LAT, LON)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-12)
