"""OpenCLIP models: our vectors are open_clip's own, whatever the batch, and what cannot be loaded says why."""

from __future__ import annotations

import json
import os
import pickle
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_model import VOCABULARY, config, write_merges, write_model

from geosearch.encoders import names, registry, weights
from geosearch.encoders.base import Encoder
from geosearch.encoders.file_options import NORMS
from geosearch.encoders.openclip import OpenClipEncoder
from geosearch.errors import InputError, ModelError, UnknownNameError, WeightsError
from geosearch.item import Item, Place

TEXTS = ["a desert", "snow-covered mountains, seen from space", "ISS050-E-70536", "Ünïcode & <html>"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def encoder(model: str) -> Encoder:
    return registry.load(model, "cpu")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """A network this small is faster on one core, above all where others want the cores too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever reaches for a network fails loudly; caches of this machine are out of sight."""

    def refuse(*arguments: object) -> None:
        raise AssertionError(f"reached for the network: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("GEOSEARCH_HOME", str(tmp_path / "home"))


def smooth(seed: int, size: tuple[int, int] = (50, 70)) -> Image.Image:
    """A picture with large patches of colour, as photographs have; noise alone would all look the same."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    return Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC)


def directly(folder: Path, pictures: list[Image.Image]) -> np.ndarray:
    """What open_clip itself makes of pictures."""
    net, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    net.eval()
    with torch.no_grad():
        out = net.encode_image(torch.stack([transform(p) for p in pictures]), normalize=True)
    return out.numpy()


def folder_of(model: str) -> Path:
    return Path(model.removeprefix("open_clip:local-dir:"))


def test_images_as_open_clip_makes_them(model: str, encoder: Encoder) -> None:
    pictures = [smooth(i, size) for i, size in enumerate([(50, 70), (70, 50), (32, 32), (9, 400), (300, 301)])]
    ours = encoder.encode([Item(image=p) for p in pictures])
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, directly(folder_of(model), pictures), atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-6)
    assert np.abs(ours[0] - ours[1]).max() > 1e-2  # the model does tell pictures apart


def test_real_photographs_as_open_clip_makes_them(model: str, encoder: Encoder, shared_data: Path) -> None:
    paths = sorted((shared_data / "iss_photos").glob("*.jpg"))
    assert len(paths) == 8
    ours = encoder.encode([Item(image=p) for p in paths], batch_size=3)
    pictures = [Image.open(p).convert("RGB") for p in paths]
    np.testing.assert_allclose(ours, directly(folder_of(model), pictures), atol=2e-6)


def test_a_strip_does_not_fill_the_memory(encoder: Encoder, model: str) -> None:
    """A picture of 1 × 400 000 pixels, resized whole, would be 32 × 12 800 000."""
    strip = Image.fromarray(np.full((1, 400_000, 3), 90, np.uint8))
    grey = Image.fromarray(np.full((32, 32, 3), 90, np.uint8))
    ours = encoder.encode([Item(image=strip), Item(image=strip.transpose(Image.Transpose.ROTATE_90)), Item(image=grey)])
    np.testing.assert_allclose(ours[0], ours[2], atol=2e-6)
    np.testing.assert_allclose(ours[1], ours[2], atol=2e-6)
    # What is cut off beforehand is what the square in the middle leaves out anyway.
    long = smooth(4, (4, 900))
    ours = encoder.encode([Item(image=long)])
    np.testing.assert_allclose(ours, directly(folder_of(model), [long]), atol=0.02)


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_every_way_of_resizing(tmp_path: Path, resize_mode: str, interpolation: str) -> None:
    name = write_model(tmp_path / "m")
    path = tmp_path / "m" / "open_clip_config.json"
    facts = json.loads(path.read_text())
    facts["preprocess_cfg"] |= {"resize_mode": resize_mode, "interpolation": interpolation, "fill_color": 90}
    path.write_text(json.dumps(facts))
    pictures = [smooth(1, (40, 90)), smooth(2, (90, 40))]
    ours = registry.load(name, "cpu").encode([Item(image=p) for p in pictures])
    np.testing.assert_allclose(ours, directly(tmp_path / "m", pictures), atol=2e-6)


def test_texts_as_open_clip_makes_them(model: str, encoder: Encoder) -> None:
    folder = folder_of(model)
    net = open_clip.create_model(f"local-dir:{folder}").eval()
    tokenize = open_clip.SimpleTokenizer(bpe_path=str(folder / "merges.txt.gz"), context_length=16)
    with torch.no_grad():
        direct = net.encode_text(tokenize(TEXTS), normalize=True).numpy()
    np.testing.assert_allclose(encoder.encode([Item(text=t) for t in TEXTS]), direct, atol=2e-6)


def test_batch_of_one_equals_batch_of_many_in_any_order_and_mix(encoder: Encoder) -> None:
    items = [Item(image=smooth(i)) if i % 3 else Item(text=f"text {i}") for i in range(17)]
    together = encoder.encode(items, batch_size=17)
    alone = np.concatenate([encoder.encode([item]) for item in items])
    np.testing.assert_allclose(together, alone, atol=2e-6)
    np.testing.assert_allclose(encoder.encode(items, batch_size=5), together, atol=2e-6)
    np.testing.assert_allclose(encoder.encode(items[::-1]), together[::-1], atol=2e-6)
    assert np.array_equal(encoder.encode(items), encoder.encode(items))  # deterministic to the last bit
    assert encoder.encode([]).shape == (0, 24)


def test_prepare_may_run_in_many_threads(encoder: Encoder) -> None:
    items = [Item(image=smooth(i)) if i % 2 else Item(text=f"text {i}") for i in range(40)]
    with ThreadPoolExecutor(8) as pool:
        prepared = list(pool.map(encoder.prepare, items))
    np.testing.assert_array_equal(encoder.encode_prepared(prepared), encoder.encode(items))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_gpu_gives_the_same_vectors(model: str, encoder: Encoder) -> None:
    items = [Item(image=smooth(i)) for i in range(20)] + [Item(text=t) for t in TEXTS]
    on_gpu = registry.load(model, "cuda").encode(items)
    assert (on_gpu * encoder.encode(items)).sum(axis=1).min() > 0.999


def test_a_batch_that_does_not_fit_is_halved(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small = OpenClipEncoder(registry.load(model, "cpu").plan, "cpu")  # type: ignore[attr-defined]
    whole = small.encode([Item(image=smooth(i)) for i in range(7)])
    encode = small._model.encode_image
    sizes = []

    def limited(batch: torch.Tensor) -> torch.Tensor:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("no room")
        return encode(batch)

    monkeypatch.setattr(small._model, "encode_image", limited)
    np.testing.assert_allclose(small.encode([Item(image=smooth(i)) for i in range(7)]), whole, atol=2e-6)
    assert max(sizes) == 7


def test_items_it_cannot_read(encoder: Encoder) -> None:
    with pytest.raises(ModelError, match="does not read place"):
        encoder.prepare(Item(image=smooth(0), place=Place(1, 2)))
    with pytest.raises(ModelError, match="not both"):
        encoder.prepare(Item(image=smooth(0), text="x"))
    with pytest.raises(InputError, match="empty"):
        encoder.prepare(Item(text="  "))


def test_a_network_that_gives_no_numbers_is_an_error(tmp_path: Path) -> None:
    name = write_model(tmp_path / "m")
    state = load_file(tmp_path / "m" / "model.safetensors")
    state["visual.proj"] = torch.full_like(state["visual.proj"], float("nan"))
    save_file(state, tmp_path / "m" / "model.safetensors")
    with pytest.raises(ModelError, match="non-finite"):
        registry.load(name, "cpu").encode([Item(image=smooth(0))])


# --- identity


def test_identity_says_all_that_shapes_a_vector(model: str, encoder: Encoder, tmp_path: Path) -> None:
    info = encoder.info
    assert registry.describe(model) == info
    assert info.weights_sha256 == weights.sha256(folder_of(model) / "model.safetensors")
    assert (info.dimension, info.metric, info.reads) == (24, "cosine", frozenset({"image", "text"}))
    assert json.loads(json.dumps(info.preprocessing)) == info.preprocessing  # survives a database
    others = []
    for key, value in (("mean", [0.1, 0.2, 0.3]), ("interpolation", "bilinear"), ("resize_mode", "squash")):
        other = write_model(tmp_path / key)
        path = tmp_path / key / "open_clip_config.json"
        facts = json.loads(path.read_text())
        facts["preprocess_cfg"][key] = value
        path.write_text(json.dumps(facts))
        others.append(registry.describe(other))
    activation = write_model(tmp_path / "gelu")
    path = tmp_path / "gelu" / "open_clip_config.json"
    facts = json.loads(path.read_text())
    facts["model_cfg"]["quick_gelu"] = True
    path.write_text(json.dumps(facts))
    others.append(registry.describe(activation))
    others.append(registry.describe(write_model(tmp_path / "seed", seed=9)))
    for other_info in others:
        assert not info.same_as(other_info.weights_sha256, other_info.preprocessing)
    assert info.same_as(info.weights_sha256, info.preprocessing)
    assert info.same_as(None, None)


def test_a_recorded_identity_is_insisted_upon(model: str, encoder: Encoder) -> None:
    assert registry.load(model, "cpu", weights_sha256=encoder.info.weights_sha256) is encoder
    with pytest.raises(ModelError, match="cannot be compared"):
        registry.load(model, "cpu", weights_sha256="0" * 64)
    with pytest.raises(ModelError, match="another preprocessing"):
        registry.load(model, "cpu", preprocessing={})
    pinned = f"{model}@{encoder.info.weights_sha256[:12]}"
    assert registry.describe(pinned).name == pinned
    with pytest.raises(WeightsError, match="not 00000000"):
        registry.describe(f"{model}@00000000")


# --- weights in other places


@pytest.fixture(scope="module")
def _tiny_arch(tmp_path_factory: pytest.TempPathFactory) -> None:
    """An architecture that open_clip knows by name, small enough to be built in a moment."""
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    path = tmp_path_factory.mktemp("arch") / "tiny-arch.json"
    path.write_text(json.dumps(config(size=64)["model_cfg"] | {"text_cfg": text}))
    open_clip.add_model_config(path)


@pytest.mark.usefixtures("_tiny_arch")
def test_a_weights_file_must_state_its_normalisation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file of random weights, its normalisation stated one way or another."""
    torch.manual_seed(0)
    net = open_clip.create_model("tiny-arch").eval()
    path = tmp_path / "weights.pt"
    torch.save({"state_dict": {f"module.{k}": v for k, v in net.state_dict().items()}}, path)
    with pytest.raises(ModelError, match="OpenAI's silently"):
        registry.describe(f"open_clip:tiny-arch/file:{path}")
    half = registry.load(f"open_clip:tiny-arch/file:{path}?mean=0.5,0.5,0.5&std=0.5,0.5,0.5", "cpu")
    openai = registry.load(f"open_clip:tiny-arch/file:{path}?norm=openai", "cpu")
    assert half.info.preprocessing["mean"] == [0.5, 0.5, 0.5]
    assert half.info.weights_sha256 == openai.info.weights_sha256 == weights.sha256(path)
    picture = smooth(3, (240, 260))
    _, _, transform = open_clip.create_model_and_transforms("tiny-arch", load_weights=False)  # OpenAI's
    with torch.no_grad():
        direct = net.encode_image(transform(picture)[None], normalize=True).numpy()
    np.testing.assert_allclose(openai.encode([Item(image=picture)]), direct, atol=5e-6)
    assert np.abs(half.encode([Item(image=picture)]) - direct).max() > 1e-3
    assert openai.encode([Item(text="a lake")]).shape == (1, 24)
    # RemoteCLIP's own file name in the weights folder is found; it is of another architecture here.
    home = tmp_path / "home" / "weights"
    home.mkdir(parents=True)
    (home / "RemoteCLIP-RN50.pt").write_bytes(path.read_bytes())
    monkeypatch.setenv("GEOSEARCH_HOME", str(tmp_path / "home"))
    assert registry.describe("remoteclip:RN50").preprocessing["mean"] == NORMS["openai"][0]
    with pytest.raises(ModelError, match="those of one model"):
        registry.load("remoteclip:RN50", "cpu")
    assert {e.name: e.available for e in registry.list_models()}["remoteclip:RN50"] is True


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (os.mkdir, (str(self.path),))


@pytest.mark.usefixtures("_tiny_arch")
def test_weights_that_run_code_are_refused(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    path = tmp_path / "evil.pt"
    torch.save({"state_dict": Evil(marker)}, path)
    with pytest.raises(ModelError, match="cannot be built"):
        registry.load(f"open_clip:tiny-arch/file:{path}?norm=openai", "cpu")
    path = tmp_path / "evil.bin"
    path.write_bytes(pickle.dumps(Evil(marker)))
    with pytest.raises(ModelError, match="cannot be built"):
        registry.load(f"open_clip:tiny-arch/file:{path}?norm=openai", "cpu")
    path = tmp_path / "evil.npz"
    path.write_bytes(b"PK")
    with pytest.raises(WeightsError, match="safetensors"):
        registry.load(f"open_clip:tiny-arch/file:{path}?norm=openai", "cpu")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("open_clip:ViT-B-32/laion2b_s34b_b79k", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"),
        ("open_clip:RN50/cc12m", "GEOSEARCH_ALLOW_DOWNLOADS=1"),
        ("remoteclip:ViT-L-14", "RemoteCLIP-ViT-L-14.pt"),
        ("open_clip:local-dir:/nonexistent", "no /nonexistent/open_clip_config.json"),
        ("open_clip:ViT-B-32/file:/nonexistent.pt?norm=openai", "no file /nonexistent.pt"),
    ],
)
def test_missing_weights_say_how_to_get_them(
    name: str, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=words.replace("?", r"\?")):
        registry.load(name, "cpu")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "mini-clip"),
        ("nonsense", "open_clip:ARCHITECTURE/TAG"),
        ("open_clip:ViT-B-23/openai", "open_clip:ViT-B-32"),
        ("open_clip:ViT-B-32/laion2b_s34b", "open_clip:ViT-B-32/laion2b_s34b_b79k"),
        ("open_clip:ViT-B-32", "open_clip:ARCHITECTURE/TAG"),
        ("remoteclip:ViT-B-16", "remoteclip:ViT-L-14"),
        ("open_clip:local-dir:", "local-dir:PATH"),
    ],
)
def test_unknown_names_list_those_that_exist(name: str, words: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        registry.describe(name)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "options",
    ["norm=other", "mean=0.5,0.5,0.5", "mean=1,2&std=1,1,1", "mean=a,b,c&std=1,1,1", "std=0,1,1&mean=0,0,0", "x=1"],
)
def test_wrong_options_of_a_file(options: str) -> None:
    with pytest.raises(ModelError):
        names.parse(f"open_clip:ViT-B-32/file:/w.pt?{options}")


