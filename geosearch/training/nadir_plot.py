"""A picture of how a run goes: its losses over the steps, and how often the right tile is the nearest of its batch."""

from __future__ import annotations

import io
import json
from pathlib import Path

from geosearch.errors import InputError
from geosearch.evaluation.extra import matplotlib
from geosearch.whole_files import write_whole

SIZE, DPI = (8.0, 6.0), 120  # inches, pixels an inch
LOSSES = ("loss", "both", "image")
SHARES = {"right": "image and nadir", "image right": "image alone"}


def check_plot(path: Path) -> None:
    """Raise InputError where a plot could not be made at that path; to be asked before the work, not after it.

    Its folder is made where there is none.
    """
    matplotlib("figure")
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: the plot is a PNG; give a name that ends in .png")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path.parent}: cannot be made ({error.strerror or error}); name another file") from error
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give the name of a file")


def plot_log(log: Path, path: Path) -> None:
    """Write the plot of a run's log as a PNG. Raises InputError without Matplotlib, and for a log without a line."""
    check_plot(path)
    records = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    if not records:
        raise InputError(f"{log} has no line yet, so there is nothing to draw")
    # A figure of its own and not pyplot's: no window system is asked for, and no state is left behind.
    figure = matplotlib("figure").Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    matplotlib("backends.backend_agg").FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True)
    steps = [record["step"] for record in records]
    for name in LOSSES:
        above.plot(steps, [record[name] for record in records], linewidth=1.2, label=name)
    for name, label in SHARES.items():
        below.plot(steps, [100 * record[name] for record in records], linewidth=1.2, label=label)
    above.set_ylabel("loss")
    below.set(xlabel="step", ylabel="right tile nearest in the batch (%)", ylim=(0, 100))
    for axes in (above, below):
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    write_whole(path, out.getvalue())
