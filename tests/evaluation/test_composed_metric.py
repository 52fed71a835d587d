"""PatternCom's protocol: worked by hand, against scikit-learn, plain rankings and the paper's own means."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest

from geosearch.compose.reference import compose
from geosearch.errors import InputError
from geosearch.evaluation import composed_metric as metric
from geosearch.evaluation import composed_ranking
from geosearch.evaluation.composed import CHANCE, Labelled, Report, Way, evaluate, questions, ways
from geosearch.evaluation.composed_metric import Scores, average_precision, chance, ranks_of, score


def _at(*degrees: float) -> np.ndarray:
    """Return unit vectors in a plane: the nearer their angles, the greater their similarity."""
    return np.c_[np.cos(np.radians(degrees)), np.sin(np.radians(degrees))]


@pytest.fixture
def pools() -> Labelled:
    """Four pools (one of them oval), a roof that is rectangular too, and a picture without a label."""
    return Labelled(
        ["oval", "near", "unlabelled", "middle", "roof", "far"],
        ["pool", "pool", "", "pool", "roof", "pool"],
        {"shape": ["oval", "rectangular", None, "rectangular", "rectangular", "rectangular"]},
        _at(0, 10, 21, 33, 40, 52),
    )


TEXTS = {"rectangular": _at(41)[0], "oval": _at(-20)[0]}


class TestByHand:
    def test_questions_are_other_values_of_the_class(self, pools: Labelled) -> None:
        assert [(q.image, q.value, q.relevant.tolist()) for q in questions(pools, "shape")] == [
            (0, "rectangular", [1, 3, 5]),
            (1, "oval", [0]),
            (3, "oval", [0]),
            (5, "oval", [0]),
        ]  # the roof's class has no other value

    def test_average_precision_with_the_query_in_the_pool(self, pools: Labelled) -> None:
        report = evaluate(pools, TEXTS, [0.5])
        # From 0°: itself, 10° hit, 21°, 33° hit, 40° roof, 52° hit: (1/2 + 2/4 + 3/6) / 3. From 10°: itself, 0° hit.
        # From 33° and from 52° the oval pool is the last of six: 1/6, which is rounded to 16.67 before the mean.
        assert report.scores["shape"]["image"].ap == pytest.approx((50 + 50 + 16.67 + 16.67) / 4, abs=1e-9)
        # "rectangular" at 41°: roof, 33° hit, 52° hit, 21°, 10° hit, 0°. "oval" at -20°: 0° comes first, three times.
        text = report.scores["shape"]["text"]
        assert text.ap == pytest.approx((58.89 + 300) / 4, abs=1e-9)
        assert text.questions == 4
        # Of the first five: three, then one each.
        assert text.precision[5] == pytest.approx((60 + 3 * 20) / 4)
        assert text.recall[5] == pytest.approx(100)
        assert report.scores["shape"]["image"].recall[5] == pytest.approx((66.67 + 100 + 0 + 0) / 4)

    def test_p_at_k_beyond_the_pool_is_still_out_of_k(self, pools: Labelled) -> None:
        report = evaluate(pools, TEXTS, [0.5], ks=(20,))
        assert report.scores["shape"]["image"].precision[20] == pytest.approx((15 + 3 * 5) / 4)
        assert report.scores["shape"]["image"].recall[20] == 100

    def test_merged_classes_are_asked_for_within_their_own(self) -> None:
        """Classes a1 and a2 are one when an answer is judged, but b is asked for only where a1 shows it."""
        labelled = Labelled(
            list("wxyz"),
            ["a"] * 4,
            {"c": ["red", "blue", "red", "green"]},
            _at(0, 1, 2, 3),
            {"c": ["1", "1", "2", "2"]},
        )
        asked = {(q.image, q.value): q.relevant.tolist() for q in questions(labelled, "c")}
        assert asked == {(0, "blue"): [1], (1, "red"): [0, 2], (2, "green"): [3], (3, "red"): [0, 2]}


class TestAverage:
    # The paper's table, CLIP ViT-L/14 and RemoteCLIP: color, context, density, existence, quantity, shape, average.
    @pytest.mark.parametrize(
        "row",
        [
            (13.47, 4.83, 3.58, 4.38, 3.31, 6.22, 5.97),
            (14.66, 8.32, 13.49, 13.50, 7.84, 15.76, 12.26),
            (23.13, 11.02, 15.87, 13.77, 10.13, 21.38, 15.88),
            (46.08, 17.45, 16.49, 9.24, 18.15, 23.97, 21.90),
            (10.75, 8.87, 22.16, 12.49, 8.25, 24.12, 14.44),
            (43.68, 31.45, 39.94, 14.27, 20.51, 29.78, 29.94),
        ],
    )
    def test_it_is_the_plain_mean_of_attributes_as_in_the_paper(self, row: tuple[float, ...]) -> None:
        names = ("color", "context", "density", "existence", "quantity", "shape")
        scores = {
            name: {"text": Scores(10 ** (i + 1), ap, {}, {})}
            for i, (name, ap) in enumerate(zip(names, row, strict=False))
        }
        assert Report(1, (Way("text"),), scores).average("text").ap == pytest.approx(row[-1], abs=0.0051)

    def test_reports_of_attributes_join(self, pools: Labelled) -> None:
        one = evaluate(pools, TEXTS, [0.5])
        other = evaluate(
            Labelled(pools.names, pools.classes, {"form": pools.values["shape"]}, pools.vectors), TEXTS, [0.5]
        )
        both = Report.joined([one, other])
        assert list(both.scores) == ["shape", "form"]
        assert both.average("mean").ap == pytest.approx(one.average("mean").ap)
        with pytest.raises(InputError, match="in the same ways"):
            Report.joined([one, evaluate(pools, TEXTS, [0.6])])


class TestMetric:
    def test_against_scikit_learn_on_random_rankings(self) -> None:
        sklearn = pytest.importorskip("sklearn.metrics")
        rng = np.random.default_rng(0)
        for n in (5, 40, 700):
            costs = rng.permutation(n).astype(float)
            relevant = np.flatnonzero(rng.random(n) < 0.3) if n > 5 else np.array([2])
            ranks = ranks_of(costs, np.sort(costs), relevant)
            expected = sklearn.average_precision_score(np.isin(np.arange(n), relevant), -costs)
            assert average_precision(ranks) == pytest.approx(expected, abs=1e-12)

    def test_figures_of_a_question_are_rounded_to_two_places(self) -> None:
        got = score([1, 3, 8], ks=(3, 7))
        assert got == Scores(1, 68.06, {3: 66.67, 7: 28.57}, {3: 66.67, 7: 66.67})  # (1 + 2/3 + 3/8) / 3 = 0.680556

    def test_no_relevant_image_counts_as_nothing_found(self) -> None:
        assert score([], ks=(5,)) == Scores(1, 0.0, {5: 0.0}, {5: 0.0})
        assert chance(0, 10, ks=(5,)) == Scores(1, 0.0, {5: 0.0}, {5: 0.0})

    @pytest.mark.parametrize("m", [1, 2, 4, 6])
    def test_chance_is_the_mean_over_all_orders(self, m: int) -> None:
        every = [np.array(order[:m]) for order in permutations(range(1, 7))]
        expected = chance(m, 6, ks=(2, 5, 8))
        assert expected.ap == pytest.approx(100 * np.mean([average_precision(ranks) for ranks in every]))
        for k in (2, 5, 8):
            found = np.mean([(ranks <= k).sum() for ranks in every])
            assert expected.precision[k] == pytest.approx(100 * found / k)
            assert expected.recall[k] == pytest.approx(100 * found / m)

    def test_equal_costs_rank_by_position(self) -> None:
        costs = np.array([2.0, 1.0, 2.0, 2.0, 0.0, 2.0])
        assert ranks_of(costs, np.sort(costs), np.array([5, 0, 3, 4, 1])).tolist() == [6, 3, 5, 1, 2]

    @pytest.mark.parametrize("ranks", [[0, 1], [2, 2]])
    def test_impossible_ranks_are_refused(self, ranks: list[int]) -> None:
        with pytest.raises(InputError, match="count from 1"):
            average_precision(ranks)


def _world(n: int, seed: int) -> tuple[Labelled, dict[str, Any]]:
    """Return pictures of two classes and two attributes, some of them equal, some unlabelled; and texts."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 6)).astype(np.float32)
    vectors[n // 2 : n // 2 + 8] = vectors[:8]  # pictures that are in the archive twice
    labels = {
        name: [v if rng.random() < 0.6 else None for v in rng.choice(list(values), n).tolist()]
        for name, values in (("shape", "xyz"), ("color", "rg"))
    }
    texts = {value: rng.normal(size=6) for value in "xyzrg"}
    return Labelled([f"{i}" for i in range(n)], rng.choice(["a", "b"], n).tolist(), labels, vectors), texts


@pytest.mark.parametrize("way", ways([0, 0.3, 0.5, 1]), ids=lambda way: way.name)
def test_every_method_ranks_as_the_reference(way: Way) -> None:
    """The protocol written down a second time, over full rankings of `geosearch.compose.reference`."""
    labelled, texts = _world(120, 1)
    report = evaluate(labelled, texts, [0, 0.3, 0.5, 1])
    for attribute, values in labelled.values.items():
        aps = []
        for i, own in enumerate(values):
            if own is None:
                continue
            there = {v for v, c in zip(values, labelled.classes, strict=True) if c == labelled.classes[i]} - {None, own}
            for value in sorted(v for v in there if v):
                lam = 0.5 if way.lam is None else way.lam
                order = compose(labelled.vectors, labelled.vectors[i], texts[value], lam, way.method).order
                hits = np.array([values[j] == value and labelled.classes[j] == labelled.classes[i] for j in order])
                precision = np.cumsum(hits) / np.arange(1, len(order) + 1)
                aps.append(round(float(precision[hits].mean()) * 100, 2))
        got = report.scores[attribute][way.name]
        assert got.questions == len(aps)
        assert got.ap == pytest.approx(np.mean(aps), abs=1e-9)


def test_a_report_does_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    labelled, texts = _world(90, 2)
    whole = evaluate(labelled, texts, [0.4])
    monkeypatch.setattr(composed_ranking, "BLOCK", 1)
    assert evaluate(labelled, texts, [0.4]) == whole == evaluate(labelled, texts, [0.4])


def test_a_text_that_tells_nothing_leaves_the_image_to_decide() -> None:
    """Equal similarities have no deviation: Φ is 0.5 for all, and no NaN comes of it."""
    vectors = np.c_[_at(0, 10, 21, 33, 40, 52), np.zeros(6)]
    labelled = Labelled(list("abcdef"), ["pool"] * 6, {"shape": ["o", "r", "r", "o", "r", "o"]}, vectors)
    report = evaluate(labelled, {"o": [0, 0, 1], "r": [0, 0, 1]}, [0.5])
    assert report.scores["shape"]["weicom 0.5"].ap == report.scores["shape"]["image"].ap


class TestReport:
    def test_rows_hold_every_attribute_and_way_and_the_averages(self) -> None:
        labelled, texts = _world(80, 3)
        done = []
        report = evaluate(labelled, texts, [0.2, 0.1], progress=lambda *counts: done.append(counts))
        names = [CHANCE, "text", "image", "mean", "weicom 0.1", "weicom 0.2"]
        assert [row["method"] for row in report.table()] == names == [row["method"] for row in report.at_k()]
        rows = report.rows()
        assert len(rows) == 3 * len(names)
        assert set(rows[0]) == {"attribute", "method", "lambda", "questions", "mAP"} | {
            f"{figure}@{k}" for figure in "PR" for k in metric.KS
        }
        total = sum(len(questions(labelled, name)) for name in ("shape", "color"))
        assert rows[-1]["questions"] == total == done[-1][0] == done[-1][1]
        assert report.best().lam == max([0.1, 0.2], key=lambda lam: report.average(f"weicom {lam}").ap)

    def test_what_cannot_be_measured_is_refused(self, pools: Labelled) -> None:
        with pytest.raises(InputError, match="no text vector is given for 'oval'"):
            evaluate(pools, {"rectangular": TEXTS["rectangular"]})
        with pytest.raises(InputError, match="no attribute 'colour'; there are: shape"):
            evaluate(pools, TEXTS, attributes=["colour"])
        with pytest.raises(InputError, match="lambda is the weight of the text"):
            evaluate(pools, TEXTS, [1.5])
        with pytest.raises(InputError, match="lambda is the weight of the text"):
            evaluate(pools, TEXTS, [float("nan")])
        with pytest.raises(InputError, match="'oval' has 3 dimensions, the images have 2"):
            evaluate(pools, {**TEXTS, "oval": [1, 0, 0]})
        with pytest.raises(InputError, match="image 2 is zero"):
            evaluate(
                Labelled(pools.names, pools.classes, pools.values, pools.vectors * [[1], [1], [0], [1], [1], [1]]),
                TEXTS,
            )
        with pytest.raises(InputError, match="no class has two values of 'shape'"):
            evaluate(Labelled(["a"], ["pool"], {"shape": ["oval"]}, _at(0)), TEXTS)
        with pytest.raises(InputError, match="6 images, but 5 entries of 'vectors'"):
            Labelled(pools.names, pools.classes, pools.values, pools.vectors[:5])