def test_names_keep_their_meaning() -> None:
    spec = names.parse("open_clip:ViT-B-32/file:/a/w?x.pt?norm=imagenet&quick_gelu=true@0123456789ab")
    assert spec.file == Path("/a/w?x.pt")
    assert spec.options == {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "quick_gelu": True}
    assert spec.pinned == "0123456789ab"
    assert names.parse(spec.name) == spec
    assert names.parse("mini-clip").folder is not None


def test_devices() -> None:
    assert registry.pick_device("cpu") == "cpu"
    for wrong in ("nonsense", "cuda:99"):
        with pytest.raises(ModelError, match="device"):
            registry.pick_device(wrong)


# --- model folders


def test_folders_that_do_not_fit(tmp_path: Path) -> None:
    def broken(name: str, change: object) -> str:
        model = write_model(tmp_path / name)
        path = tmp_path / name / "open_clip_config.json"
        facts = json.loads(path.read_text())
        change(facts)  # type: ignore[operator]
        path.write_text(json.dumps(facts))
        return model

    def error(model: str, item: Item | None = None) -> str:
        with pytest.raises(ModelError) as caught:
            registry.load(model, "cpu").encode([item or Item(image=smooth(0))])
        return str(caught.value)

    assert "must state mean and std" in error(broken("a", lambda c: c.pop("preprocess_cfg")))
    assert "no open_clip configuration" in error(broken("b", lambda c: c.pop("model_cfg")))
    assert "the network takes" in error(broken("c", lambda c: c["preprocess_cfg"].update(size=[64, 64])))
    assert "those of one model" in error(broken("d", lambda c: c["model_cfg"].update(embed_dim=12)))
    text = Item(text="a")
    assert "not the model's" in error(broken("e", lambda c: c["geosearch_tokenizer"].update(context_length=9)), text)
    model = write_model(tmp_path / "f")
    write_merges(tmp_path / "f" / "merges.txt.gz", 500)
    assert "mixes two models" in error(model, text)
    (tmp_path / "f" / "merges.txt.gz").write_bytes(b"no gzip")
    assert "cannot be read as gzip" in error(model, text)
    (tmp_path / "f" / "merges.txt.gz").unlink()
    assert "not in the folder" in error(model, text)
    write_model(tmp_path / "f")
    (tmp_path / "f" / "other.pt").write_bytes(b"")
    assert "2 weights files" in error(model)
    (tmp_path / "f" / "other.pt").unlink()
    (tmp_path / "f" / "model.safetensors").write_bytes(b"broken")
    assert "cannot be built" in error(model)


