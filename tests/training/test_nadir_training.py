"""Training of nadir-aware models: a run of seconds overfits, goes on where it stopped, and is shared by processes."""

import os
import socket
import subprocess
import sys
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from nadir_tiny import MEAN, STD, TINY, gradients, ground, tiny_model  # noqa: E402

from geosearch.errors import InputError  # noqa: E402
from geosearch.geometry import unit_vectors  # noqa: E402
from geosearch.training import nadir  # noqa: E402
from geosearch.training.contrast import info_nce  # noqa: E402
from geosearch.training.nadir import learn  # noqa: E402
from geosearch.training.nadir_batches import SIMULATED, Plan, plan, right_and_wrong  # noqa: E402
from geosearch.training.nadir_options import Options  # noqa: E402
from geosearch.training.nadir_plot import plot_log  # noqa: E402
from geosearch.training.nadir_ranks import Ranks, ranks  # noqa: E402

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("loss", ["contrast", "similarity"])
def test_a_run_of_seconds_overfits_a_handful_of_images(loss):
    tiles, photos = ground()
    log = []
    options = replace(TINY, steps=90, batch=16, hard=0.0, unknown=0.3, image_loss=loss, average=0.9)
    net = learn(tiny_model(dropout=0.1), tiles, MEAN, STD, options, report=log.append, photos=photos)
    assert log[-1]["loss"] < 0.7 * log[0]["loss"]
    nowhere = torch.full((16,), torch.nan)
    net.eval()
    with torch.inference_mode():
        pixels = [
            torch.from_numpy((p / 255 - 0.5) / 0.25).float().permute(0, 3, 1, 2) for p in (tiles.pixels, photos.pixels)
        ]
        there = net(pixels[0], *map(torch.from_numpy, tiles.place))
        asked = net(pixels[1], *map(torch.from_numpy, photos.nadir))
        blind = net(pixels[1], nowhere, nowhere)
    for query, database in ((asked.both, there.both), (asked.image, there.image), (blind.both, there.both)):
        assert torch.equal((query @ database.T).argmax(1), torch.arange(16))


@pytest.mark.parametrize("precision", ["off", "bf16", "fp16"])
def test_a_run_that_goes_on_is_bit_for_bit_the_one_that_never_stopped(precision):
    tiles, photos = ground()
    options = replace(TINY, steps=30, precision=precision, unknown=0.2)
    kept, whole_log, rest_log = {}, [], []
    model = lambda: tiny_model(dropout=0.2)  # noqa: E731
    keep = lambda state, _net: kept.setdefault(state["step"], deepcopy(state))  # noqa: E731
    whole = learn(model(), tiles, MEAN, STD, options, every=12, report=whole_log.append, keep=keep, photos=photos)
    assert sorted(kept) == [12, 24, 30], "with clusters made at 10 and at 20"
    other = tiny_model(dropout=0.2, seed=9)
    went_on = learn(other, tiles, MEAN, STD, options, "cpu", 12, kept[12], rest_log.append, photos=photos)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, went_on.state_dict()[name]), name
    timeless = [[{k: v for k, v in r.items() if k != "seconds"} for r in log] for log in (whole_log, rest_log)]
    assert [r["step"] for r in whole_log] == [12, 24, 25, 30]
    assert timeless[0][1:] == timeless[1]


def test_a_checkpoint_of_other_options_is_refused_by_name():
    tiles, photos = ground()
    kept = {}
    options = replace(TINY, steps=2)
    learn(tiny_model(), tiles, MEAN, STD, options, keep=lambda s, _: kept.update(deepcopy(s)), photos=photos)
    for other, said in (({"batch": 6}, "batch 8, not 6"), ({"trainable": 1}, "trainable None, not 1"),
                        ({"precision": "bf16"}, "precision off, not bf16")):  # fmt: skip
        with pytest.raises(InputError, match=f"of a run with {said}"):
            learn(tiny_model(), tiles, MEAN, STD, replace(options, **other), resume=kept, photos=photos)
    del kept["options"]["precision"]  # of an earlier release, which had no choice
    log = []
    longer = replace(options, steps=4)
    learn(tiny_model(), tiles, MEAN, STD, longer, resume=kept, report=log.append, photos=photos)
    assert [r["step"] for r in log] == [4], "a run may be prolonged"


def test_options_that_make_no_run_are_refused():
    wrongs = {
        "precision": "fp8",
        "image_loss": "none",
        "unknown": 1.5,
        "batch": 0,
        "temperature": 0.0,
        "tower_rate": -1.0,
        "seed": -3,
        "base": 1.25,
    }
    for name, value in wrongs.items():
        with pytest.raises(InputError, match=str(value)):
            Options(**{name: value})
    assert Options(**asdict(Options())) == Options()


def test_the_learning_rate_warms_up_stays_and_falls_to_nothing():
    options = replace(Options(), steps=1000, learning_rate=1.0, warmup=10, decay=0.2)
    assert [options.rate(0), options.rate(9), options.rate(800)] == [0.1, 1.0, 1.0]
    assert options.rate(850) == pytest.approx(0.5), "1 − √(1/4) of the fall is done"
    assert options.rate(999) < 0.01


