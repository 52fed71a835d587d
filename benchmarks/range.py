"""Times soft retrieval: a million places against a bank of 10 000, in each way, block by block in turn.

    python benchmarks/range.py [--places 1000000] [--bank 10000] [--keys 256] [--values 1024] [--device cuda]

The straightforward way: chunks of 256 places, torch.softmax(τ Q Kᵀ) V in fp32; for RANGE+ twice, and the two mixed.
Ways take turns within a block of places, in another order each time, so that whatever else the machine does meets all
alike; read the ratios. Rivals that are no aim (`torch.mm`, attention) meet every eighth block. Errors are those of h,
L2 a row against float64. Random keys, values and places: the arithmetic does not depend on them. With --file-places a
CSV file goes through `geosearch range embed` in full: location encoder, retrieval, Parquet.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded, as the command line does

import numpy as np
import torch
import torch.nn.functional as F
from report import write_between

from geosearch.geometry import lat_lon
from geosearch.range.bank import Bank
from geosearch.range.options import Retrieval
from geosearch.range.products import Factor
from geosearch.range.reference import embed
from geosearch.range.soft import SoftRetrieval

ROOT = Path(__file__).resolve().parent.parent
PLAIN, MM, ATTENTION, FP32, BF16 = "straightforward", "ours, torch.mm", "fused attention", "ours, fp32", "ours, bf16"
CHUNK = 256
BLOCK = 2048  # places that every way meets before the next
RARE = 8  # rivals that are no aim meet one block in so many
CHECKED = 8  # places of a block that float64 computes too, in the first blocks
CHECKED_BLOCKS = 8
METHODS = {"RANGE+": Retrieval(), "RANGE": Retrieval(beta=1)}
AIMS = {("RANGE+", FP32): 1.8, ("RANGE+", BF16): 3.0, ("RANGE", FP32): 1.1, ("RANGE", BF16): 1.8}
MOST_ERROR = {PLAIN: 1e-5, MM: 1e-5, ATTENTION: 1e-5, FP32: 1e-5, BF16: 1e-2}
GPU_AIM_S = 0.15  # device time of a million places

Way = Callable[[np.ndarray, np.ndarray, np.ndarray], torch.Tensor]


def main() -> None:
    """Run, print the tables, write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--places", type=int, default=1_000_000)
    parser.add_argument("--bank", type=int, default=10_000)
    parser.add_argument("--keys", type=int, default=256)
    parser.add_argument("--values", type=int, default=1024)
    parser.add_argument("--device", default="cpu", help="cpu, cuda")
    parser.add_argument("--file-places", type=int, default=0, help="also embed a CSV file of so many places")
    parser.add_argument("--encoder", default="mini-location", help="of the file's places; its size is --keys")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="benchmarks/results/range-<places>[-cuda].json")
    parser.add_argument("--docs", type=Path, help="a document with the marks <!-- range PLACES --> to be filled in")
    options = parser.parse_args()
    kind = options.device.split(":")[0]
    name = f"range-{options.places}" + ("" if kind == "cpu" else f"-{kind}")
    options.json = options.json or ROOT / "benchmarks" / "results" / f"{name}.json"

    bank = random_bank(options)
    run: dict[str, Any] = about(options)
    run["methods"] = {title: measure(bank, retrieval, options) for title, retrieval in METHODS.items()}
    if kind == "cuda":
        run["device"] = on_device(bank, options)
    if options.file_places:
        run["file"] = of_file(bank, options)
    text = tables(run)
    print(text)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    if options.docs:
        write_between(options.docs, f"range {options.places}", text + "\n")


def random_bank(options: argparse.Namespace) -> Bank:
    """Return a bank as models make them: keys in a cone, values with a mean."""
    rng = np.random.default_rng(options.seed)
    keys = rng.standard_normal((options.bank, options.keys)) + rng.standard_normal(options.keys) / 2
    values = rng.standard_normal((options.bank, options.values)) + rng.standard_normal(options.values)
    return Bank.of("benchmark", options.encoder, *lat_lon(rng.standard_normal((options.bank, 3))), keys, values)


