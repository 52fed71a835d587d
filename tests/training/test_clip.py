"""A training run of seconds: it learns, it goes on where it stopped, and its folder loads."""

import json
from itertools import pairwise

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402

from geosearch.item import Item  # noqa: E402
from geosearch.training import clip  # noqa: E402
from geosearch.training.clip import Options  # noqa: E402


@pytest.fixture
def small(monkeypatch):
    """A model of a few thousand weights on views of 32 pixels."""
    config = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32},
        "text_cfg": {**clip.MODEL_CONFIG["text_cfg"], "width": 32, "heads": 2, "layers": 1},
    }
    monkeypatch.setattr(clip, "MODEL_CONFIG", config)


def losses(folder):
    return [json.loads(line) for line in (folder / "run" / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_run_learns_resumes_and_loads(small, tmp_path):
    clip.train(tmp_path, Options(steps=50, batch=24, warmup=5), every=50)
    before = load_file(tmp_path / "model.safetensors")
    clip.train(tmp_path, Options(steps=100, batch=24, warmup=5), every=50)
    log = losses(tmp_path)
    assert [r["step"] for r in log] == [50, 100]
    assert log[1]["pairs"] < log[0]["pairs"] < 3.18, "below log(24), the loss of a guess, and falling"
    after = load_file(tmp_path / "model.safetensors")
    assert any(not torch.equal(before[k], after[k]) for k in before)
    clip.train(tmp_path, Options(steps=100, batch=24, warmup=5), every=50)
    assert len(losses(tmp_path)) == 2, "a finished run does nothing"

    from geosearch.encoders.registry import load

    encoder = load(f"open_clip:local-dir:{tmp_path}", "cpu")
    assert encoder.info.dimension == 32
    vectors = encoder.encode([Item(text="a desert"), Item(text="snow and ice")])
    assert vectors.shape == (2, 32)


def test_the_learning_rate_rises_stays_and_falls_to_nothing():
    options = Options(steps=1000, warmup=100, decay=0.2, learning_rate=1.0)
    rates = [options.rate(s) for s in range(1001)]
    assert rates[0] == 0.01
    assert rates[99] == rates[500] == rates[800] == 1.0
    assert all(a >= b for a, b in pairwise(rates[800:]))
    assert rates[1000] == 0.0


def test_the_end_token_has_the_highest_id(tmp_path):
    tokens = clip.write_tokenizer(tmp_path)(["snow-covered mountains", ""])
    assert tokens.shape == (2, clip.CONTEXT)
    assert int(tokens.max()) == clip.MODEL_CONFIG["text_cfg"]["vocab_size"] - 1
    assert (tokens.argmax(1) == torch.tensor([int((tokens[0] > 0).sum()) - 1, 1])).all()
