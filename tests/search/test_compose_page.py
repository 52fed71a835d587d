"""Pages of composed rankings: self-contained, safe, and with all that was asked."""

import re

import pytest
from PIL import Image
from test_page import SQUARE, check

from geosearch.search.compose import Composition
from geosearch.search.compose_page import composed_page, composed_question, sweep_page
from geosearch.search.composed import ComposedPlan, ComposedRanking, ComposedResult, Likeness, RankedPart

PICTURE = Image.new("RGB", (300, 200), (10, 200, 30))
PARTS = (
    RankedPart("image", "a.jpg", 0.5, 0.25, 0.05, PICTURE),
    RankedPart("text", "snow", 0.25, 0.02, 0.01),
    RankedPart("without", "cloud", -0.25, 0.01, 0.02),
)
MET = (Likeness(0.3125, 1.25), Likeness(0.5, 48.0), Likeness(-0.03, 2.0))


def result(image_id, rank=1, name="a", parts=MET):
    return ComposedResult(rank, image_id, name, "atlas", 0.875, None, 45.0, 10.0, None, SQUARE, parts=parts)


def ranking(ids=(7,), lam=None, parts=PARTS, notes=(), name="a", met=MET, **asked):
    asked = {"image": PICTURE, "text": "snow", "without": "cloud", **asked}
    composition = Composition.of(**asked, lam=lam)
    results = [result(image_id, rank, name, met) for rank, image_id in enumerate(ids, 1)]
    plan = ComposedPlan("exact", composition.population, "kept", 9, 9, 3, 10, len(results), False)
    return ComposedRanking(plan, results, parts, composition, "four", composition.used_lambda(0.3), 0.3, tuple(notes))


@pytest.mark.parametrize("asked", [{}, {"near": (45, 10)}, {"near": (-17, 180), "radius_km": 0}, {"area": SQUARE}])
def test_a_page_is_whole_and_loads_nothing(asked):
    page = composed_page(ranking(**asked))
    check(page)
    assert page.count("data:image/jpeg;base64,") == 1  # the part; the answer has no file


def test_a_page_tells_all_that_was_asked_and_what_each_part_gave():
    page = composed_page(ranking())
    assert "<title>a.jpg + “snow” without “cloud”</title>" in page
    assert "<q>snow</q>" in page
    assert "<del>cloud</del>" in page
    assert "not wanted" in page
    assert "λ <b>0.3</b> (default)" in page
    assert "weight 0.50" in page
    assert "cos 0.250 ± 0.050" in page
    assert "score 0.8750" in page
    for said in ("0.312 · +1.2 σ", "0.500 · +48.0 σ", "−0.030 · +2.0 σ"):
        assert said in page
    assert "(default)" not in composed_page(ranking(lam=0.3))


def test_what_does_not_count_says_so():
    nothing = RankedPart("text", "snow", 0.0, None, None)
    page = composed_page(ranking(parts=(PARTS[0], nothing, PARTS[2]), met=(MET[0], Likeness(None, None), MET[2])))
    check(page)
    assert "does not count" in page
    # A baseline has cosines and no deviations.
    plain = composed_page(ranking(method="mean", met=(Likeness(0.5, None),) * 3))
    assert " σ" not in plain
    assert "mean of the similarities" in plain


def test_names_words_and_notes_cannot_become_markup():
    attack = "<script>alert(1)</script>\"'"
    parts = (
        RankedPart("like", attack, 0.5, 0.25, 0.05),
        RankedPart("text", attack, 0.25, 0.02, 0.01),
        RankedPart("without", attack, -0.25, 0.01, 0.02),
    )
    for page in (
        composed_page(ranking(parts=parts, name=attack, notes=[attack])),
        sweep_page([ranking(parts=parts, name=attack, notes=[attack], lam=lam) for lam in (0, 1)]),
    ):
        check(page)
        assert "&lt;script&gt;" in page


def test_a_page_without_answers_says_so():
    page = composed_page(ranking(ids=()))
    check(page)
    assert "No image" in page
    check(sweep_page([ranking(ids=(), lam=lam) for lam in (0, 1)]))


def test_questions_in_words():
    assert composed_question(PARTS) == "a.jpg + “snow” without “cloud”"
    assert composed_question(PARTS[2:]) == "Without “cloud”"
    assert composed_question([*PARTS[2:], *PARTS]) == "a.jpg + “snow” without “cloud” and “cloud”"


def test_a_sweep_has_a_column_a_lambda_and_marks_what_is_new():
    page = sweep_page([ranking((1, 2), lam=0), ranking((2, 3), lam=0.3), ranking((3, 2), lam=1)])
    check(page)
    assert re.findall(r"<h3>(λ [\d.]+)", page) == ["λ 0", "λ 0.3", "λ 1"]
    columns = page.split("<section>")[1:]
    assert len(columns) == 3
    # Nothing is new in the first; image 3 is in the second; the third has the same ones in another order.
    assert [column.count('class="answer new"') for column in columns] == [0, 1, 0]
    assert "default" in columns[1]
    assert "default" not in columns[0] + columns[2]
    assert "<b>3</b> images of <b>9</b> candidates" in page
    assert "map" not in page.split("<footer>")[1]  # there is none


def test_what_rounds_to_nothing_has_no_minus():
    page = composed_page(ranking(met=(Likeness(-0.0002, -0.02), *MET[1:])))
    assert "0.000 · +0.0 σ" in page
    assert "−0.000" not in page
    assert "−0.0 " not in page


def test_a_note_that_all_columns_have_is_there_once():
    page = sweep_page([ranking(lam=lam, notes=["the moments are late"]) for lam in (0, 0.5, 1)])
    assert page.count("the moments are late") == 1