def test_neutral_pairs_count_neither_way_in_info_nce():
    torch.manual_seed(0)
    a, b = (torch.nn.functional.normalize(torch.randn(4, 8), dim=1) for _ in range(2))
    wrong = ~torch.eye(4, dtype=torch.bool)
    assert info_nce(a, b, torch.tensor(10.0), wrong) == info_nce(a, b, torch.tensor(10.0))
    wrong[0, 1] = False
    logits = 10 * a @ b.T
    left = torch.tensor([0, 2, 3])
    first = torch.logsumexp(logits[0, left], 0) - logits[0, 0]
    column = torch.logsumexp(logits[[1, 2, 3], 1], 0) - logits[1, 1]
    rest = [torch.logsumexp(logits[i], 0) - logits[i, i] for i in (1, 2, 3)]
    columns = [torch.logsumexp(logits[:, i], 0) - logits[i, i] for i in (0, 2, 3)]
    expected = (torch.stack([first, *rest]).mean() + torch.stack([column, *columns]).mean()) / 2
    torch.testing.assert_close(info_nce(a, b, torch.tensor(10.0), wrong), expected)


def test_the_image_loss_leaves_out_what_a_photograph_shows_beside_its_tile(monkeypatch):
    tiles, photos = ground()
    seen = []
    monkeypatch.setattr(nadir, "info_nce", lambda *a: seen.append(a) or info_nce(*a))
    learn(tiny_model(), tiles, MEAN, STD, replace(TINY, steps=1), photos=photos)
    batch = plan(tiles, photos, np.zeros(16, int), TINY, 0)
    shows = photos.shows(batch.photo, batch.tile)
    assert shows.sum() > len(shows), "some show the tile of another pair"
    np.testing.assert_array_equal(seen[0][3].numpy(), ~shows, err_msg="rows are photographs, columns tiles")


def test_caps_that_meet_are_neither_right_nor_wrong():
    places = unit_vectors(np.zeros(6), np.array([0.0, 10, 40, 0, 14, 39]))  # three tiles, then photographs of them
    reach = np.radians([2.0, 2, 2, 9, 3, 3])
    batch = Plan(np.arange(3), np.full(3, SIMULATED), np.zeros(3, bool))
    right, wrong = right_and_wrong(batch, places, reach, None)
    assert np.argwhere(right & ~np.eye(6, dtype=bool)).tolist() == [[0, 3], [1, 4], [2, 5], [3, 0], [4, 1], [5, 2]]
    # The first photograph's 9° and the second tile's 2° meet over 10°; with the second photograph's 3° not over 14°.
    expected = ~np.eye(6, dtype=bool) & ~right
    expected[3, 1] = expected[1, 3] = False
    np.testing.assert_array_equal(wrong, expected)


def test_two_processes_train_what_one_does_with_the_whole_batch(tmp_path):
    tiles, photos = ground()
    log = []
    alone = learn(tiny_model(), tiles, MEAN, STD, replace(TINY, steps=14), every=1, report=log.append, photos=photos)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    env = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1",
           "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent.parent)])}  # fmt: skip
    child = [sys.executable, str(HERE / "nadir_rank_child.py"), str(tmp_path)]
    children = [
        subprocess.Popen(child, env={**env, "RANK": str(rank), "LOCAL_RANK": str(rank)}, stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    for one in children:
        _, said = one.communicate(timeout=120)
        assert one.returncode == 0, said.decode()
    first, second = (np.load(tmp_path / f"{rank}.npz") for rank in range(2))
    assert len(second["log.loss"]) == 0, "the first process alone reports"
    assert list(first["log.step"]) == [r["step"] for r in log]
    for name, value in gradients(Ranks()).items():
        np.testing.assert_allclose(first[f"grad.{name}"], value, atol=1e-6 + 1e-5 * np.abs(value).max(), err_msg=name)
    # The sums are the same in another order: the last digits of float32 differ, and grow from step to step.
    np.testing.assert_allclose(first["log.loss"][:3], [r["loss"] for r in log[:3]], rtol=1e-4)
    np.testing.assert_allclose(first["log.loss"], [r["loss"] for r in log], rtol=2e-2)
    for name, value in alone.state_dict().items():
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
        np.testing.assert_allclose(first[name], value.numpy(), atol=5e-3, err_msg=name)


def test_one_process_needs_no_others(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with ranks("cpu") as (here, device):
        assert (here, device) == (Ranks(0, 1), "cpu")
    rows = torch.arange(6.0, requires_grad=True)
    assert here.halves(rows) is rows
    assert here.stack(rows).shape == (1, 6)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="cannot share cuda:1"), ranks("cuda:1"):
        pass


def test_the_plot_is_a_picture_of_the_log(tmp_path):
    pytest.importorskip("matplotlib")
    from PIL import Image

    log = tmp_path / "log.jsonl"
    with pytest.raises(InputError, match="no line yet"):
        plot_log(log, tmp_path / "loss.png")
    line = '{{"step": {0}, "loss": 2, "both": 1, "image": 1, "right": 0.5, "image right": 0.4}}\n'
    log.write_text("".join(line.format(step) for step in (25, 50, 75)))
    plot_log(log, tmp_path / "deep" / "loss.png")
    with Image.open(tmp_path / "deep" / "loss.png") as picture:
        assert picture.size == (960, 720)
    with pytest.raises(InputError, match=r"ends in \.png"):
        plot_log(log, tmp_path / "loss.pdf")
