"""Composed questions over spaces of few images, equal images, one image or none; late moments; the models' lambda."""

from __future__ import annotations

import numpy as np
import psycopg
import pytest
from compose_truth import account, check, fill
from search_truth import Where, text

from geosearch.database.moments import compute_moments
from geosearch.database.spaces import create_space


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_scaling_a_part_changes_nothing_and_common_directions_do_not_either(conn):
    """A positive affine map of a similarity: a longer vector, or one more dimension in which all agree."""
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((400, 24))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    first = fill(conn, "plain", np.hstack([rows, np.zeros((400, 1))]))[0]
    moved = fill(conn, "lifted", np.hstack([rows, np.full((400, 1), 0.75)]))[0] - first
    image, words = np.hstack([rng.standard_normal((2, 24)), np.zeros((2, 1))])
    lifted = words / np.linalg.norm(words) * 0.6
    lifted[-1] = 0.8
    plain = account(conn, "plain", np.stack([image, words]), [0.6, 0.4], k=400)
    scaled = account(conn, "plain", np.stack([64 * image, words / 8]), [6, 4], k=400)
    mapped = account(conn, "lifted", np.stack([image, lifted]), [0.6, 0.4], k=400)
    assert scaled["ids"] == plain["ids"]
    np.testing.assert_allclose(scaled["tails"], plain["tails"], rtol=1e-6)
    # The lifted vectors are rounded anew, to 1e-3: in tails that is less than their spacing, but for the closest.
    np.testing.assert_allclose(
        np.array(mapped["tails"])[np.argsort(mapped["ids"])],
        np.array(plain["tails"])[np.argsort(plain["ids"])],
        atol=5e-3,
    )
    assert [i - moved for i in mapped["ids"][:5]] == plain["ids"][:5]


def test_images_that_are_all_the_same_come_in_the_order_of_ids(conn):
    ids = fill(conn, "same", np.tile([1.0, 2.0, 3.0], (30, 1)))
    found = account(conn, "same", np.eye(3)[:2], [0.5, 0.5], k=12)
    assert found["ids"] == ids[:12].tolist() and found["tails"] == [0.5] * 12
    assert max(found["deviations"]) < 1e-12 and found["scored"] == 30


def test_a_part_that_does_not_vary_counts_half(conn):
    """Its axis is the same in all images; at 0.5 each the other decides."""
    rng = np.random.default_rng(1)
    rows = np.hstack([unit(rng.standard_normal((50, 3))), np.ones((50, 1))]).astype(np.float16).astype(float)
    rows[:, :3] = np.round(rows[:, :3] * 4) / 4  # so that lengths, hence cosines with the last axis, may be equal
    rows = rows[np.isclose(np.linalg.norm(rows, axis=1), np.linalg.norm(rows, axis=1)[0])]
    ids = fill(conn, "flat", rows)
    vectors = np.array([[1.0, 2, 0, 0], [0, 0, 0, 1]])
    found = account(conn, "flat", vectors, [0.5, 0.5], k=5)
    check(found, rows, ids, vectors, [0.5, 0.5], k=5)
    assert found["deviations"][1] < 1e-6


def test_one_image_none_and_a_question_that_contradicts_itself(conn):
    create_space(conn, "nothing", 3)
    for population in ("space", "candidates"):
        found = account(conn, "nothing", np.eye(3)[:2], [1, 1], Where("POINT(0 0)"), population=population)
        assert (found["ids"], found["touched"], found["scored"]) == (None, 0, 0)
    ids = fill(conn, "single", np.array([[1.0, 1, 0]]))
    found = account(conn, "single", np.eye(3)[:2], [0.7, 0.3])
    assert (found["ids"], found["tails"], found["deviations"]) == (ids.tolist(), [0.5], [0, 0])
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((200, 6)).astype(np.float16).astype(float)
    ids = fill(conn, "many", rows)
    vector = rng.standard_normal(6)
    # An image and its opposite: every score is 0.5 but for noise, and no direction is left to look along.
    for weights in ([0.5, 0.5], [0.5000001, 0.4999999], [0.9, 0.1]):
        found = account(conn, "many", np.stack([vector, -vector]), weights, k=8)
        check(found, rows, ids, np.stack([vector, -vector]), weights, k=8)
    # Wanted and not wanted at once: z is added twice, as in wanting it alone.
    found = account(conn, "many", np.stack([vector, -vector]), [0.5, -0.5], k=200)
    assert found["ids"] == account(conn, "many", vector[None], [1], k=200)["ids"]


