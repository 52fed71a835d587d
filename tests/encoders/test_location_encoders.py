"""SatCLIP and GeoCLIP from files with the published names: what they compute, and what is no such file."""

from __future__ import annotations

import argparse
import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.special import sph_harm_y

from geosearch.encoders import geoclip, registry
from geosearch.encoders.network import PlaceNetwork
from geosearch.encoders.places import PlaceEncoder
from geosearch.encoders.projections import equal_earth
from geosearch.errors import ModelError, UnknownNameError, WeightsError
from geosearch.item import Item, Place

LAT, LON = np.array([46.0, -33.9, 0.0, 89.0, -90.0, 12.0]), np.array([8.0, 151.2, -180.0, 30.0, 0.0, 180.0])
HYPER = {"embed_dim": 24, "capacity": 20, "num_hidden_layers": 2, "legendre_polys": 10, "le_type": "sphericalharmonics",
         "pe_type": "siren", "harmonics_calculation": "analytic", "frequency_num": 16, "max_radius": 260.0,
         "min_radius": 1, "vision_layers": "moco_vit16", "air_temp_data_path": None}  # fmt: skip
GEOCLIP_SHAPES = {"capsule.0.b": (256, 2), "capsule.1.weight": (1024, 512), "capsule.1.bias": (1024,),
                  "capsule.3.weight": (1024, 1024), "capsule.3.bias": (1024,), "capsule.5.weight": (1024, 1024),
                  "capsule.5.bias": (1024,), "head.0.weight": (512, 1024), "head.0.bias": (512,)}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError(f"reached for the network: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("GEOSEARCH_HOME", str(tmp_path / "home"))


def load(name: str) -> PlaceEncoder:
    encoder = registry.load(name, "cpu")
    assert isinstance(encoder, PlaceEncoder)
    return encoder


def nnet(hyper: dict[str, Any], seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights by SatCLIP's names below `nnet`."""
    draw = torch.Generator().manual_seed(seed)
    sizes = [hyper["legendre_polys"] ** 2, *[hyper["capacity"]] * hyper["num_hidden_layers"], hyper["embed_dim"]]
    names = [*(f"nnet.layers.{i}" for i in range(hyper["num_hidden_layers"])), "nnet.last_layer"]
    state = {}
    for name, inputs, units in zip(names, sizes[:-1], sizes[1:], strict=True):
        bound = 1 / inputs if name == "nnet.layers.0" else (6 / inputs) ** 0.5
        state[f"{name}.weight"] = (torch.rand(units, inputs, generator=draw, dtype=torch.float64) * 2 - 1) * bound
        state[f"{name}.bias"] = (torch.rand(units, generator=draw, dtype=torch.float64) * 2 - 1) * bound
    return state


def checkpoint(path: Path, hyper: dict[str, Any] | argparse.Namespace, state: dict[str, torch.Tensor]) -> Path:
    """A file as Lightning writes it: the same tensors below two names, and those of the image encoder."""
    twice = {f"model.{below}{name}": value for below in ("", "location.") for name, value in state.items()}
    others = {"model.logit_scale": torch.tensor(2.6), "model.visual.conv1.weight": torch.rand(3, 3)}
    torch.save({"epoch": 5, "pytorch-lightning_version": "2.0.0", "hyper_parameters": hyper,
                "state_dict": {**others, **twice}, "optimizer_states": []}, path)  # fmt: skip
    return path


def satclip_by_hand(hyper: dict[str, Any], state: dict[str, torch.Tensor]) -> np.ndarray:
    """The published network in its own convention, from scipy's harmonics (which have the Condon–Shortley sign)."""
    theta, phi, columns = np.radians(LAT + 90), np.radians(LON + 180), []
    analytic = hyper["harmonics_calculation"] == "analytic"
    for order in range(hyper["legendre_polys"]):
        for m in range(-order, order + 1):
            value = sph_harm_y(order, abs(m), theta, phi)
            real = value.real if m == 0 else np.sqrt(2) * (value.real if m > 0 else value.imag)
            columns.append(real * ((-1) ** m * (np.pi if m == 0 else 1) if analytic else 1))
    x = np.stack(columns, axis=1)
    for i in range(hyper["num_hidden_layers"]):
        weight, bias = (state[f"nnet.layers.{i}.{part}"].numpy() for part in ("weight", "bias"))
        x = np.sin((1 if i else 30) * (x @ weight.T + bias))
    return x @ state["nnet.last_layer.weight"].numpy().T + state["nnet.last_layer.bias"].numpy()


def by_matrices(network: PlaceNetwork, features: np.ndarray) -> np.ndarray:
    """What SQL does with a network's matrices, in float64."""
    total = np.zeros((len(features), network.dimension))
    for net in network.nets:
        x, layers = features, list(net)
        if network.definition["features"] == "fourier":
            angles = 2 * np.pi * x @ layers.pop(0).weights.T.astype(np.float64)
            x = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
        for i, layer in enumerate(layers):
            x = x @ layer.weights.T.astype(np.float64) + layer.bias
            if i < len(layers) - 1 and network.definition["activation"] == "relu":
                x = np.maximum(x, 0)
            elif i < len(layers) - 1:
                x = np.sin(network.definition["w0" if i else "first_w0"] * x)
        total += x
    return total


@pytest.mark.parametrize("calculation", ["analytic", "closed-form"])
def test_satclip_as_its_own_convention_computes_it(calculation: str, tmp_path: Path) -> None:
    from geosearch.encoders.harmonics import spherical_harmonics

    hyper = {**HYPER, "harmonics_calculation": calculation}
    state = nnet(hyper)
    encoder = load(f"satclip:ViT16-L10/file:{checkpoint(tmp_path / 'a.ckpt', hyper, state)}")
    expected = satclip_by_hand(hyper, state)
    found = encoder.encode_places(LAT, LON, normalise=False)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11)
    lengths = np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.encode_places(LAT, LON), expected / lengths, rtol=0, atol=1e-11)
    network = encoder.network()
    assert [net[0].weights.shape for net in network.nets] == [(20, 100)]
    assert all(layer.weights.dtype == layer.bias.dtype == np.float32 for layer in network.nets[0])
    np.testing.assert_allclose(by_matrices(network, spherical_harmonics(LAT, LON, 10)), expected, rtol=0, atol=1e-5)
    assert encoder.info.preprocessing["network"] == network.definition
    assert encoder.info.preprocessing["harmonics"] == calculation


