"""Figures of the simulated benchmark: recall by region, recall by distance from the nadir, and the priors."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from geosearch.errors import InputError
from geosearch.evaluation.composed_files import save
from geosearch.evaluation.extra import matplotlib
from geosearch.nadir.prior import DistancePrior

DPI = 110
COLOURS = {
    "image": "#8c8c8c",
    "unknown": "#c9c9c9",
    "filter": "#9ecae1",
    "prior": "#4292c6",
    "concat": "#e6550d",
    "concat+filter": "#a63603",
    "concat+prior": "#54278f",
}
LAW_STYLES = {"photographs": "-", "horizon": "--"}
FIGURES = ("nadir-regions.png", "nadir-offsets.png", "nadir-priors.png")


def check(folder: Path) -> None:
    """Raise InputError where the figures could not be drawn there; to be asked before the work, not after it."""
    matplotlib("figure")
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; make it or name another for the figures")


def draw(report: dict[str, Any], folder: Path) -> list[Path]:
    """Write FIGURES of a report of `nadir_earth_run.run` into a folder, and return their paths. Raises InputError."""
    check(folder)
    made = []
    for name, figure in zip(FIGURES, (_regions(report), _offsets(report), _priors(report)), strict=True):
        out = io.BytesIO()
        figure.savefig(out, format="png", metadata={"Software": None})
        save(folder / name, out.getvalue())
        made.append(folder / name)
    return made


def _figure(width: float, height: float) -> Any:
    # A figure of its own and not pyplot's: no window system is asked for, and no state is left behind.
    figure = matplotlib("figure").Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    matplotlib("backends.backend_agg").FigureCanvasAgg(figure)
    return figure


def _regions(report: dict[str, Any]) -> Any:
    """Bars of R@1 with their intervals, a group a region; a panel a law."""
    figure = _figure(10.5, 7.0)
    panels = figure.subplots(len(report["laws"]), 1, squeeze=False)[:, 0]
    for axes, (law, found) in zip(panels, report["laws"].items(), strict=True):
        rows = [row for row in found["rows"] if row["ground"] == "all" and row["way"] in COLOURS]
        regions = list(dict.fromkeys(row["region"] for row in rows))
        ways = [way for way in COLOURS if any(row["way"] == way for row in rows)]
        wide = 0.84 / len(ways)
        for i, way in enumerate(ways):
            of = {row["region"]: row for row in rows if row["way"] == way}
            at = [of[region]["R@1"] for region in regions]
            bounds = [(of[r]["R@1 low"], of[r]["R@1 high"]) for r in regions]
            error = np.array([[a - (a if b is None else b) for a, (b, _) in zip(at, bounds, strict=True)],
                              [(a if c is None else c) - a for a, (_, c) in zip(at, bounds, strict=True)]])  # fmt: skip
            x = np.arange(len(regions)) + (i - (len(ways) - 1) / 2) * wide
            axes.bar(x, at, wide, yerr=np.maximum(error, 0), color=COLOURS[way], label=way,
                     error_kw={"linewidth": 0.7, "ecolor": "#333333"})  # fmt: skip
        axes.set_xticks(range(len(regions)), regions)
        axes.set(ylabel="R@1 (%)", title=f"{law}: {found['counted']} photographs", ylim=(0, 100))
        axes.grid(axis="y", alpha=0.25)
        axes.set_axisbelow(True)
    panels[0].legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return figure


def _offsets(report: dict[str, Any]) -> Any:
    """Lines of R@1 over the distance from the nadir to what is seen, all laws."""
    figure = _figure(9.0, 4.8)
    axes = figure.subplots()
    for law, found in report["laws"].items():
        bands = found["bands"]
        x = [(band["from_km"] + band["to_km"]) / 2 for band in bands]
        for way, colour in COLOURS.items():
            if bands and way in bands[0]:
                y = [band[way] for band in bands]
                axes.plot(x, y, color=colour, linestyle=LAW_STYLES.get(law, ":"), marker=".",
                          label=f"{way}, {law}")  # fmt: skip
    axes.set(xlabel="from the nadir to the middle of what is seen (km)", ylabel="R@1 (%)", ylim=(0, 100))
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)
    if axes.lines:  # few photographs make no band
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize="small")
    return figure


def _priors(report: dict[str, Any]) -> Any:
    """The priors' log-ratios over distance, above histograms of the laws' offsets."""
    figure = _figure(8.5, 5.6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    km = np.arange(10.0, 3000.0, 10.0)
    for name, facts in report["priors"].items():
        above.plot(km, DistancePrior.read(facts["distance"]).log_ratio(km * 1000), label=f"fitted to {name}")
    above.axvline(2500, color="grey", linewidth=1, linestyle=":", label="the filter's border")
    above.set(ylabel="log f / g")
    above.grid(alpha=0.25)
    above.legend(frameon=False)
    for law, found in report["laws"].items():
        edges = np.array(found["offsets"]["edges_km"])
        below.stairs(found["offsets"]["counts"], edges, label=law, linestyle=LAW_STYLES.get(law, ":"))
    below.set(xlabel="distance from the nadir (km)", ylabel="photographs", xlim=(0, 3000))
    below.grid(alpha=0.25)
    below.legend(frameon=False)
    return figure