def questions(count: int, dimension: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return places (lat, lon) and unit queries for them."""
    rng = np.random.default_rng(seed)
    queries = rng.standard_normal((count, dimension)) + 0.5
    return *lat_lon(rng.standard_normal((count, 3))), queries / np.linalg.norm(queries, axis=1, keepdims=True)


def straightforward(bank: Bank, options: Retrieval, device: str, attention: bool = False) -> Way:
    """Return what anybody writes first: two softmaxes, each times the values, in chunks."""
    keys, values = torch.from_numpy(bank.keys).to(device), torch.from_numpy(bank.values).to(device)
    places = torch.from_numpy(bank.positions()).float().to(device)

    def read(queries: torch.Tensor, table: torch.Tensor, tau: float) -> torch.Tensor:
        if attention:
            return F.scaled_dot_product_attention(
                queries[None, None], table[None, None], values[None, None], scale=tau
            )[0, 0]
        return torch.softmax(tau * queries @ table.T, dim=1) @ values

    def way(lat: np.ndarray, lon: np.ndarray, queries: np.ndarray) -> torch.Tensor:
        asked = torch.from_numpy(queries).float().to(device)
        phi, lam = np.radians(lat), np.radians(lon)
        here = np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], 1)
        at = torch.from_numpy(here).float().to(device)
        found = []
        for start in range(0, len(asked), CHUNK):
            part = slice(start, start + CHUNK)
            h = read(asked[part], keys, options.semantic_tau)
            if options.beta < 1:
                h = options.beta * h + (1 - options.beta) * read(at[part], places, options.tau_geo)
            found.append(torch.cat([h, asked[part]], dim=1))
        return torch.cat(found)

    return way


def make_ways(bank: Bank, options: Retrieval, device: str) -> dict[str, Way]:
    """Return the ways by name."""
    ways = {
        PLAIN: straightforward(bank, options, device),
        FP32: SoftRetrieval(bank, options, device).embed_tensor,
        BF16: SoftRetrieval(bank, options, device, "bf16").embed_tensor,
        ATTENTION: straightforward(bank, options, device, attention=True),
    }
    if device == "cpu":
        # What of the gain is one product instead of two, and what is oneDNN instead of torch.mm's library.
        plain = SoftRetrieval(bank, options, device)
        where = torch.device(device)
        plain._values = Factor(torch.from_numpy(bank.values), where, torch.float32, packed=False)
        tau = options.semantic_tau
        plain._keys = Factor(torch.from_numpy(bank.keys).T * tau, where, torch.float32, packed=False)
        ways[MM] = plain.embed_tensor
    return ways


def measure(bank: Bank, retrieval: Retrieval, options: argparse.Namespace) -> dict[str, Any]:
    """Return seconds for all places, by the clock, the ratio to the straightforward way, and the error, of each way."""
    ways = make_ways(bank, retrieval, options.device)
    seconds: dict[str, dict[int, float]] = {name: {} for name in ways}  # by block
    met = dict.fromkeys(ways, 0)
    errors = dict.fromkeys(ways, 0.0)
    rng = np.random.default_rng(options.seed)
    for way in ways.values():
        way(*questions(CHUNK, options.keys, 0))
    with torch.inference_mode():
        for number, start in enumerate(range(0, options.places, BLOCK)):
            asked = questions(min(BLOCK, options.places - start), options.keys, options.seed + 1 + number)
            checked = number < CHECKED_BLOCKS
            truth = embed(bank, *(a[:CHECKED] for a in asked[:2]), retrieval, asked[2][:CHECKED]) if checked else None
            for name in rng.permutation(list(ways)).tolist():
                if name in (MM, ATTENTION) and number % RARE:
                    continue
                began = time.perf_counter()
                found = ways[name](*asked)
                if found.is_cuda:
                    torch.cuda.synchronize()
                seconds[name][number] = time.perf_counter() - began
                met[name] += len(found)
                if truth is not None:
                    h = found[:CHECKED, : options.values].cpu().double().numpy()
                    right = truth.embedding[:, : options.values]
                    wrong = np.linalg.norm(h - right, axis=1) / np.linalg.norm(right, axis=1)
                    errors[name] = max(errors[name], float(wrong.max()))
    rate = {name: sum(seconds[name].values()) / met[name] for name in ways}
    return {
        name: {
            "seconds": rate[name] * options.places,
            "places_per_second": 1 / rate[name],
            "places_met": met[name],
            # Over the blocks that both met.
            "ratio": sum(seconds[PLAIN][number] for number in seconds[name]) / sum(seconds[name].values()),
            "error": errors[name],
            "error_allowed": MOST_ERROR[name],
        }
        for name in ways
    }


def on_device(bank: Bank, options: argparse.Namespace) -> dict[str, Any]:
    """Return seconds of the device alone (inputs there, output left there) and end to end, for all places at once."""
    device = torch.device(options.device)
    lat, lon, queries = questions(options.places, options.keys, options.seed)
    found: dict[str, Any] = {"name": torch.cuda.get_device_name(device), "aim_s": GPU_AIM_S * options.places / 1e6}
    for title, retrieval in METHODS.items():
        for precision in ("fp32", "bf16"):
            soft = SoftRetrieval(bank, retrieval, options.device, precision)  # type: ignore[arg-type]
            phi, lam = np.radians(lat), np.radians(lon)
            here = np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], 1)
            at, asked = torch.from_numpy(here).to(device), torch.from_numpy(queries).to(device)
            alone = []
            for _ in range(4):  # the first is not counted
                start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                start.record()
                out = soft.from_tensors(at, asked)
                end.record()
                torch.cuda.synchronize()
                alone.append(start.elapsed_time(end) / 1e3)
                del out
            began = time.perf_counter()
            soft.embed(lat, lon, queries)
            whole = time.perf_counter() - began
            found[f"{title} {precision}"] = {"device_s": float(np.median(alone[1:])), "end_to_end_s": whole}
    return found


def of_file(bank: Bank, options: argparse.Namespace) -> dict[str, Any]:
    """Return the account of a CSV file that becomes a Parquet file."""
    from geosearch.range.embed import embed_file

    lat, lon, _ = questions(options.file_places, 1, options.seed)
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "places.csv", Path(folder) / "out.parquet"
        rows = (f"{i},{a:.6f},{o:.6f}\n" for i, (a, o) in enumerate(zip(lat, lon, strict=True)))
        source.write_text("id,lat,lon\n" + "".join(rows))
        report = embed_file(bank, source, out, device=options.device, precision="bf16")
        return {"rows": report.rows, "seconds": report.seconds, "bytes": out.stat().st_size}


def about(options: argparse.Namespace) -> dict[str, Any]:
    """Return what the run was made on and with."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        model = text.split("model name")[1].split(":", 1)[1].split("\n")[0].strip()
    except (OSError, IndexError):
        model = platform.processor() or platform.machine()
    return {
        "places": options.places,
        "bank": options.bank,
        "keys": options.keys,
        "values": options.values,
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} cores ({model}), {torch.get_num_threads()} threads",
        "load_before": os.getloadavg()[0],
        "software": f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}",
    }


