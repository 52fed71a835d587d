"""Times the re-ranker: each way of scoring gathered rows, each form of keeping them, the database, and a GPU.

    python benchmarks/rerank.py [--rows 161496] [--dimension 768] [--candidates 15000] [--repeats 15] [--url URL]

Ways take turns within a run, so that whatever else the machine does meets all alike; read the ratios. Without --url
the database part is left out; with it, an archive and a space `rerank_benchmark` are made there and removed again.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded, as the command line does

import faiss
import numpy as np
import torch

from geosearch.search.candidates import Candidates
from geosearch.search.faiss_flat import gpu_count, knn
from geosearch.search.rerank import Reranker
from geosearch.search.resident_form import KEY_BYTES, Form, choose_form, measure_free
from geosearch.search.vector_store import VectorStore

BATCHES = (1, 8, 64)
OURS = "re-ranker"


class Still(VectorStore):
    """Vectors that follow no database."""

    def follow(self, conn: Any) -> None:
        """Nothing to check."""


class NoConnection:
    """Stands where a connection would; nothing is asked of it while all rows are resident."""


def filled(form: Form, rows: int, dimension: int, folder: Path) -> Still:
    """Return a store of random unit vectors; image ids from 1, versions the same."""
    store, rng = Still("benchmark", dimension, form, rows, folder), np.random.default_rng(1)
    for at in range(0, rows, 4096):
        ids = np.arange(at + 1, min(at + 4096, rows) + 1)
        vectors = rng.standard_normal((len(ids), dimension), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        store.put(ids, ids, vectors.astype(np.float16))
    return store


def in_turn(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, np.ndarray]:
    """Return seconds (repeats, 2) of each way, by the clock and of the processor.

    A first round is not counted, and each has an order of its own.
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    rng = np.random.default_rng(0)
    for count in range(repeats + 1):
        # What one way leaves in the caches and to the allocator meets now this one and now that.
        for name in rng.permutation(list(ways)).tolist():
            began, busy = time.perf_counter(), time.process_time()
            ways[name]()
            if count:
                taken[name].append((time.perf_counter() - began, time.process_time() - busy))
    return {name: np.array(times) for name, times in taken.items()}


