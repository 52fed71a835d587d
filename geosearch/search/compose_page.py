"""A composed ranking as one self-contained HTML page, or several side by side, one for each weight of the words."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from geosearch.search.composed import ComposedRanking, ComposedResult, Likeness, RankedPart
from geosearch.search.page import (
    FOOTER,
    distance,
    document,
    fact_list,
    grid,
    located,
    middle_of,
    picture_of,
    where,
)
from geosearch.search.thumbnails import thumbnail

PART_SIDE = 360
COLUMN_SIDE = 150
_METHODS = {
    "weicom": "WeiCom",
    "mean": "mean of the similarities",
    "image": "the images alone",
    "text": "the texts alone",
}


def composed_page(ranking: ComposedRanking) -> str:
    """Return a composed ranking as a self-contained HTML page."""
    title = composed_question(ranking.parts)
    plan = ranking.plan
    body = (
        f"<header><h1>{escape(title)}</h1>\n"
        f'<p class="lead">{plan.returned} image{"" if plan.returned == 1 else "s"}{where(ranking.composition)}, '
        f"best first.</p></header>\n{shown_parts(ranking.parts, weighed=True)}\n{fact_list(_facts(ranking))}\n"
        f"{_notes([ranking])}{_legend(ranking)}\n"
        f"{located(ranking.composition, ranking.results, composed_answers(ranking))}{FOOTER}"
    )
    return document(title, body)


def sweep_page(rankings: Sequence[ComposedRanking]) -> str:
    """Return rankings of one question as columns, a lambda each; what is new against the column before is framed."""
    first = rankings[0]
    title = composed_question(first.parts)
    columns = []
    for number, ranking in enumerate(rankings):
        before = {result.image_id for result in rankings[number - 1]} if number else None
        columns.append(_column(ranking, before))
    asked = len({result.image_id for ranking in rankings for result in ranking})
    facts = [
        f"<b>{asked}</b> images of <b>{first.plan.candidates}</b> candidates",
        f"space <b>{escape(first.space)}</b>",
        f"method <b>{_METHODS[first.composition.method]}</b>",
        f"population <b>{_population(first)}</b>",
        f"λ by default <b>{first.default_lambda:g}</b>",
    ]
    body = (
        f"<header><h1>{escape(title)}</h1>\n"
        f'<p class="lead">From the images alone (λ = 0) to the words alone (λ = 1){where(first.composition)}. '
        "Framed: what the column before did not have.</p></header>\n"
        f"{shown_parts(first.parts, weighed=False)}\n{fact_list(facts)}\n{_notes(rankings)}"
        f'<div class="sweep">{"".join(columns)}</div>\n{FOOTER}'
    )
    return document(title, body)


def composed_question(parts: Sequence[RankedPart]) -> str:
    """Return in words what was asked: a.jpg + “snow” without “cloud”."""
    wanted = " + ".join(f"“{part.label}”" if part.kind == "text" else part.label for part in _of(parts, wanted=True))
    unwanted = " and ".join(f"“{part.label}”" for part in _of(parts, wanted=False))
    if not unwanted:
        return wanted
    return f"{wanted} without {unwanted}" if wanted else f"Without {unwanted}"


def _of(parts: Sequence[RankedPart], wanted: bool) -> list[RankedPart]:
    return [part for part in parts if (part.kind != "without") is wanted]


def composed_answers(ranking: ComposedRanking) -> str:
    """Return the answers as a grid of pictures (HTML), each with its score and what each part has to do with it."""
    return grid([_answer(result) for result in ranking])


def shown_parts(parts: Sequence[RankedPart], weighed: bool) -> str:
    """Return what was asked with (HTML), numbered; weighed: with its weight and what its similarities are like."""
    items = []
    for number, part in enumerate(parts, 1):
        label = escape(part.label)
        if part.kind in ("image", "like"):
            uri = thumbnail(part.source, PART_SIDE, part.root)
            inside = f'<img src="{uri}" alt="{label}">' if uri else '<div class="none">no picture here</div>'
            name = f"<b>{label}</b>"
        else:
            inside = f"<del>{label}</del>" if part.kind == "without" else f"<q>{label}</q>"
            inside = f'<div class="words">{inside}</div>'
            name = "<b>not wanted</b>" if part.kind == "without" else "<b>words</b>"
        facts = []
        if weighed:
            facts.append(f"weight {abs(part.weight):.2f}" if part.weight else "does not count")
        if weighed and part.mean is not None and part.deviation is not None:
            facts.append(f"cos {_number(part.mean, 'z.3f')} ± {part.deviation:.3f}")
        kind = " unwanted" if part.kind == "without" else ""
        items.append(
            f'<li><figure class="answer part{kind}"><div class="frame">{inside}<span class="rank">{number}</span></div>'
            f"<figcaption>{name}{'<br>'.join(facts)}</figcaption></figure></li>"
        )
    return f'<ul class="parts">{"".join(items)}</ul>'


def _facts(ranking: ComposedRanking) -> list[str]:
    plan = ranking.plan
    facts = []
    if ranking.lam is not None:
        said = " (default)" if ranking.composition.lam is None else ""
        facts.append(f"λ <b>{ranking.lam:g}</b>{said}")
    facts += [
        f"method <b>{_METHODS[ranking.composition.method]}</b>",
        f"population <b>{_population(ranking)}</b>",
        f"<b>{plan.returned}</b> of <b>{plan.candidates}</b> candidates",
        f"space <b>{escape(ranking.space)}</b>",
        f"strategy <b>{escape(plan.strategy)}</b>",
    ]
    if ranking.composition.archive:
        facts.append(f"archive <b>{escape(ranking.composition.archive)}</b>")
    return facts


def _population(ranking: ComposedRanking) -> str:
    return "the whole space" if ranking.plan.population == "space" else "the candidates"


def _legend(ranking: ComposedRanking) -> str:
    if ranking.composition.method != "weicom":
        return ""
    return (
        '<p class="soft">Below each answer its score, from 0 to 1, and for each part its cosine and how many standard '
        "deviations that lies above the mean (below it, for what is not wanted).</p>"
    )


def _notes(rankings: Sequence[ComposedRanking]) -> str:
    notes = dict.fromkeys(note for ranking in rankings for note in ranking.notes)
    return "".join(f'<p class="note">{escape(note)}</p>\n' for note in notes)


def _answer(result: ComposedResult) -> str:
    lines = [" · ".join([f"score {result.score:.4f}", *distance(result)])]
    lines += [f'<i class="n">{number}</i> {_said(part)}' for number, part in enumerate(result.parts, 1) if _said(part)]
    return picture_of(result, "<br>".join([*lines, *middle_of(result)]))


def _said(part: Likeness) -> str:
    if part.similarity is None:
        return ""
    cosine = _number(part.similarity, "z.3f")
    return cosine if part.z is None else f"{cosine} · {_number(part.z, '+z.1f')} σ"


def _number(value: float, form: str) -> str:
    """Return a number with a minus that is as wide as its plus, and none before 0."""
    return format(value, form).replace("-", "−")


def _column(ranking: ComposedRanking, before: set[int] | None) -> str:
    by_default = ' <span class="soft">default</span>' if ranking.lam == ranking.default_lambda else ""
    items = []
    for result in ranking:
        new = before is not None and result.image_id not in before
        facts = f"{result.score:.3f}" + (' · <b class="new">new</b>' if new else "")
        name = escape(result.name, quote=True)  # a narrow column cuts it
        items.append(f'<li title="{name}">{picture_of(result, facts, "new" if new else "", COLUMN_SIDE)}</li>')
    return f"<section><h3>λ {ranking.lam:g}{by_default}</h3><ol>{''.join(items)}</ol></section>"
