"""A picture of the λ sweep: mAP over λ, of every attribute and of their average, whose baselines go across."""

from __future__ import annotations

import io
from pathlib import Path

from geosearch.errors import InputError
from geosearch.evaluation.composed import AVERAGE, CHANCE, Report
from geosearch.evaluation.composed_files import save
from geosearch.evaluation.extra import matplotlib

SIZE, DPI = (8.0, 5.0), 120  # inches, pixels an inch
STYLES = {"text": (0, (1, 1)), "image": (0, (5, 2)), "mean": (0, (5, 1, 1, 1)), CHANCE: (0, (1, 4))}


def check_plot(path: Path) -> None:
    """Raise InputError where a plot could not be made at that path; to be asked before the work, not after it."""
    matplotlib("figure")
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: the plot is a PNG; give a name that ends in .png")


def plot(report: Report, path: Path, title: str = "") -> None:
    """Write the plot as a PNG. Raises InputError without Matplotlib, and for a report without any λ."""
    check_plot(path)
    sweep = [way for way in report.ways if way.method == "weicom"]
    if not sweep:
        raise InputError("no λ was measured, so there is nothing to draw")
    # A figure of its own and not pyplot's: no window system is asked for, and no state is left behind.
    figure = matplotlib("figure").Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    matplotlib("backends.backend_agg").FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    lams = [way.lam for way in sweep]
    for attribute, of in report.scores.items() if len(report.scores) > 1 else ():
        axes.plot(lams, [of[way.name].ap for way in sweep], marker=".", linewidth=1.2, label=attribute)
    name = AVERAGE if len(report.scores) > 1 else next(iter(report.scores))
    averages = [report.average(way.name).ap for way in sweep]
    axes.plot(lams, averages, color="black", linewidth=2.4, marker="o", markersize=4, label=name)
    for name, style in STYLES.items():
        height = report.average(name).ap
        axes.axhline(height, color="grey", linewidth=1, linestyle=style, label=name)
    axes.set(xlabel="λ, the weight of the text", ylabel="mAP (%)", title=title, xlim=(-0.02, 1.02))
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    save(path, out.getvalue())
