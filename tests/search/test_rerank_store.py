"""Where resident vectors lie: the index of ids, the forms, and rows that come and go."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rerank_space import awkward_vectors

from geosearch.errors import InputError
from geosearch.search.resident_form import GPU_WORK_BYTES, KEY_BYTES, Form, Free, choose_form, free_ram, measure_free
from geosearch.search.slot_index import SlotIndex
from geosearch.search.vector_store import Fetched, VectorStore

GB = 1 << 30


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_the_index_answers_as_a_dictionary(data):
    numbers = st.integers(-(2**63), 2**63 - 1) if data.draw(st.booleans()) else st.integers(0, 300)
    index, truth, next_slot = SlotIndex(), {}, 0
    for _ in range(data.draw(st.integers(1, 6))):
        new = np.array([n for n in data.draw(st.sets(numbers, max_size=30)) if n not in truth], np.int64)
        slots = np.arange(next_slot, next_slot + len(new))
        next_slot += len(new)
        index.put(new, slots)
        truth.update(zip(new.tolist(), slots.tolist(), strict=True))
        gone = data.draw(st.sets(st.sampled_from(sorted(truth)))) if truth else set()
        index.remove(np.array(sorted(gone), np.int64))
        asked = np.array([*truth, *data.draw(st.lists(numbers, max_size=10))], np.int64)
        truth = {number: slot for number, slot in truth.items() if number not in gone}
        assert index.find(asked).tolist() == [truth.get(number, -1) for number in asked.tolist()]
        assert index.ids().tolist() == sorted(truth)
        assert len(index) == len(truth)


def test_the_fastest_form_that_fits_is_chosen():
    rows, dimension = 1_000_000, 768
    half, keys = rows * dimension * 2, rows * KEY_BYTES

    def form(**free):
        free = {"ram": 100 * GB, "disk": 100 * GB, **free}
        chosen = choose_form(rows, dimension, Free(**free))
        return chosen.where, chosen.dtype, chosen.devices

    need = GPU_WORK_BYTES + 2 * half
    assert form(gpus={"cuda:0": 2 * need}) == ("gpu", "float32", ("cuda:0",))
    assert form(gpus={"cuda:0": 2 * GB, "cuda:1": 2 * need}) == ("gpu", "float32", ("cuda:1",))
    assert form(gpus={"cuda:0": GPU_WORK_BYTES + int(1.4 * half)}) == ("gpu", "float16", ("cuda:0",))
    three = {f"cuda:{i}": GPU_WORK_BYTES + int(0.7 * half) for i in range(3)}
    assert form(gpus=three) == ("gpu", "float16", ("cuda:0", "cuda:1", "cuda:2"))
    assert form(gpus={"cuda:0": GB}) == ("disk", "float16", ("cpu",))
    assert form() == ("ram", "float32", ("cpu",))
    assert form(ram=int(2.5 * half)) == ("ram", "float16", ("cpu",))
    assert form(ram=half) == ("disk", "float16", ("cpu",))
    assert form(ram=3 * keys) == ("disk", "float16", ("cpu",))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_form_takes_more_than_is_free_or_allowed(data):
    size = st.integers(0, 200 * GB)
    gpus = {f"cuda:{i}": data.draw(size) for i in range(data.draw(st.integers(0, 3)))}
    free = Free(data.draw(size), data.draw(size), gpus)
    memory = data.draw(st.none() | st.integers(1, 200 * GB))
    rows, dimension = data.draw(st.integers(0, 10**8)), data.draw(st.integers(1, 16000))
    device = data.draw(st.sampled_from(["auto", "cpu", "disk"]))
    try:
        form = choose_form(rows, dimension, free, data.draw(st.sampled_from(["auto", "float32", "float16"])),
                           device, memory)  # fmt: skip
    except InputError as error:
        assert "GB" in str(error) or "MB" in str(error)
        return
    assert form.key_bytes == rows * KEY_BYTES
    if form.where != "disk":
        wide = 4 if form.dtype == "float32" else 2
        assert form.vector_bytes == rows * dimension * wide
        assert form.vector_bytes + form.key_bytes <= form.limit_bytes
        assert memory is None or form.limit_bytes <= memory
    if form.where == "gpu":
        for name in form.devices:
            assert form.vector_bytes / len(form.devices) <= max(0, free.gpus[name] - GPU_WORK_BYTES)
    if form.where == "ram":
        assert form.limit_bytes <= 0.9 * free.ram
    if form.where == "disk":
        assert form.vector_bytes <= free.disk
        assert memory is None or form.key_bytes <= memory


def test_what_cannot_be_kept_is_refused_in_words():
    with pytest.raises(InputError, match=r"fit neither memory nor the disk.*name another folder"):
        choose_form(10**6, 768, Free(ram=GB, disk=GB))
    with pytest.raises(InputError, match=r"keys of 1000000 vectors take 40.0 MB of RAM, and 1.0 MB may be used"):
        choose_form(10**6, 768, Free(ram=GB, disk=10 * GB), memory_bytes=10**6)
    for wrong in ({"device": "cuda"}, {"device": "cuda:1"}, {"device": "tpu"}, {"dtype": "int8"}, {"memory_bytes": 0}):
        with pytest.raises(InputError):
            choose_form(10, 4, Free(GB, GB), **wrong)


def test_what_is_free_is_measured(tmp_path):
    free = measure_free(tmp_path / "not" / "there" / "yet")
    assert 0 < free.ram < 1 << 50
    assert 0 < free.disk < 1 << 60
    assert free_ram() > 0


FORMS = {
    "float32": Form("ram", "float32", ("cpu",), 0, 0, 10**9),
    "float16": Form("ram", "float16", ("cpu",), 0, 0, 10**9),
    "disk": Form("disk", "float16", ("cpu",), 0, 0, 10**9),
    "two shards": Form("ram", "float32", ("cpu", "cpu"), 0, 0, 10**9),  # as over two GPUs
}


def store_of(form, rows=100, dimension=12, folder=None):
    return VectorStore("toy", dimension, form, rows, folder)


def all_units(store, ids, versions):
    fetched = Fetched(store.dimension)
    with store.lock:
        located = store.locate(ids, versions, fetched)
        return store.units(located, fetched, torch.device("cpu")).clone().numpy()


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_bits(name, tmp_path):
    rng = np.random.default_rng(2)
    vectors = awkward_vectors(rng, 3000, 12)
    ids, versions = rng.permutation(9000)[:3000].astype(np.int64), np.arange(1, 3001)
    store, plain = store_of(FORMS[name], 3000, folder=tmp_path), store_of(FORMS["float32"], 3000)
    for part in np.array_split(np.arange(3000), 4):
        assert store.put(ids[part], versions[part], vectors[part]) == 0
    plain.put(ids, versions, vectors)
    wide = vectors.astype(np.float64)
    for chosen in (np.arange(3000), np.arange(700, 900), rng.permutation(3000)[:500]):
        order = chosen[np.argsort(store.slots(ids[chosen]))]
        found = all_units(store, ids[order], versions[order])
        np.testing.assert_array_equal(found, all_units(plain, ids[order], versions[order]))
        np.testing.assert_allclose(found, wide[order] / np.linalg.norm(wide[order], axis=1, keepdims=True), atol=2e-7)
    assert store.norm_error == pytest.approx(np.abs(np.linalg.norm(wide, axis=1) - 1).max(), rel=1e-5)
    assert not list(tmp_path.iterdir())  # a file that is open has no name, so nothing can be left behind


def test_rows_on_disk_leave_nothing_and_a_full_disk_is_told_beforehand(tmp_path, monkeypatch):
    import os

    def full(*_):
        raise OSError(28, "No space left on device")

    store_of(FORMS["disk"], folder=tmp_path / "new")
    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match="No space left"):
        store_of(FORMS["disk"], folder=tmp_path / "new")
    assert not list((tmp_path / "new").iterdir())


def test_the_limit_is_kept_and_what_finds_no_room_is_told():
    limit = 1000 * (12 * 2 + KEY_BYTES)
    store = store_of(Form("ram", "float16", ("cpu",), 0, 0, limit), rows=400)
    rng = np.random.default_rng(0)
    ids, vectors = np.arange(1500), awkward_vectors(rng, 1500, 12)
    assert store.put(ids, ids + 1, vectors) == 500
    assert len(store) == 1000
    assert store.memory_bytes <= limit
    with store.lock:
        store.drop(np.arange(300, 600))
    assert store.put(ids[1200:], ids[1200:] + 1, vectors[1200:]) == 0
    kept = np.concatenate([ids[:300], ids[600:1000], ids[1200:]])
    kept = kept[np.argsort(store.slots(kept))]
    np.testing.assert_array_equal(
        all_units(store, kept, kept + 1),
        all_units_of(vectors[kept]),
    )
    assert store.memory_bytes <= limit


def all_units_of(vectors):
    """The rows as one fresh store gives them."""
    store = store_of(FORMS["float32"], len(vectors), vectors.shape[1])
    ids = np.arange(len(vectors))
    store.put(ids, ids + 1, vectors)
    return all_units(store, ids, ids + 1)


def test_a_version_that_is_not_here_is_never_read():
    rng = np.random.default_rng(1)
    vectors, ids = awkward_vectors(rng, 10, 12), np.arange(10)
    store, nothing = store_of(FORMS["float32"]), Fetched(12)
    store.put(ids, np.full(10, 7), vectors)
    with store.lock:
        assert store.locate(ids, np.full(10, 7), nothing) is not None
        for wanted in (6, 8):
            assert store.locate(ids, np.full(10, wanted), nothing) is None
    assert store.stale(ids, np.array([7] * 9 + [8])).tolist() == [9]

    fetched = Fetched(12)
    fetched.add(ids[8:], ids[8:9], np.array([5]), vectors[:1])  # 8 as of an older snapshot, 9 gone
    store.put(ids[8:9], np.array([5]), vectors[:1])
    with store.lock:
        assert store.locate(ids[:8], np.full(8, 7), fetched).slots.min() >= 0
        located = store.locate(ids[8:], np.array([5, 8]), fetched)
        assert located.versions.tolist() == [5, 0]
        assert located.slots.tolist() == [-1, -1]  # the newer row stays for others, the older is read from the side
        assert store.units(located, fetched, torch.device("cpu"))[0].numpy() == pytest.approx(
            all_units_of(vectors[:1])[0]
        )
    assert store.stale(ids[8:9], np.array([7])).tolist() == []
