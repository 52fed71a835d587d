"""The client against a small database whose answers can be told by hand."""

import json

import numpy as np
import pytest

import geosearch
from geosearch.database.spaces import create_space
from geosearch.errors import GeosearchError, InputError, UnknownNameError
from geosearch.search.client import Client
from geosearch.search.ranking import Plan

KEYS = ["rank", "image_id", "name", "archive", "similarity", "distance_m", "lat", "lon", "uri"]


def names(ranking):
    return [f"{result.archive}/{result.name}" for result in ranking]


def test_a_vector_ranks_by_cosine(client):
    ranking = client.search(vector=[2, 0, 0, 0], k=3)
    assert names(ranking) == ["atlas/north", "atlas/south", "atlas/dateline"]
    assert [r.similarity for r in ranking] == pytest.approx([1.0, 0.8, 0.6], abs=1e-3)
    assert [r.rank for r in ranking] == [1, 2, 3]
    assert ranking.plan == Plan("exact", ranking.plan.estimated, 6, 3, 3, False)
    assert ranking.space == "four"


def test_the_document_has_the_promised_keys(client):
    document = json.loads(client.search(vector=[1, 0, 0, 0], near=(45, 10), k=2).to_json())
    assert list(document) == ["plan", "results"]
    assert list(document["plan"]) == ["strategy", "estimated", "candidates", "requested", "returned", "exhausted"]
    assert [list(result) for result in document["results"]] == [KEYS, KEYS]
    assert document["results"][0]["distance_m"] == 0
    assert document["results"][0]["lat"] == pytest.approx(45, abs=0.01)
    assert document["results"][0]["lon"] == pytest.approx(10, abs=0.01)


def test_a_circle_leaves_out_what_lies_elsewhere_but_not_what_may_reach_into_it(client):
    # The photo's nadir is 157 km away; that at (30, −100) is 8 800 km away, beyond radius and reach.
    ranking = client.search(vector=[1, 0, 0, 0], near=(45, 10), radius_km=100)
    assert names(ranking) == ["atlas/north", "crew/photo"]
    assert ranking.plan.exhausted
    assert ranking.results[1].distance_m == pytest.approx(157_700, rel=0.01)


def test_both_sides_of_the_antimeridian_are_one_place(client):
    for lon in (179.5, -179.5):
        ranking = client.search(vector=[1, 0, 0, 0], near=(-16.5, lon), radius_km=10, archive="atlas")
        assert names(ranking) == ["atlas/dateline"]
    assert abs(ranking.results[0].lon) == pytest.approx(180, abs=0.01)


def test_an_image_without_a_place_is_found_only_without_a_circle(client):
    assert "crew/nowhere" in names(client.search(vector=[0, 0, 0, 1]))
    nowhere = client.search(vector=[0, 0, 0, 1], k=1).results[0]
    assert (nowhere.lat, nowhere.lon, nowhere.distance_m, nowhere.shape) == (None, None, None, None)
    assert "crew/nowhere" not in names(client.search(vector=[0, 0, 0, 1], near=(0, 0), radius_km=20_040))


def test_an_archive_narrows(client):
    assert names(client.search(vector=[1, 0, 0, 0], archive="crew"))[0] == "crew/photo"
    with pytest.raises(GeosearchError, match=r"'atlantis'.*atlas, crew"):
        client.search(vector=[1, 0, 0, 0], archive="atlantis")


def test_like_finds_the_image_itself_first(client, filled):
    _, ids = filled
    for like in ("south", "atlas/south", ids["atlas/south"]):
        assert names(client.search(like=like, k=2)) == ["atlas/south", "atlas/dateline"]


def test_a_name_in_two_archives_must_be_made_unique(client):
    with pytest.raises(InputError, match="atlas/north, crew/north"):
        client.search(like="north")
    assert names(client.search(like="crew/north", k=1)) == ["crew/north"]
    # Where the answers are to come from an archive that has that name, that one is meant.
    assert names(client.search(like="north", archive="crew", k=1)) == ["crew/north"]


def test_unknown_images_and_spaces_are_named(client):
    with pytest.raises(UnknownNameError, match="no image is named 'east'"):
        client.search(like="east")
    with pytest.raises(UnknownNameError, match=r"no space is named 'five'.*four"):
        client.search(like="south", space="five")
    with pytest.raises(UnknownNameError, match="image"):
        client.search(like=10**12)


def test_an_image_without_a_vector_says_how_to_get_one(client, filled):
    conn, ids = filled
    conn.execute("delete from geosearch.space_four where image_id = %s", [ids["atlas/south"]])
    conn.commit()
    with pytest.raises(InputError, match="geosearch embed --space four"):
        client.search(like="south")


def test_a_vector_of_another_dimension_is_refused(client):
    with pytest.raises(InputError, match="4 dimensions; the vector has 3"):
        client.search(vector=[1, 2, 3])


def test_a_text_needs_a_space_with_a_model(client):
    with pytest.raises(InputError, match="no active space with a model"):
        client.search(text="a desert")
    with pytest.raises(InputError, match="space four has no model"):
        client.search(text="a desert", space="four")


def test_of_several_spaces_one_must_be_named(client, filled):
    conn, _ = filled
    create_space(conn, "other", 4)
    conn.commit()
    with pytest.raises(InputError, match="four, other"):
        client.search(like="south")
    assert names(client.search(like="south", space="four", k=1)) == ["atlas/south"]


def test_a_database_without_a_space_says_what_to_do(conn, database_url):
    with geosearch.connect(database_url) as gs, pytest.raises(InputError, match="geosearch space create"):
        gs.search(vector=[1.0])


def test_a_search_reads_only(client):
    seen = []
    ranked = Client._ranked

    def spy(self, *args):
        row = self.conn.execute("select current_setting('transaction_read_only')").fetchone()
        seen.append(row[0])
        return ranked(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Client, "_ranked", spy)
        client.search(vector=[1, 0, 0, 0])
    assert seen == ["on"]


def test_after_a_refusal_the_client_still_answers(client):
    with pytest.raises(InputError):
        client.search(vector=[1, 0, 0, 0], archive="atlantis")
    assert len(client.search(vector=[1, 0, 0, 0])) == 6


def test_the_cosine_is_that_of_the_stored_half_precision_values(client, filled):
    conn, ids = filled
    rng = np.random.default_rng(5)
    query = rng.normal(size=4)
    conn.execute(
        "update geosearch.space_four set embedding = '[0.1,0.2,0.3,0.9]' where image_id = %s", [ids["crew/photo"]]
    )
    conn.commit()
    stored = np.array([0.1, 0.2, 0.3, 0.9], np.float16).astype(float)
    unit = (query / np.linalg.norm(query)).astype(np.float16).astype(float)
    expected = stored @ unit / np.linalg.norm(stored) / np.linalg.norm(unit)
    found = {f"{r.archive}/{r.name}": r.similarity for r in client.search(vector=query)}
    assert found["crew/photo"] == pytest.approx(expected, abs=1e-6)