def tables(run: dict[str, Any]) -> str:
    """Return the figures in Markdown."""
    lines = [
        f"{run['places']:,} places, a bank of {run['bank']:,} × ({run['keys']} + {run['values']}); {run['machine']}; "
        f"{run['software']}; {run['date']}. Load of the machine before: {run['load_before']:.1f}.",
        "",
        "| method | way | seconds | places/s | times straightforward | aim | greatest error |",
        "|---|---|---|---|---|---|---|",
    ]
    for title, ways in run["methods"].items():
        for name, seen in sorted(ways.items(), key=lambda entry: -entry[1]["seconds"]):
            aim = AIMS.get((title, name))
            met = "" if aim is None else f"≥ {aim:g}: {'met' if seen['ratio'] >= aim else '**missed**'}"
            wrong = "" if seen["error"] <= seen["error_allowed"] else " **too much**"
            lines.append(
                f"| {title} | {name} | {seen['seconds']:.1f} | {seen['places_per_second']:,.0f} | "
                f"{seen['ratio']:.2f} | {met} | {seen['error']:.1e}{wrong} |"
            )
    if "device" in run:
        facts = {key: value for key, value in run["device"].items() if isinstance(value, dict)}
        lines += [
            "",
            f"{run['device']['name']}; aim: at most {run['device']['aim_s']:.3g} s of device time, output left there.",
            "",
            "| method | device, s | end to end, s |",
            "|---|---|---|",
            *(f"| {name} | {seen['device_s']:.3f} | {seen['end_to_end_s']:.2f} |" for name, seen in facts.items()),
        ]
    if "file" in run:
        parts = ", ".join(f"{name} {value:.1f}" for name, value in run["file"]["seconds"].items())
        lines += [
            "",
            f"`geosearch range embed`, CSV to Parquet, bf16, {run['file']['rows']:,} places: {parts} s; "
            f"{run['file']['bytes'] / 1e6:,.0f} MB.",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