def test_satclip_has_no_seam_and_tells_lat_from_lon(tmp_path: Path) -> None:
    encoder = load(f"satclip:ViT16-L10/file:{checkpoint(tmp_path / 'a.ckpt', HYPER, nnet(HYPER))}")
    east, west = (encoder.encode_places(np.linspace(-90, 90, 9), np.full(9, lon)) for lon in (180.0, -180.0))
    np.testing.assert_allclose(east, west, rtol=0, atol=1e-9)
    pole = encoder.encode_places(np.full(5, 90), np.linspace(-180, 180, 5))
    np.testing.assert_allclose(pole, np.broadcast_to(pole[0], pole.shape), rtol=0, atol=1e-9)
    assert not np.allclose(encoder.encode_places(10, 20), encoder.encode_places(20, 10))
    items = encoder.encode([Item(place=Place(10, 20))])
    assert items.dtype == np.float32
    np.testing.assert_allclose(items, encoder.encode_places(10, 20), atol=1e-7)
    many = encoder.encode_places(np.full(5000, 10.0), np.linspace(-180, 180, 5000))
    np.testing.assert_allclose(many[4321], encoder.encode_places(10, np.linspace(-180, 180, 5000)[4321])[0], atol=1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_gpu_gives_the_same_vectors(tmp_path: Path) -> None:
    hyper = {**HYPER, "legendre_polys": 40}
    name = f"satclip:ViT16-L40/file:{checkpoint(tmp_path / 'a.ckpt', hyper, nnet(hyper))}"
    here, there = load(name), registry.load(name, "cuda")
    assert isinstance(there, PlaceEncoder)
    np.testing.assert_allclose(there.encode_places(LAT, LON), here.encode_places(LAT, LON), rtol=0, atol=1e-10)


def test_published_weights_are_found_in_the_weights_folder(tmp_path: Path) -> None:
    folder = tmp_path / "home" / "weights"
    folder.mkdir(parents=True)
    listed = {entry.name: entry for entry in registry.list_models()}
    assert (listed["satclip:ResNet50-L40"].available, listed["satclip:ResNet50-L40"].reads) == (False, "place")
    assert listed["coordinates:wrap"].available
    hyper = {**HYPER, "legendre_polys": 40}
    path = checkpoint(folder / "satclip-resnet50-l40.ckpt", hyper, nnet(hyper))
    info = registry.describe("satclip:ResNet50-L40")
    assert (info.family, info.revision, info.dimension) == ("satclip", "microsoft/SatCLIP-ResNet50-L40", 24)
    assert info.preprocessing["degree"] == 40
    assert {entry.name: entry.available for entry in registry.list_models()}["satclip:ResNet50-L40"]
    pinned = f"satclip:ResNet50-L40@{info.weights_sha256[:12]}"
    assert registry.describe(pinned).weights_sha256 == info.weights_sha256
    with pytest.raises(WeightsError, match=r"not 0123456789"):
        registry.describe("satclip:ResNet50-L40@0123456789")
    with pytest.raises(ModelError, match="degree 40; it holds another model"):
        registry.describe(f"satclip:ViT16-L10/file:{path}")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("satclip:ViT16-L40", r"satclip-vit16-l40\.ckpt of the hub repository microsoft/SatCLIP-ViT16-L40 to .*home"),
        ("satclip:ResNet18-L10", r"satclip-resnet18-l10\.ckpt of the hub repository microsoft/SatCLIP-ResNet18-L10"),
        ("geoclip", r"location_encoder_weights\.pth of GeoCLIP's package .*weights/geoclip\.pth"),
        ("satclip:ViT16-L40/file:/nowhere/a.ckpt", "there is no file /nowhere/a.ckpt"),
        ("satclip:local-dir:/nowhere", "there is no folder /nowhere"),
    ],
)
def test_missing_weights_say_how_to_get_them(name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=words):
        registry.load(name, "cpu")


