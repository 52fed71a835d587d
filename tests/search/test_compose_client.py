"""Composed questions through the client: the answers of the NumPy reference, and how the rest is refused."""

import json

import numpy as np
import pytest
from composed_space import write_composed_space

from geosearch.database.connection import connect
from geosearch.encoders import registry
from geosearch.errors import GeosearchError, InputError, UnknownNameError
from geosearch.search.client import Client
from geosearch.search.compose import LAMBDAS, Composition

TEXT, OTHER, UNWANTED = "a desert", "the sea", "clouds"
PLACES = {"even": (46.0, 9.0), "odd": (-3.0, -60.0)}


@pytest.fixture
def filled(conn, tmp_path):
    return write_composed_space(conn, tmp_path)


@pytest.fixture
def client(filled, database_url):
    with Client(connect(database_url, autocommit=True)) as opened:
        yield opened


def ids(ranking):
    return [result.image_id for result in ranking]


def check(ranking, expected):
    """The reference's order and scores, and similarities and z of which the scores are made."""
    order, found = expected
    assert ids(ranking) == order[: len(ranking)]
    best = found.scores[found.order[: len(ranking)]]
    np.testing.assert_allclose([result.score for result in ranking], best, atol=1e-4)


@pytest.mark.parametrize("lam", [0.0, 0.1, 0.3, 0.5, 0.9, 1.0])
def test_an_image_and_a_text(client, filled, lam):
    image, text = filled.vector(image=filled.pictures[0]), filled.vector(text=TEXT)
    ranking = client.compose(image=filled.pictures[0], text=TEXT, lam=lam, k=60)
    check(ranking, filled.expected([image, text], [1 - lam, lam]))
    assert ranking.plan.candidates == ranking.plan.returned == 60
    assert ranking.plan.exhausted
    assert ranking.lam == lam


def test_every_part_says_its_similarity_and_how_unusual_that_is(client, filled):
    vectors = [filled.vector(image=filled.pictures[0]), filled.vector(text=TEXT), filled.vector(text=UNWANTED)]
    ranking = client.compose(image=filled.pictures[0], text=TEXT, without=UNWANTED, lam=0.4, k=60)
    check(ranking, filled.expected(vectors, [0.6, 0.2, -0.2]))
    assert [(part.kind, part.label) for part in ranking.parts] == [
        ("image", "0.png"), ("text", TEXT), ("without", UNWANTED)
    ]  # fmt: skip
    np.testing.assert_allclose([part.weight for part in ranking.parts], [0.6, 0.2, -0.2])
    unit = filled.rows / np.linalg.norm(filled.rows, axis=1, keepdims=True)
    for j, vector in enumerate(vectors):
        cosines = unit @ vector / np.linalg.norm(vector)
        by_id = dict(zip(filled.ids, cosines, strict=True))
        z = {i: [1, 1, -1][j] * (c - cosines.mean()) / cosines.std(ddof=1) for i, c in by_id.items()}
        assert ranking.parts[j].mean == pytest.approx(cosines.mean(), abs=1e-5)
        assert ranking.parts[j].deviation == pytest.approx(cosines.std(ddof=1), abs=1e-5)
        for result in ranking:
            assert result.parts[j].similarity == pytest.approx(by_id[result.image_id], abs=1e-5)
            assert result.parts[j].z == pytest.approx(z[result.image_id], abs=1e-3)


def test_the_ends_of_lambda_are_plain_searches(client, filled):
    picture = filled.pictures[1]
    for lam, plain in ((0, {"image": picture}), (1, {"text": TEXT})):
        ranking = client.compose(image=picture, text=TEXT, lam=lam, k=60)
        assert ids(ranking) == ids(client.search(**plain, k=60))
        # What does not count is neither looked at nor told.
        assert ranking.parts[1 - lam].weight == 0
        assert ranking.results[0].parts[1 - lam].similarity is None


def test_several_images_and_texts_with_weights(client, filled):
    images = [filled.vector(image=picture) for picture in filled.pictures]
    texts = [filled.vector(text=text) for text in (TEXT, OTHER, UNWANTED)]
    ranking = client.compose(
        image=filled.pictures, like="even/4", text=[TEXT, OTHER], without=[UNWANTED], weights=[2, 1, 3, 1, 1, 2], k=20
    )
    check(ranking, filled.expected([*images, filled.stored(4), *texts], [2, 1, 3, 1, 1, -2]))
    assert ranking.lam is None
    np.testing.assert_allclose([part.weight for part in ranking.parts], np.array([2, 1, 3, 1, 1, -2]) / 10)
    assert ranking.parts[2].label == "even/4"