def test_an_image_far_from_all_others_is_no_underflow(conn):
    """z = √(n − 1) of one in n: Q(54) is 0 in PostgreSQL, which refuses to compute it by exp."""
    rows = np.tile([1.0, 0, 0, 0], (3000, 1))
    rows[7] = [0, 1, 0, 0]
    rows[9] = [0, 0, 1, 0]
    ids = fill(conn, "far", rows)
    found = account(conn, "far", np.eye(4)[1:3], [1 - 1e-14, 1e-14], k=3)
    assert found["ids"][0] == ids[7] and found["tails"][0] < 1e-13
    both = np.array([[0, 1.0, 0, 0], [0, 1, 0.01, 0]])
    # A worst tail of 0 has no z that could be its bound; with k = 1 it is the only one.
    for vectors, weights in ((both, [0.5, 0.5]), (both, [0.7, 0]), (both[:1], [1])):
        for k in (1, 2, 3, 3001):
            found = account(conn, "far", vectors, weights, k=k)
            assert len(found["ids"]) == min(k, 3000)
            assert found["ids"][0] == ids[7] and found["tails"][0] == 0


def test_late_moments_are_computed_with_a_word_or_refused(conn, database_url):
    rng = np.random.default_rng(9)
    rows = rng.standard_normal((300, 5)).astype(np.float16).astype(float)
    ids = fill(conn, "late", rows)
    conn.commit()
    vectors = rng.standard_normal((2, 5))
    notices: list[tuple[str | None, str | None]] = []
    conn.add_notice_handler(lambda d: notices.append((d.message_primary, d.message_hint)))

    def ask(late: str, **more: object) -> dict:
        notices.clear()
        return account(conn, "late", vectors, [0.5, 0.5], late=late, **more)  # type: ignore[arg-type]

    def refused(what: str) -> None:
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=what) as caught, conn.transaction():
            ask("refuse")
        assert "geosearch space moments late" in (caught.value.diag.message_hint or "")

    found = ask("compute")
    check(found, rows, ids, vectors, [0.5, 0.5])
    assert found["moments"] == "computed" and len(notices) == 1
    assert "never computed" in (notices[0][0] or "") and "geosearch space moments late" in (notices[0][1] or "")
    refused("never computed")
    conn.commit()
    compute_moments(database_url, "late")
    found = ask("refuse")
    check(found, rows, ids, vectors, [0.5, 0.5])
    assert found["moments"] == "kept" and not notices

    conn.execute("update geosearch.space_late set embedding = '[9,1,1,1,1]' where image_id = %s", [int(ids[0])])
    rows[0] = [9, 1, 1, 1, 1]
    found = ask("compute")
    check(found, rows, ids, vectors, [0.5, 0.5])
    assert found["moments"] == "computed" and "late" in (notices[0][0] or "")
    refused("late: its vectors have changed")
    # Statistics of the candidates, and means of similarities, need no moments.
    for more in ({"population": "candidates", "where": Where(among=ids[:50].tolist())}, {"method": "mean"}):
        assert ask("refuse", **more)["ids"] and not notices
    conn.rollback()


def test_the_default_of_lambda_is_the_models(conn):
    expected = {
        None: 0.5,
        "remoteclip:ViT-B-32": 0.6,
        "open_clip:ViT-L-14/openai": 0.3,
        "open_clip:ViT-B-32/file:/w/RemoteCLIP-ViT-B-32.pt?norm=openai": 0.6,
        "something:else": 0.5,
    }
    rng = np.random.default_rng(2)
    for n, (name, value) in enumerate(expected.items()):
        if name is not None:
            conn.execute(
                "insert into geosearch.model (name, family, dimension, weights_sha256, preprocessing)"
                " values (%s, %s, 6, %s, '{}')",
                [name, name.partition(":")[0], f"{n:064}"],
            )
        space = f"s{n}"
        create_space(conn, space, 6, name)
        assert conn.execute("select geosearch.default_lambda(%s)", [space]).fetchone() == (value,)
        ids = conn.execute(
            "insert into geosearch.archive (name) values (%s) returning id", [space]
        ).fetchone()  # fmt: skip
        conn.execute(
            "insert into geosearch.image (archive_id, name, reach_m) select %s, g::text, 0"
            " from generate_series(1, 40) g",
            ids,
        )
        conn.execute(
            f"insert into geosearch.space_{space} (image_id, embedding)"
            " select i.id, array[sin(i.id), cos(i.id * 3), sin(i.id * 5), 1, cos(i.id * 7), sin(i.id * 11)]::vector"
            " from geosearch.image i where i.archive_id = %s",
            ids,
        )
        given = [text(v) for v in rng.standard_normal((2, 6))]
        statement = "select image_id, similarity from geosearch.compose(%s, %s, %s{})"
        plain = conn.execute(statement.format(""), [space, *given]).fetchall()
        assert plain == conn.execute(statement.format(", %s"), [space, *given, value]).fetchall()