@pytest.mark.parametrize("name", ["satclip:", "satclip:ViT16", "satclip:ViT16-L20", "satclip:ViT16-L10/tag"])
def test_unknown_architectures_list_those_that_exist(name: str) -> None:
    with pytest.raises(UnknownNameError, match="ViT16-L10, ViT16-L40, ResNet18-L10, ResNet18-L40, ResNet50-L10"):
        registry.describe(name)


@pytest.mark.parametrize("name", ["geoclip:", "geoclip/x", "mini-locations"])
def test_names_that_mean_nothing(name: str) -> None:
    with pytest.raises(UnknownNameError, match="geoclip"):
        registry.describe(name)


def test_plain_types_in_a_checkpoint_are_read(tmp_path: Path) -> None:
    """A Namespace, and paths of another system or Python, which Lightning keeps among hyperparameters."""
    state, hyper = nnet(HYPER), {**HYPER, "air_temp_data_path": Path("/data/air.csv")}
    expected = satclip_by_hand(HYPER, state)
    kinds: list[Any] = [hyper, argparse.Namespace(**hyper)]
    for number, held in enumerate(kinds):
        encoder = load(f"satclip:ViT16-L10/file:{checkpoint(tmp_path / f'{number}.ckpt', held, state)}")
        np.testing.assert_allclose(encoder.encode_places(LAT, LON, normalise=False), expected, rtol=0, atol=1e-11)


class _Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["GEOSEARCH_TEST_MARK"],)


def test_files_that_run_code_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "ran"
    monkeypatch.setenv("GEOSEARCH_TEST_MARK", str(mark))
    path = checkpoint(tmp_path / "a.ckpt", {**HYPER, "callback": _Runs()}, nnet(HYPER))
    with pytest.raises(ModelError, match=r"mkdir.*could run code"):
        registry.load(f"satclip:ViT16-L10/file:{path}", "cpu")
    torch.save({"LocEnc0.capsule.0.b": _Runs()}, tmp_path / "geo.pth")
    with pytest.raises(ModelError, match=r"mkdir.*could run code"):
        registry.load(f"geoclip/file:{tmp_path / 'geo.pth'}", "cpu")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"le_type": "grid"}, "le_type is 'grid'"),
        ({"pe_type": "fcnet"}, "pe_type is 'fcnet'"),
        ({"harmonics_calculation": "discretized"}, "harmonics_calculation is 'discretized'"),
        ({"legendre_polys": 41}, "legendre_polys in hyper_parameters is 41"),
        ({"capacity": None}, "capacity in hyper_parameters is None"),
        ({"capacity": 21}, r"nnet\.layers\.0\.weight is \(20, 100\), not \(21, 100\)"),
        ({"num_hidden_layers": 3}, r"lacks nnet\.layers\.2\.bias, nnet\.layers\.2\.weight"),
        ({"num_hidden_layers": 1}, r"holds nnet\.layers\.1\.bias, nnet\.layers\.1\.weight besides"),
    ],
)
def test_checkpoints_of_another_kind(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "a.ckpt", {**HYPER, **change}, nnet(HYPER))
    with pytest.raises(ModelError, match=words):
        registry.describe(f"satclip:ViT16-L10/file:{path}")


