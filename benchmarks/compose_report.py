"""The figures of a run of benchmarks/compose.py as tables in Markdown, and what they say of the aims."""

from __future__ import annotations

from typing import Any

from compose_ways import OURS

AIMS = (("exact", "CTE", 3.0), ("exact", "window functions", 6.0), ("fast", "window functions", 10.0))


def aims(run: dict[str, Any]) -> list[dict[str, Any]]:
    """Return aim, case, figure (as text) and met, of the cases over the whole space."""
    found: list[dict[str, Any]] = []

    def add(aim: str, case: str, figure: str, met: bool) -> None:
        found.append({"aim": aim, "case": case, "figure": figure, "met": met})

    for name, case in run["cases"].items():
        if "2 500 km" in name:
            continue
        ways = case["ways"]
        for way, rival, least in AIMS:
            times = ways[rival]["p50"] / ways[f"{OURS}, {way}"]["p50"]
            add(f"{way} at least {least:g} times as fast as {rival}", name, f"{times:.1f}×", times >= least)
        fast = ways[f"{OURS}, fast"]
        recall = f"{fast['recall']:.3f}, least {fast['least_recall']:.1f}"
        add("fast: recall@10 at least .95", name, recall, fast["recall"] >= 0.95)
        add("fast: at most 3 % touched in the median", name, f"{fast['touched']:.1%}", fast["touched"] <= 0.03)
    unequal = sum(case["unequal"] for case in run["cases"].values())
    add("equal answers of all exact ways", "all", f"{unequal} unequal", unequal == 0)
    return found


def section(run: dict[str, Any]) -> str:
    """Return all of a run as Markdown."""
    ways, cases = list(run["ways"]), run["cases"].items()
    ours = {way.removeprefix(f"{OURS}, "): way for way in ways if way.startswith(OURS)}
    rivals = [way for way in ways if way not in ours.values()]
    about = "".join(f"- **{name}**: {text}\n" for name, text in run["ways"].items())
    times = [[name, *(_times(case["ways"][way]) for way in ways)] for name, case in cases]
    ratios = []
    for name, case in cases:
        p50 = {way: case["ways"][way]["p50"] for way in ways}
        ratios.append([name, *(f"{p50[rival] / p50[way]:.1f}" for way in ours.values() for rival in rivals)])
    walks = {short: way for short, way in ours.items() if short != "exact"}
    quality = [
        [name, *(cell for way in walks.values() for cell in _quality(case["ways"][way]))] for name, case in cases
    ]
    heads = [f"{rival} ÷ {short}" for short in ours for rival in rivals]
    kinds = [f"{short}: {what}" for short in walks for what in ("recall", "touched", "by exact")]
    told = [[a["aim"], a["case"], a["figure"], "met" if a["met"] else "**missed**"] for a in run["aims"]]
    return (
        f"## {run['rows']:,} rows × {run['dimension']}\n\n{run['machine']}. {run['software']}. {run['queries']}"
        f" questions a case, k = {run['k']}; {run['date']}, load average before: {run['load_average']}. Not the"
        f" defaults of PostgreSQL: {run['settings'] or 'nothing'}.\n\n{about}\n"
        f"Milliseconds, median / 95th percentile:\n\n{table(['case', *ways], times)}\n\n"
        f"Median of the rival ÷ median of geosearch:\n\n{table(['case', *heads], ratios)}\n\n"
        "Recall@10 against exact (the least of a question), rows touched (median), questions answered by exact:\n\n"
        f"{table(['case', *kinds], quality)}\n\n### Aims\n\n{table(['aim', 'case', 'measured', ''], told)}\n"
    )


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _times(seen: dict[str, Any]) -> str:
    return f"{seen['p50']:.0f} / {seen['p95']:.0f}"


def _quality(seen: dict[str, Any]) -> list[str]:
    recall = f"{seen['recall']:.3f} ({seen['least_recall']:.1f})"
    return [recall, f"{seen['touched']:.1%}", f"{seen['exact_share']:.0%}"]
