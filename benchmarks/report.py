"""The figures of a run as tables in Markdown, and what they say of the aims."""

from __future__ import annotations

from pathlib import Path
from typing import Any

HAND, ALONE, OURS = "by hand", "by hand, no workers", "geosearch, auto"
FLOORS = ("FAISS flat fp32", "FAISS flat fp16")


def p50(run: dict[str, Any], case: str, way: str) -> float | None:
    """Return the median milliseconds of a way in a case, None where it was not measured."""
    figures = run["cases"].get(case, {}).get("ways", {}).get(way)
    return figures["p50"] if figures else None


def floor_of(run: dict[str, Any]) -> str | None:
    """Return the name of the FAISS index that counts as the floor: full precision where it fits into memory."""
    return next((name for name in FLOORS if name in run["ways"]), None)


def aims(run: dict[str, Any], other: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the aims with what was measured: aim, case, figure (as text), met (None: cannot be said).

    other: the run over the other number of rows, for the aim that compares two.
    """
    found: list[dict[str, Any]] = []

    def add(aim: str, case: str, figure: float | None, text: str, met: bool) -> None:
        if figure is not None:
            found.append({"aim": aim, "case": case, "figure": text.format(figure), "met": met})

    def ratio(over: float | None, under: float | None) -> float | None:
        return None if over is None or not under else over / under

    for rival, radius, least in ((HAND, 2500, 5.0), (HAND, 500, 8.0), (ALONE, 2500, 2.5), (ALONE, 500, 1.5)):
        for case in (f"{radius} km", f"{radius} km, far image"):
            times = ratio(p50(run, case, rival), p50(run, case, OURS))
            add(f"at least {least:g} times faster than {rival}", case, times, "{:.1f}×", (times or 0) >= least)
    for case in ("50 km", "50 km, far image", "ocean, 500 km"):
        ours, hand = p50(run, case, OURS), p50(run, case, HAND)
        more = None if ours is None or hand is None else ours - hand
        add("at most 0.5 ms slower than by hand", case, more, "{:+.2f} ms", more is not None and more <= 0.5)
    floor = floor_of(run)
    for case in ("50 km", "500 km", "500 km, far image", "2500 km", "2500 km, far image"):
        times = ratio(p50(run, case, OURS), p50(run, case, floor)) if floor else None
        add(f"within 2 times {floor} with its bitmap", case, times, "{:.1f}×", (times or 9) <= 2)
    mine = [(c, w, f) for c, case in run["cases"].items() for w, f in case["ways"].items() if w.startswith("geosearch")]
    if mine:
        case, way, worst = max(mine, key=lambda entry: entry[2]["short"])
        where = "all cases and strategies" if worst["short"] == 0 else f"{case} ({way})"
        add("nothing short, ever", where, worst["short"] * 100, "{:.1f} % short", worst["short"] == 0)
    of_auto = [(c, f["recall"]) for c, w, f in mine if w == OURS and run["cases"][c]["k"] == 10]
    if of_auto:
        case, least_recall = min(of_auto, key=lambda entry: entry[1])
        add("recall@10 at least 0.99", f"the worst: {case}", least_recall, "{:.3f}", least_recall >= 0.99)
    if other is not None:
        small, large = sorted((run, other), key=lambda r: r["rows"])
        for case in ("2500 km", "2500 km, far image"):
            times = ratio(p50(large, case, OURS), p50(small, case, OURS))
            aim = f"{large['rows']:,} rows at most 3 times the time of {small['rows']:,}"
            add(aim, case, times, "{:.1f}×", (times or 9) <= 3)
    return found


def aims_table(found: list[dict[str, Any]]) -> str:
    """Return the aims as a table."""
    lines = ["| aim | case | measured | |", "|---|---|---|---|"]
    lines += [f"| {a['aim']} | {a['case']} | {a['figure']} | {'met' if a['met'] else '**missed**'} |" for a in found]
    return "\n".join(lines)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _ms(value: float) -> str:
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def times_table(run: dict[str, Any]) -> str:
    """Return p50 / p95 of every way in every case."""
    ways = list(run["ways"])
    rows = []
    for name, case in run["cases"].items():
        cells = [f"{_ms(f['p50'])} / {_ms(f['p95'])}" if (f := case["ways"].get(way)) else "–" for way in ways]
        rows.append([name, f"{case['candidates']['median']:,}", *cells])
    return _table(["case", "candidates", *ways], rows)


def answers_table(run: dict[str, Any]) -> str:
    """Return recall, and shares at recall 0 and short, of the ways that were not always right."""
    wrong = [
        way for way in run["ways"]
        if any((f := case["ways"].get(way)) and (f["recall"] < 1 or f["short"] > 0) for case in run["cases"].values())
    ]  # fmt: skip
    if not wrong:
        return "Every way found every right answer in every case."
    rows = []
    for name, case in run["cases"].items():
        row = [name]
        for way in wrong:
            figures = case["ways"].get(way)
            if not figures:
                row.append("–")
            elif figures["recall"] == 1 and figures["short"] == 0:
                row.append("1")
            else:
                row.append(f"{figures['recall']:.3f} · {figures['zero']:.0%} · {figures['short']:.0%}")
        rows.append(row)
    return _table(["case", *wrong], rows)


def ratios_table(run: dict[str, Any]) -> str:
    """Return how geosearch's auto compares: by hand ÷ ours, without workers ÷ ours, ours ÷ FAISS."""
    floor = floor_of(run)
    rows = []
    for name, case in run["cases"].items():
        ours = case["ways"].get(OURS)
        if not ours:
            continue
        row = [name, ", ".join(f"{strategy} {n}" for strategy, n in case.get("auto", {}).items())]
        rivals = [case["ways"].get(rival) for rival in (HAND, ALONE)]
        row += [f"{figures['p50'] / ours['p50']:.1f}" if figures else "–" for figures in rivals]
        busy = [(case["ways"].get(way) or {}).get("cpu_mean") for way in (ALONE, OURS)]
        row.append(f"{busy[0] / busy[1]:.1f}" if busy[0] and busy[1] else "–")
        faiss = case["ways"].get(floor) if floor else None
        row.append(f"{ours['p50'] / faiss['p50']:.1f}" if faiss else "–")
        alone = (faiss or {}).get("search alone")
        row.append(f"{ours['p50'] / alone['p50']:.1f}" if alone else "–")
        rows.append(row)
    head = ["case", "auto took", "by hand ÷ ours", "no workers ÷ ours", "the same, processor time"]
    return _table([*head, "ours ÷ FAISS", "ours ÷ FAISS, search alone"], rows)


def clients_table(run: dict[str, Any]) -> str:
    """Return queries a second where several clients asked at the same time."""
    cases = {name: case for name, case in run["cases"].items() if case["clients"] > 1}
    if not cases:
        return ""
    ways = list(run["ways"])
    rows = [[name, *(f"{f['per_second']:.0f}" if (f := case["ways"].get(way)) else "–" for way in ways)]
            for name, case in cases.items()]  # fmt: skip
    return "Queries a second:\n\n" + _table(["case", *ways], rows) + "\n\n"


def costs_table(run: dict[str, Any]) -> str:
    """Return what loading and building took, and what it weighs."""
    rows = [[name, f"{seconds:.1f} s"] for name, seconds in run["stages"].items()]
    weights = [[name, f"{size / 2**20:,.0f} MiB"] for name, size in run["sizes"].items()]
    for way, about in run["ways"].items():
        weights += [[f"{way}: {what}", f"{size / 2**20:,.0f} MiB"] for what, size in about["memory"].items()]
    return _table(["stage", "time"], rows) + "\n\n" + _table(["what", "size"], weights)


def section(run: dict[str, Any], found: list[dict[str, Any]]) -> str:
    """Return all of a run as Markdown."""
    ways = "\n".join(f"- **{name}**: {about['about']}." for name, about in run["ways"].items())
    skipped = "".join(f"- not run: **{name}**: {why}.\n" for name, why in run["skipped"].items())
    return (
        f"## {run['rows']:,} rows × {run['dimension']}\n\n{run['machine']}. {run['software']}. "
        f"{run['queries']} queries a case; load average before: {run['load_average']}. Not the defaults of PostgreSQL: "
        f"{run['settings'] or 'nothing'}.\n\n{ways}\n{skipped}\n"
        f"Milliseconds, median / 95th percentile:\n\n{times_table(run)}\n\n"
        f"Recall · share of the queries at recall 0 · share with too few answers (ways that were always right are left "
        f"out):\n\n{answers_table(run)}\n\n"
        f"Ratios of the medians:\n\n{ratios_table(run)}\n\n{clients_table(run)}"
        f"Loading, building, weight:\n\n{costs_table(run)}\n\n### Aims\n\n{aims_table(found)}\n"
    )


def write_between(path: Path, marker: str, text: str) -> None:
    """Put a text between `<!-- marker -->` and `<!-- /marker -->` of a file; at its end where there are no such."""
    begin, end = f"<!-- {marker} -->\n", f"<!-- /{marker} -->\n"
    old = path.read_text(encoding="utf-8") if path.exists() else "# Benchmarks\n"
    if begin in old and end in old:
        before, _, rest = old.partition(begin)
        new = before + begin + text + end + rest.partition(end)[2]
    else:
        new = f"{old.rstrip()}\n\n{begin}{text}{end}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(new, encoding="utf-8")