def test_lambda_is_shared_out_within_a_kind(client, filled):
    ranking = client.compose(image=filled.pictures, like=filled.ids[4], text=TEXT, without=[OTHER, UNWANTED], lam=0.6)
    np.testing.assert_allclose([part.weight for part in ranking.parts], [*[0.4 / 3] * 3, 0.2, -0.2, -0.2])
    alone = client.compose(text=TEXT, without=UNWANTED, lam=0.6)
    np.testing.assert_allclose([part.weight for part in alone.parts], [0.5, -0.5])
    assert alone.lam is None


def test_catalogued_images_alone_need_no_model(client, filled, monkeypatch):
    monkeypatch.setattr(registry, "load", lambda *_, **__: pytest.fail("the model was loaded"))
    ranking = client.compose(like=["even/4", "7"], k=60)
    check(ranking, filled.expected([filled.stored(4), filled.stored(7)], [0.5, 0.5]))
    assert ids(client.compose(like="4")) == ids(client.search(like="4"))


@pytest.mark.parametrize("population", ["space", "candidates"])
@pytest.mark.parametrize(
    ("filters", "passes"),
    [
        ({"near": PLACES["even"], "radius_km": 100}, lambda n: n % 2 == 0),
        ({"archive": "odd"}, lambda n: n % 2 == 1),
        ({"captured_from": "2024-06-11T12:00:00Z", "captured_to": "2024-06-21T12:00:00Z"}, lambda n: 10 <= n < 20),
        ({"properties": {"roll": 1}}, lambda n: n % 3 == 1),
        (
            {"area": {"type": "Polygon", "coordinates": [[[8, 45], [10, 45], [10, 47], [8, 47], [8, 45]]]}},
            lambda n: n % 2 == 0,
        ),
        ({"near": PLACES["odd"], "radius_km": 100, "properties": {"roll": 0}}, lambda n: n % 6 == 3),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_filters_narrow_and_the_population_is_a_choice(client, filled, population, filters, passes):
    vectors = [filled.vector(image=filled.pictures[0]), filled.vector(text=TEXT)]
    ranking = client.compose(image=filled.pictures[0], text=TEXT, lam=0.3, k=60, population=population, **filters)
    rows = [n for n in range(60) if passes(n)]
    check(ranking, filled.expected(vectors, [0.7, 0.3], rows, population=population))
    assert ranking.plan.candidates == ranking.plan.returned == len(ranking) == len(rows)
    assert ranking.plan.population == population


def test_baselines(client, filled):
    vectors = [filled.vector(image=filled.pictures[0]), filled.vector(text=TEXT)]
    asked = {"image": filled.pictures[0], "text": TEXT, "k": 60}
    for lam, weights in ((None, [0.5, 0.5]), (0.2, [0.8, 0.2])):
        ranking = client.compose(**asked, method="mean", lam=lam)
        check(ranking, filled.expected(vectors, weights, method="mean"))
        assert ranking.lam == weights[1]
    for method in ("image", "text"):
        ranking = client.compose(**asked, method=method)
        plain = client.search(**{method: asked[method]}, k=60)
        assert ids(ranking) == ids(plain)
        np.testing.assert_allclose(
            [result.score for result in ranking], [result.similarity for result in plain], atol=1e-6
        )


def test_lambda_is_the_models_default_unless_it_is_given(client, filled):
    ranking = client.compose(image=filled.pictures[0], text=TEXT)
    (default,) = client.conn.execute("select geosearch.default_lambda('tiny')").fetchone()
    assert ranking.lam == ranking.default_lambda == default
    assert ranking == client.compose(image=filled.pictures[0], text=TEXT, lam=default)
    document = json.loads(ranking.to_json())
    assert (document["lambda"], document["lambda_given"]) == (default, False)


def test_the_document(client, filled):
    document = json.loads(client.compose(image=filled.pictures[0], text=TEXT, near=PLACES["even"], k=2).to_json())
    assert list(document) == [
        "plan", "space", "method", "lambda", "lambda_given", "default_lambda", "parts", "results", "notes"
    ]  # fmt: skip
    assert list(document["plan"]) == [
        "strategy", "population", "moments", "candidates", "touched", "scored", "requested", "returned", "exhausted"
    ]  # fmt: skip
    assert [list(part) for part in document["parts"]] == [["kind", "label", "weight", "mean", "deviation"]] * 2
    keys = ["rank", "image_id", "name", "archive", "score", "distance_m", "lat", "lon", "uri", "parts"]
    assert [list(result) for result in document["results"]] == [keys, keys]
    assert [list(part) for part in document["results"][0]["parts"]] == [["similarity", "z"]] * 2


def test_a_sweep_is_its_lambdas_one_by_one(client, filled, monkeypatch):
    encoded = []
    encode = Client._encode
    monkeypatch.setattr(
        Client, "_encode", lambda self, space, item, near=None: encoded.append(item) or encode(self, space, item, near)
    )
    asked = Composition.of(image=filled.pictures[0], text=TEXT, without=UNWANTED, k=7)
    rankings = client.sweep(asked)
    assert len(encoded) == 3
    assert [ranking.lam for ranking in rankings] == list(LAMBDAS) == pytest.approx(np.linspace(0, 1, 11))
    for ranking in rankings:
        assert ranking == client.compose(image=filled.pictures[0], text=TEXT, without=UNWANTED, k=7, lam=ranking.lam)


def test_a_sweep_sees_one_state_of_the_database(client, filled, monkeypatch):
    """An image that comes while the sweep is at work is in none of its rankings."""
    from geosearch.search import compose_run

    ranked = compose_run._ranked

    def remove_then_rank(*arguments):
        filled.conn.execute("delete from geosearch.space_tiny where image_id = (select min(image_id) from"
                            " geosearch.space_tiny)")  # fmt: skip
        filled.conn.commit()
        return ranked(*arguments)

    monkeypatch.setattr(compose_run, "_ranked", remove_then_rank)
    rankings = client.sweep(Composition.of(image=filled.pictures[0], text=TEXT, k=60), (0, 0.5, 1))
    assert [len(ranking) for ranking in rankings] == [60, 60, 60]
    assert len(client.search(text=TEXT, k=60)) == 57


@pytest.mark.parametrize(
    "asked",
    [
        {"image": True},
        {"text": TEXT},
        {"image": True, "text": TEXT, "lam": 0.5},
        {"image": True, "text": TEXT, "weights": [1, 1]},
        {"image": True, "text": TEXT, "method": "text"},
    ],
    ids=str,
)
def test_a_sweep_of_what_lambda_does_not_change_is_refused(client, filled, asked):
    given = {**asked, "image": filled.pictures[0]} if "image" in asked else asked
    with pytest.raises(InputError, match="sweep"):
        client.sweep(Composition.of(**given))


def test_a_sweep_of_no_lambda_is_refused(client, filled):
    with pytest.raises(InputError, match="at least one lambda"):
        client.sweep(Composition.of(image=filled.pictures[0], text=TEXT), [])


def test_late_moments_are_computed_with_a_note_or_refused(client, filled):
    asked = {"image": filled.pictures[0], "text": TEXT, "lam": 0.3}
    computed = client.compose(**asked)
    assert computed.plan.moments == "computed"
    assert len(computed.notes) == 1
    assert "geosearch space moments tiny" in computed.notes[0]
    with pytest.raises(InputError, match="geosearch space moments tiny"):
        client.compose(**asked, late="refuse")
    # Over the candidates nothing is kept, so nothing can be late.
    assert client.compose(**asked, late="refuse", population="candidates", archive="even").notes == ()


def test_kept_moments_give_the_same_answers(client, filled, database_url):
    from geosearch.database.moments import compute_moments

    asked = {"image": filled.pictures[0], "text": TEXT, "without": UNWANTED, "k": 60, "lam": 0.3}
    computed = client.compose(**asked)
    compute_moments(database_url, "tiny")
    kept = client.compose(**asked, late="refuse")
    assert (kept.plan.moments, kept.notes) == ("kept", ())
    assert ids(kept) == ids(computed)
    np.testing.assert_allclose([r.score for r in kept], [r.score for r in computed], atol=1e-5)


def test_what_does_not_vary_says_nothing(client, filled):
    filled.conn.execute("update geosearch.space_tiny set embedding = (select embedding from geosearch.space_tiny"
                        " order by image_id limit 1)")  # fmt: skip
    filled.conn.commit()
    ranking = client.compose(image=filled.pictures[0], text=TEXT, lam=0.3)
    assert {result.score for result in ranking} == {0.5}
    assert {part.z for result in ranking for part in result.parts} == {0.0}
    assert ids(ranking) == filled.ids[:10]


def test_an_empty_archive_has_no_answers(client, filled):
    filled.conn.execute("delete from geosearch.space_tiny")
    filled.conn.commit()
    ranking = client.compose(image=filled.pictures[0], text=TEXT)
    assert (len(ranking), ranking.plan.candidates, ranking.plan.exhausted) == (0, 0, True)


def test_a_composition_reads_only_and_the_client_answers_after_a_refusal(client, filled):
    with pytest.raises(GeosearchError, match="atlantis"):
        client.compose(text=TEXT, archive="atlantis")
    with pytest.raises(UnknownNameError, match="no image is named 'east'"):
        client.compose(text=TEXT, like="east")
    with pytest.raises(UnknownNameError, match="no space is named 'nowhere'"):
        client.compose(text=TEXT, space="nowhere")
    filled.conn.execute("delete from geosearch.space_tiny where image_id = %s", [filled.ids[4]])
    filled.conn.commit()
    with pytest.raises(InputError, match="geosearch embed --space tiny"):
        client.compose(like="4", text=TEXT)
    assert len(client.compose(text=TEXT)) == 10