def test_tokenizer_of_a_folder(encoder: OpenClipEncoder, model: str) -> None:
    """Ids lie in the vocabulary, begin and end with the two special tokens, and spell the text again."""
    start, end = VOCABULARY - 2, VOCABULARY - 1
    for text in [*TEXTS, "x" * 500, "数 字 12345", "😀 🌍"]:
        ids = encoder.prepare(Item(text=text)).tensor.tolist()
        assert len(ids) == 16
        assert ids[0] == start
        last = ids.index(end)
        assert not any(ids[last + 1 :])
        assert max(ids) == end  # the highest id ends the text: CLIP's tower looks for it there
        tokenizer = encoder._tokenizer
        spelled = tokenizer.decode(ids[1:last]).strip()
        cleaned = tokenizer.clean_fn(text)
        if last < 15:
            assert spelled.replace(" ", "") == cleaned.replace(" ", "")
        else:  # cut off at the context's end
            assert cleaned.replace(" ", "").startswith(spelled.replace(" ", "").rstrip("\ufffd"))


def test_mini_clip_is_here_and_loads() -> None:
    """Properties only: its weights are trained anew from time to time."""
    folder = names.parse("mini-clip").folder
    assert folder is not None
    mini = registry.load("mini-clip", "cpu")
    assert mini.info.reads == frozenset({"image", "text"})
    items = [Item(image=smooth(1)), Item(text="a desert in Africa"), Item(image=smooth(1))]
    vectors = mini.encode(items)
    assert vectors.shape == (3, mini.info.dimension)
    np.testing.assert_allclose(vectors[0], vectors[2], atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert sum(f.stat().st_size for f in folder.iterdir()) < 20 * 2**20