def on_cpu(rows: int, dimension: int, count: int, repeats: int) -> None:
    """Print milliseconds of every way, over candidates anywhere and in runs, as the order of cells gives them."""
    rng = np.random.default_rng(2)
    store = filled(Form("ram", "float32", ("cpu",), 0, 0, 1 << 62), rows, dimension, Path())
    every = np.arange(1, rows + 1)
    with store.lock:
        units = store.units(store.locate(every, every, None), None, torch.device("cpu"))  # type: ignore[arg-type]
    run = 150
    starts = rng.choice(rows // run, count // run, replace=False) * run
    lying = {
        "anywhere": np.sort(rng.choice(rows, count, replace=False)),
        f"in runs of {run}": np.sort((starts[:, None] + np.arange(run)).ravel()),
    }
    print(
        f"\n{count} of {rows} × {dimension}, float32, best 10; milliseconds by the clock, least and\n"
        "median; of the processor, median; the last as a multiple of the re-ranker's own\n"
    )
    names = [OURS, "by torch", "by FAISS", "products alone", "all gathered, torch", "all gathered, faiss.knn"]
    print(f"| candidates | queries | {' | '.join(names)} |\n|---|---{'|---' * len(names)}|")
    for where, chosen in lying.items():
        places = torch.from_numpy(chosen)
        for batch in BATCHES:
            queries = torch.from_numpy(rng.standard_normal((batch, dimension), dtype=np.float32))
            ways = dict(zip(names, _ways(store, units, places, queries), strict=True))
            times = in_turn(ways, repeats)
            ours = np.median(times[OURS][:, 1])
            cells = [
                f"{t[:, 0].min() * 1e3:.1f}, {np.median(t[:, 0]) * 1e3:.1f}; {np.median(t[:, 1]) * 1e3:.1f}, "
                f"{np.median(t[:, 1]) / ours:.1f}×"
                for t in times.values()
            ]
            print(f"| {where} | {batch} | {' | '.join(cells)} |", flush=True)


def _ways(
    store: Still, units: torch.Tensor, places: torch.Tensor, queries: torch.Tensor
) -> Iterator[Callable[[], object]]:
    """Yield what the columns of the table time."""
    candidates = Candidates.of(places.numpy() + 1, places.numpy() + 1)
    for way in ("auto", "torch", "faiss"):
        reranker = Reranker({"benchmark": store}, way)  # type: ignore[dict-item]
        yield _ranking(reranker, {"benchmark": queries.numpy()}, candidates)
    yield lambda: _products(units, places, queries)
    yield lambda: (queries @ units[places].T).topk(10, dim=1)
    yield lambda: faiss.knn(queries.numpy(), units[places].numpy(), 10, metric=faiss.METRIC_INNER_PRODUCT)


def _ranking(reranker: Reranker, queries: Any, candidates: Candidates, k: int = 10) -> Callable[[], object]:
    conn: Any = NoConnection()
    return lambda: reranker.rank(conn, queries, candidates, k)


def _products(units: torch.Tensor, places: torch.Tensor, queries: torch.Tensor, block: int = 2048) -> torch.Tensor:
    """Gather and multiply block by block, and no more: what scoring costs at least this way."""
    return torch.cat([queries @ units[places[at : at + block]].T for at in range(0, len(places), block)], dim=1)


def forms(rows: int, dimension: int, count: int, repeats: int) -> None:
    """Print what each form says that it takes, what it really takes, and how fast it answers."""
    rng = np.random.default_rng(3)
    chosen = rng.choice(rows, count, replace=False) + 1
    candidates, queries = Candidates.of(chosen, chosen), rng.standard_normal((1, dimension))
    half, keys = rows * dimension * 2, rows * KEY_BYTES
    print(f"\n{rows} × {dimension}; one query over {count}, best 10\n")
    print("| form | vectors and keys, MB | resident set grew by, MB | of it anonymous, MB | milliseconds |")
    print("|---|---|---|---|---|")
    with TemporaryDirectory() as folder:
        for form in (
            Form("ram", "float32", ("cpu",), 2 * half, keys, 1 << 62),
            Form("ram", "float16", ("cpu",), half, keys, 1 << 62),
            Form("disk", "float16", ("cpu",), half, keys, 1 << 62),
        ):
            before = _memory()
            store = filled(form, rows, dimension, Path(folder))
            grew = {name: (now - before[name]) / 1e6 for name, now in _memory().items()}
            times = in_turn({"": _ranking(Reranker({"benchmark": store}), {"benchmark": queries}, candidates)}, repeats)
            said = (form.vector_bytes + form.key_bytes) / 1e6
            cells = [f"{said:.0f}", *(f"{grew[name]:.0f}" for name in grew), f"{np.median(times[''][:, 0]) * 1e3:.1f}"]
            print(f"| {form.dtype}, {form.where} | {' | '.join(cells)} |", flush=True)
            del store
    free = measure_free(Path())
    print("\nThe form that this machine would take now, by rows × dimensions:\n")
    for some, width in ((161_496, 768), (1_600_000, 768), (161_496, 8448), (20_000_000, 768)):
        try:
            print(f"- {some} × {width}: {choose_form(some, width, free)}")
        except Exception as error:
            print(f"- {some} × {width}: {error}")


def _memory() -> dict[str, int]:
    """Return bytes of this process that are in RAM: all, and those of no file (Linux only)."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return {"VmRSS": 0, "RssAnon": 0}
    facts = dict(line.split(":", 1) for line in lines)
    return {name: int(facts[name].split()[0]) * 1024 for name in ("VmRSS", "RssAnon")}


def on_gpu(rows: int, dimension: int, repeats: int) -> None:
    """Print one query and 1 000 over all rows, as a share of what the device can do at most."""
    if not gpu_count():
        print("\nNo GPU that both FAISS and torch can use was found: nothing was measured on one.")
        return
    device = torch.device("cuda:0")
    print(f"\n{torch.cuda.get_device_name(device)}; {rows} × {dimension}, best 10\n")
    block = torch.empty(1 << 30, dtype=torch.uint8, device=device)
    copy = _device_seconds(block.clone, repeats)
    square = torch.randn(8192, 8192, device=device, dtype=torch.float16)
    product = _device_seconds(partial(torch.mm, square, square), repeats)
    bandwidth, arithmetic = 2 * block.numel() / copy, 2 * 8192**3 / product
    del block, square
    print(f"copy {bandwidth / 1e12:.2f} TB/s, float16 products {arithmetic / 1e12:.0f} TFLOP/s\n")
    print("| kept as | queries | milliseconds | floor of memory | floor of arithmetic | share reached |")
    print("|---|---|---|---|---|---|")
    every = Candidates.of(np.arange(1, rows + 1), np.arange(1, rows + 1))
    for dtype, width in (("float16", 2), ("float32", 4)):
        store = filled(Form("gpu", dtype, ("cuda:0",), 0, 0, 1 << 62), rows, dimension, Path())  # type: ignore[arg-type]
        kept = store._shards[0].rows[:rows]
        for batch in (1, 1000):
            queries = np.random.default_rng(4).standard_normal((batch, dimension))
            asked = torch.from_numpy(queries).to(device, kept.dtype)
            floors = (rows * dimension * width / bandwidth, 2.0 * batch * rows * dimension / arithmetic)
            ways = {
                "FAISS alone": lambda kept=kept, asked=asked: knn(asked, kept, 10),
                "torch alone": lambda kept=kept, asked=asked: (asked @ kept.T).topk(10, dim=1),
                "re-ranker, FAISS": _ranking(Reranker({"benchmark": store}, "faiss"), {"benchmark": queries}, every),
                "re-ranker, torch": _ranking(Reranker({"benchmark": store}, "torch"), {"benchmark": queries}, every),
            }
            for name, way in ways.items():
                took = _device_seconds(way, repeats)
                print(
                    f"| {dtype}: {name} | {batch} | {took * 1e3:.2f} | {floors[0] * 1e3:.2f} | {floors[1] * 1e3:.2f} "
                    f"| {max(floors) / took:.0%} |",
                    flush=True,
                )
        del store, kept
        torch.cuda.empty_cache()


def _device_seconds(way: Callable[[], object], repeats: int) -> float:
    """Return the median time until the device is done."""

    def wait() -> None:
        way()
        torch.cuda.synchronize()

    wait()
    return float(np.median(in_turn({"": wait}, repeats)[""][:, 0]))


def with_database(url: str, rows: int, dimension: int, repeats: int) -> None:
    """Print how fast a space is loaded, and what candidates whose vectors have changed cost."""
    from geosearch.database.archives import ensure_archive, remove_archive
    from geosearch.database.connection import connect
    from geosearch.database.spaces import create_space, drop_space
    from geosearch.embedding.write import VectorWriter
    from geosearch.search.candidates import find_candidates
    from geosearch.search.resident import ResidentVectors

    name, rng = "rerank_benchmark", np.random.default_rng(5)
    with connect(url, autocommit=True) as conn:
        try:
            archive = ensure_archive(conn, name)
            conn.execute(
                "insert into geosearch.image (archive_id, name, reach_m) select %s, n::text, 0"
                " from generate_series(1, %s) n",
                [archive, rows],
            )
            found = conn.execute("select id from geosearch.image where archive_id = %s order by id", [archive])
            ids = [row[0] for row in found.fetchall()]
            writer = VectorWriter(conn, create_space(conn, name, dimension))
            for first, last in pairwise([*range(0, rows, 4096), rows]):
                with conn.transaction():
                    writer.write(ids[first:last], rng.standard_normal((last - first, dimension)), None)
            began = time.perf_counter()
            resident = ResidentVectors.load(conn, name)
            took = time.perf_counter() - began
            print(f"\n{rows} × {dimension} loaded in {took:.2f} s, {rows / took:.0f} rows/s: {resident.form}")
            reranker, query = Reranker({name: resident}), {name: rng.standard_normal(dimension)}
            times: dict[int, list[float]] = {0: [], 1000: []}
            asking = []
            for _ in range(repeats):
                for changed in times:
                    with conn.transaction():
                        writer.write(ids[:changed], rng.standard_normal((changed, dimension)), None)
                    began = time.perf_counter()
                    candidates = find_candidates(conn, name)
                    asking.append(time.perf_counter() - began)
                    began = time.perf_counter()
                    assert reranker.rank(conn, query, candidates).fetched == changed
                    times[changed].append(time.perf_counter() - began)
            print(f"ids and versions of {rows} candidates: {np.median(asking) * 1e3:.1f} ms")
            for changed, took_each in times.items():
                print(f"one query over them, {changed} changed since: {np.median(took_each) * 1e3:.1f} ms")
        finally:
            remove_archive(conn, name)
            drop_space(conn, name)


def main() -> None:
    """Print tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=161_496)
    parser.add_argument("--dimension", type=int, default=768)
    parser.add_argument("--candidates", type=int, default=15_000)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--url", help="of a scratch database that is migrated")
    parser.add_argument("--database-rows", type=int, default=20_000)
    options = parser.parse_args()
    print(f"torch {torch.__version__}, FAISS {faiss.__version__}, {torch.get_num_threads()} threads")
    on_cpu(options.rows, options.dimension, options.candidates, options.repeats)
    forms(options.rows, options.dimension, options.candidates, options.repeats)
    on_gpu(options.rows, options.dimension, options.repeats)
    if options.url:
        with_database(options.url, options.database_rows, options.dimension, options.repeats)


if __name__ == "__main__":
    main()