def test_files_that_are_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    contents: list[Any] = [nnet(HYPER), [1, 2], {"state_dict": {}, "hyper_parameters": None}]
    for content in contents:
        torch.save(content, path)
        with pytest.raises(ModelError, match="is no checkpoint of SatCLIP"):
            registry.describe(f"satclip:ViT16-L10/file:{path}")
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ModelError, match="cannot be read as weights"):
        registry.describe(f"satclip:ViT16-L10/file:{path}")
    state = nnet(HYPER)
    state["nnet.layers.1.weight"][0, 0] = float("nan")
    with pytest.raises(ModelError, match=r"nnet\.layers\.1\.weight holds numbers that are not finite"):
        registry.describe(f"satclip:ViT16-L10/file:{checkpoint(path, HYPER, state)}")


def geoclip_state() -> dict[str, torch.Tensor]:
    draw, state = torch.Generator().manual_seed(1), {}
    for i, sigma in enumerate((1, 16, 256)):
        for name, shape in GEOCLIP_SHAPES.items():
            scale = sigma if name.endswith(".b") else shape[-1] ** -0.5
            state[f"LocEnc{i}.{name}"] = torch.randn(shape, generator=draw) * scale
    return state


def geoclip_by_hand(state: dict[str, torch.Tensor]) -> np.ndarray:
    place, total = equal_earth(LAT, LON), np.zeros((len(LAT), 512))
    for i in range(3):
        part = {name: state[f"LocEnc{i}.{name}"].double().numpy() for name in GEOCLIP_SHAPES}
        angles = 2 * np.pi * place @ part["capsule.0.b"].T
        x = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
        for number in (1, 3, 5):
            x = np.maximum(x @ part[f"capsule.{number}.weight"].T + part[f"capsule.{number}.bias"], 0)
        total += x @ part["head.0.weight"].T + part["head.0.bias"]
    return total


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_geoclip_from_the_published_names(suffix: str, tmp_path: Path) -> None:
    state, path = geoclip_state(), tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:  # a release of the whole model
        save_file({**{f"location_encoder.{k}": v for k, v in state.items()}, "logit_scale": torch.ones(1)}, path)
    encoder = load(f"geoclip/file:{path}")
    expected = geoclip_by_hand(state)
    np.testing.assert_allclose(encoder.encode_places(LAT, LON, normalise=False), expected, rtol=0, atol=1e-11)
    network = encoder.network()
    assert (network.family, network.dimension, len(network.nets)) == ("geoclip", 512, 3)
    assert [layer.weights.shape for layer in network.nets[0]] == [
        shape for name, shape in GEOCLIP_SHAPES.items() if name.endswith((".b", "weight"))
    ]
    np.testing.assert_allclose(by_matrices(network, equal_earth(LAT, LON)), expected, rtol=0, atol=1e-5)
    assert encoder.info.preprocessing["network"] == network.definition


def test_files_that_are_not_geoclip(tmp_path: Path) -> None:
    path, state = tmp_path / "a.pth", geoclip_state()
    for key, value, words in (
        ("LocEnc2.head.0.weight", torch.zeros(512, 512), r"LocEnc2\.head\.0\.weight is \(512, 512\), it must be"),
        ("LocEnc0.capsule.0.b", None, r"LocEnc0\.capsule\.0\.b is missing"),
        ("LocEnc1.capsule.3.bias", torch.full((1024,), torch.inf), "not finite"),
        ("LocEnc3.head.0.bias", torch.zeros(512), r"holds LocEnc3\.head\.0\.bias besides"),
    ):
        torch.save({k: v for k, v in {**state, key: value}.items() if v is not None}, path)
        with pytest.raises(ModelError, match=words):
            registry.describe(f"geoclip/file:{path}")
    torch.save([1, 2], path)
    with pytest.raises(ModelError, match="holds a list, not tensors by name"):
        registry.describe(f"geoclip/file:{path}")
    with pytest.raises(WeightsError, match="is none of"):
        (tmp_path / "a.npz").write_bytes(b"")
        registry.describe(f"geoclip/file:{tmp_path / 'a.npz'}")


def test_fourier_matrices_are_drawn_at_their_scales() -> None:
    torch.manual_seed(0)
    drawn = [capsule.capsule[0].b.std().item() for capsule in geoclip.GeoClipLocation().children()]  # type: ignore[union-attr,index]
    np.testing.assert_allclose(drawn, [1, 16, 256], rtol=0.1)
