"""A picture of some questions of the Blue Marble benchmark, with the first answers of each method side by side."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from geosearch.compose.reference import Method, compose
from geosearch.errors import InputError
from geosearch.evaluation.composed_earth import EarthReport, pictures
from geosearch.evaluation.composed_files import check_folder, save
from geosearch.evaluation.composed_ranking import Question
from geosearch.evaluation.earth_labels import CONTEXTS, SURFACES

TOP = 5
SIDE, FRAME, GAP, LABEL = 56, 2, 14, 128  # pixels
HEAD = 18
RIGHT, WRONG, PAPER, INK = (0, 150, 60), (225, 120, 60), (255, 255, 255), (30, 30, 30)


def check(path: Path) -> None:
    """Raise InputError where the examples could not be written; to be asked before the work, not after it."""
    check_folder(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: the examples are a PNG; give a name that ends in .png")


def draw(report: EarthReport, path: Path, count: int = 8, seed: int = 1) -> None:
    """Write a PNG: `count` questions drawn at random, as many of each attribute, and five answers of every method.

    WeiCom has the best λ of the report. Green frames are right answers, orange ones wrong.
    """
    best = report.report.best().lam or 0.0
    methods: list[tuple[str, Method]] = [(f"WeiCom, text {best:g}", "weicom"), ("image", "image"), ("text", "text")]
    cell = SIDE + 2 * FRAME
    wide = LABEL + cell + len(methods) * (GAP + TOP * cell)
    asked = _some(report, count, np.random.default_rng(seed))
    sheet = Image.new("RGB", (wide, HEAD + len(asked) * (cell + FRAME)), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for m, (name, _) in enumerate(methods):
        pen.text((LABEL + cell + GAP + m * (GAP + TOP * cell), 2), name, INK, font)
    small = [Image.fromarray(p).resize((SIDE, SIDE), Image.Resampling.LANCZOS) for p in pictures(report.views)]
    for row, question in enumerate(asked):
        top = HEAD + row * (cell + FRAME)
        i = question.image
        shown = f"{SURFACES[report.views.surface[i]]}, {CONTEXTS[report.views.context[i]]}"
        pen.text((2, top + 16), f"{shown}\n+ “{question.value}”", INK, font)
        sheet.paste(small[i], (LABEL + FRAME, top + FRAME))
        for m, (_, method) in enumerate(methods):
            order = compose(report.vectors, report.vectors[i], report.texts[question.value], best, method).order[:TOP]
            for k, answer in enumerate(order.tolist()):
                left = LABEL + cell + GAP + m * (GAP + TOP * cell) + k * cell
                frame = RIGHT if answer in question.relevant else WRONG
                pen.rectangle((left, top, left + cell - 1, top + cell - 1), frame)
                sheet.paste(small[answer], (left + FRAME, top + FRAME))
    out = io.BytesIO()
    # A palette of its own makes the picture a third as large; nobody measures by it.
    sheet.quantize(256, Image.Quantize.MEDIANCUT).save(out, "PNG", optimize=True)
    save(path, out.getvalue())


def _some(report: EarthReport, count: int, rng: np.random.Generator) -> list[Question]:
    """Return questions drawn so that no two ask for the same change of the same kind of view."""
    some: list[Question] = []
    views, half = report.views, -(-count // len(report.questions))
    for every in report.questions.values():
        kinds: dict[tuple[int, int, str], list[Question]] = {}
        for question in every:
            kind = (int(views.surface[question.image]), int(views.context[question.image]), question.value)
            kinds.setdefault(kind, []).append(question)
        chosen = rng.permutation(len(kinds))[:half]
        some += [of[rng.integers(len(of))] for number, of in enumerate(kinds.values()) if number in chosen]
    return some[:count]
