"""PatternCom's files and folders of one's own, what is wrong with them, and vectors that an interrupted run keeps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from geosearch.encoders.base import ModelInfo, Vectors
from geosearch.errors import InputError, ModelError
from geosearch.evaluation import picture_vectors
from geosearch.evaluation.composed import evaluate, questions
from geosearch.evaluation.labels import Labels
from geosearch.evaluation.patterncom import MERGED, class_of, read_labels
from geosearch.evaluation.picture_vectors import cache_name, encode_pictures, encode_texts
from geosearch.item import Item


def _pictures(folder: Path, *names: str) -> Path:
    """Make pictures of one colour each, all different, below a folder."""
    for i, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (i * 7 % 256, i * 31 % 256, 200 - i)).save(path)
    return folder


def _write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.fixture
def patternnet(tmp_path: Path) -> Path:
    """The published layout in small: pictures in folders of classes, and a table an attribute without a header."""
    _pictures(
        tmp_path / "images",
        "bridge/bridge001.jpg", "bridge/bridge002.jpg", "overpass/overpass001.jpg", "overpass/overpass002.jpg",
        "swimming_pool/swimmingpool001.jpg", "swimming_pool/swimmingpool002.jpg", "swimming_pool/swimmingpool003.jpg",
    )  # fmt: skip
    tables = tmp_path / "PatternCom"
    _write(tables / "context.csv", "bridge001.jpg,context,river", "overpass001.jpg,context,road",
           "overpass002.jpg,context,road")  # fmt: skip
    _write(tables / "color.csv", "bridge001.jpg,color,white", "bridge002.jpg,color,grey", "overpass001.jpg,color,grey",
           "overpass002.jpg,color,grey")  # fmt: skip
    _write(tables / "shape.csv", "swimmingpool001.jpg,shape,oval", "swimmingpool003.jpg,shape,kidney-shaped")
    return tmp_path


def _asked(labels: Labels, attribute: str) -> list[tuple[str, str, list[str]]]:
    """Return an attribute's questions by the names of pictures."""
    names = [Path(name).stem for name in labels.names]
    labelled = labels.labelled(np.ones((len(names), 1)))
    return [(names[q.image], q.value, [names[i] for i in q.relevant]) for q in questions(labelled, attribute)]


class TestPublishedLayout:
    def test_every_picture_is_in_the_pool_and_classes_are_those_of_file_names(self, patternnet: Path) -> None:
        labels = read_labels(patternnet / "images", [patternnet / "PatternCom"])
        assert len(labels.names) == 7
        assert list(labels.values) == ["color", "context", "shape"]
        assert _asked(labels, "shape") == [
            ("swimmingpool001", "kidney-shaped", ["swimmingpool003"]),
            ("swimmingpool003", "oval", ["swimmingpool001"]),
        ]
        assert labels.texts(["shape", "context"]) == ["kidney-shaped", "oval", "river", "road"]

    def test_bridges_and_overpasses_are_one_class_for_context(self, patternnet: Path) -> None:
        labels = read_labels(patternnet / "images", [patternnet / "PatternCom" / "context.csv"])
        assert _asked(labels, "context") == [
            ("bridge001", "road", ["overpass001", "overpass002"]),
            ("overpass001", "river", ["bridge001"]),
            ("overpass002", "river", ["bridge001"]),
        ]

    def test_for_other_attributes_they_are_asked_apart_and_judged_together(self, patternnet: Path) -> None:
        """As the published evaluation: prompts merge classes for one attribute, relevance merges them for all."""
        labels = read_labels(patternnet / "images", [patternnet / "PatternCom" / "color.csv"])
        assert _asked(labels, "color") == [
            ("bridge001", "grey", ["bridge002", "overpass001", "overpass002"]),
            ("bridge002", "white", ["bridge001"]),
        ]  # overpasses have one colour alone

    def test_merged_classes(self) -> None:
        assert class_of("images/dense_residential/denseresidential012.jpg") == "denseresidential"
        assert {MERGED[c] for c in ("harbor", "ferryterminal")} == {"pier"}
        assert {MERGED[c] for c in ("closedroad", "intersection")} == {"road"}
        assert len(MERGED) == 10

    def test_account_counts_all_in_and_out(self, patternnet: Path) -> None:
        _write(patternnet / "PatternCom" / "shape.csv", "swimmingpool001.jpg,shape,oval",
               "swimmingpool001.jpg,shape,oval", "swimmingpool003.jpg,shape,round")  # fmt: skip
        labels = read_labels(patternnet / "images", [patternnet / "PatternCom"])
        account = labels.account()
        assert account["pictures"] == 7 == account["labelled"] + account["unlabelled"]
        assert account["unlabelled"] == 1
        assert account["labels"] == 10
        assert account["repeated labels left out"] == 1
        assert account["attributes"]["color"] == {"pictures": 4, "values": 2, "questions": 2, "not asked": 2}
        assert labels.remarks() == [
            "7 pictures, 6 of them labelled, 10 labels: color 2 questions, context 3 questions, shape 2 questions",
            "1 labels left out: they say again what an earlier line says",
            "color: 2 pictures are not asked, only ranked: their class has no other value",
        ]


class TestOwnSets:
    def test_a_table_with_a_header_by_paths(self, tmp_path: Path) -> None:
        images = _pictures(tmp_path / "images", "a/1.png", "b/1.png", "c.png", "d.png")
        table = _write(tmp_path / "t.csv", "value,path,class,attribute", "wet,a/1.png,field,ground",
                       "dry,b/1.png,field,ground", "dry,c.png,bridge1,ground")  # fmt: skip
        labels = read_labels(images, [table])
        assert labels.names == ["c.png", "d.png", "a/1.png", "b/1.png"]  # a folder's own before its subfolders'
        by_name = dict(zip(labels.names, labels.classes, strict=True))
        assert by_name == {"a/1.png": "field", "b/1.png": "field", "c.png": "bridge1", "d.png": ""}
        labelled = labels.labelled(np.ones((4, 1)))
        assert [(labels.names[q.image], q.value) for q in questions(labelled, "ground")] == [
            ("a/1.png", "dry"),
            ("b/1.png", "wet"),
        ]

    def test_folders_alone(self, tmp_path: Path) -> None:
        images = _pictures(
            tmp_path, "pool/shape/oval/1.png", "pool/shape/round/2.png", "roof/shape/round/3.png", "other/4.png"
        )
        labels = read_labels(images)
        assert _asked(labels, "shape") == [("1", "round", ["2"]), ("2", "oval", ["1"])]
        assert labels.account()["unlabelled"] == 1

    def test_folders_without_labels_say_how_to_label(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"none of its 1 pictures has a label.*CLASS/ATTRIBUTE/VALUE"):
            read_labels(_pictures(tmp_path, "1.png"))


HEADER = "path,class,attribute,value"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([HEADER, "a.png,pool,shape,oval", "e.png,pool,shape,oval"], r"1 of 2 labels .*e\.png \(.*t\.csv, line 3\)"),
        (["path,class,attribute", "a.png,pool,shape"], "has no column 'value'; its first line must be path,class"),
        ([f"{HEADER},color", "a.png,pool,shape,oval,red"], "columns that mean nothing here: 'color'"),
        (["name,kind", "a.png,pool"], "no column 'path', 'class', 'attribute', 'value' and has columns"),
        ([HEADER, "a.png,pool,shape,oval", "a.png,pool,shape,round"], r"line 3: .*'round' here and 'oval' at .*line 2"),
        ([HEADER, "a.png,pool,shape,oval", "a.png,roof,color,red"], "of class 'roof' here and of 'pool'"),
        ([HEADER, "a.png,pool,shape,"], "line 2: there is no value"),
        ([HEADER, "a.png,pool,shape"], "line 2: 3 values where the header has 4"),
        ([HEADER, "twice.png,pool,shape,oval"], "several pictures are called twice.png"),
        ([HEADER], "none of its 4 pictures has a label"),
        (["a.png,shape,oval", "b.png,shape,"], "line 2: there is no value"),
        (["a.png,oval"], "has 2 columns and no header"),
        ([], "is empty"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, lines: Sequence[str], message: str) -> None:
    images = _pictures(tmp_path / "images", "a.png", "b.png", "x/twice.png", "y/twice.png")
    with pytest.raises(InputError, match=message):
        read_labels(images, [_write(tmp_path / "t.csv", *lines)])


def test_folders_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no folder"):
        read_labels(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no picture"):
        read_labels(tmp_path)
    _pictures(tmp_path, "a.png")
    with pytest.raises(InputError, match=r"holds no \.csv file"):
        read_labels(tmp_path, [tmp_path])
    with pytest.raises(InputError, match="cannot be read"):
        read_labels(tmp_path, [tmp_path / "t.csv"])
    with pytest.raises(InputError, match="no picture has the attribute 'colour'; there are: shape"):
        read_labels(tmp_path, [_write(tmp_path / "t.csv", "a.png,shape,oval")]).check(["colour"])
    with pytest.raises(InputError, match="no class has two values of 'shape'"):
        read_labels(tmp_path, [tmp_path / "t.csv"]).check(["shape"])


class Colours:
    """A model of three numbers: the colour of a picture's corner, the letters of a text. It remembers what it read."""

    def __init__(self, weights: str = "0" * 64, reads: frozenset[str] = frozenset({"image", "text"})) -> None:
        self.info = ModelInfo("colours", "toy", "1", weights, 3, "cosine", reads, {"size": 1})
        self.read: list[str] = []

    def prepare(self, item: Item) -> Any:
        if item.text is not None:
            return np.array([len(item.text), 1.0, 2.0])
        assert isinstance(item.image, Path)
        self.read.append(item.image.name)
        try:
            with Image.open(item.image) as picture:
                return np.asarray(picture.convert("RGB"))[0, 0] + 1.0
        except OSError as error:
            raise InputError(f"{item.image}: cannot be read as a picture") from error

    def encode_prepared(self, prepared: Sequence[Any]) -> Vectors:
        return np.stack(prepared).astype(np.float32)

    def encode(self, items: Sequence[Item]) -> Vectors:
        return self.encode_prepared([self.prepare(item) for item in items])


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[str]]:
    """Nine pictures; the encoder takes two at a time."""
    monkeypatch.setenv("GEOSEARCH_BATCH_SIZE", "2")
    names = [f"{i}.png" for i in range(9)]
    return _pictures(tmp_path / "album", *names), names


class TestVectorsAreKept:
    def test_an_interrupted_run_goes_on_where_it_was(self, album: tuple[Path, list[str]], tmp_path: Path) -> None:
        folder, names = album
        expected = encode_pictures(Colours(), folder, names)

        def stop(done: int, of: int) -> None:
            if done >= 4:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            encode_pictures(Colours(), folder, names, tmp_path / "kept", stop)
        again = Colours()
        np.testing.assert_array_equal(encode_pictures(again, folder, names, tmp_path / "kept"), expected)
        assert sorted(again.read) == names[4:]
        third, counts = Colours(), []
        encode_pictures(third, folder, names, tmp_path / "kept", lambda *c: counts.append(c))
        assert third.read == []
        assert counts == [(9, 9)]
        assert [path.suffix for path in (tmp_path / "kept").iterdir()] == [".npz"]  # nothing half-written lies about

    def test_a_damaged_picture_is_named_and_what_was_before_it_is_kept(
        self, album: tuple[Path, list[str]], tmp_path: Path
    ) -> None:
        folder, names = album
        (folder / "6.png").write_bytes(b"no picture")
        with pytest.raises(InputError, match=r"6\.png: cannot be read"):
            encode_pictures(Colours(), folder, names, tmp_path / "kept")
        Image.new("RGB", (4, 4)).save(folder / "6.png")
        again = Colours()
        encode_pictures(again, folder, names, tmp_path / "kept")
        assert sorted(again.read) == ["6.png", "7.png", "8.png"]

    def test_new_and_changed_pictures_are_encoded_and_others_not(
        self, album: tuple[Path, list[str]], tmp_path: Path
    ) -> None:
        folder, names = album
        before = encode_pictures(Colours(), folder, names, tmp_path / "kept")
        Image.new("RGB", (9, 9), (1, 2, 3)).save(folder / "4.png")
        _pictures(folder / "more", "new.png")
        again = Colours()
        after = encode_pictures(again, folder, ["more/new.png", *names], tmp_path / "kept")
        assert sorted(again.read) == ["4.png", "new.png"]
        np.testing.assert_array_equal(np.delete(after[1:], 4, 0), np.delete(before, 4, 0))
        np.testing.assert_array_equal(after[5], [2, 3, 4])

    def test_other_weights_and_other_folders_have_files_of_their_own(
        self, album: tuple[Path, list[str]], tmp_path: Path
    ) -> None:
        folder, names = album
        encode_pictures(Colours(), folder, names, tmp_path / "kept")
        other = Colours("1" * 64)
        encode_pictures(other, folder, names, tmp_path / "kept")
        assert len(other.read) == 9
        assert len(list((tmp_path / "kept").iterdir())) == 2
        assert cache_name(other, folder) != cache_name(other, tmp_path)

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"\x93NUMPY"])
    def test_a_damaged_file_is_made_anew(self, album: tuple[Path, list[str]], tmp_path: Path, content: bytes) -> None:
        folder, names = album
        file = tmp_path / "kept" / cache_name(Colours(), folder)
        file.parent.mkdir()
        file.write_bytes(content)
        again = Colours()
        encode_pictures(again, folder, names, tmp_path / "kept")
        assert len(again.read) == 9
        with np.load(file) as kept:
            assert len(kept["vectors"]) == 9

    def test_it_is_written_on_the_way(
        self, album: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(picture_vectors, "SAVED_EVERY_S", -1.0)
        folder, names = album
        sizes = []

        def look(done: int, of: int) -> None:
            for file in (tmp_path / "kept").glob("*.npz"):
                with np.load(file) as kept:
                    sizes.append(len(kept["vectors"]))

        encode_pictures(Colours(), folder, names, tmp_path / "kept", look)
        assert sizes == [2, 4, 6, 8]

    def test_a_model_must_read_images_and_texts(self, album: tuple[Path, list[str]]) -> None:
        with pytest.raises(ModelError, match="does not read images"):
            encode_pictures(Colours(reads=frozenset({"text"})), *album)
        with pytest.raises(ModelError, match="does not read texts"):
            encode_texts(Colours(reads=frozenset({"image"})), ["oval"])


def test_real_pictures_from_files_to_figures(shared_data: Path, tmp_path: Path) -> None:
    """EuroSAT by the colour of a corner: land cover is told by it better than by chance."""
    found = sorted((shared_data / "eurosat").glob("*.png"))
    if not found:
        pytest.skip("the EuroSAT pictures (eurosat/*.png of the real data) are not here")
    rows = [f"{path.name},land,cover,{path.stem.split('_')[0]}" for path in found]
    for path in found:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    labels = read_labels(tmp_path, [_write(tmp_path / "labels.csv", HEADER, *rows)])
    encoder = Colours()
    vectors = encode_pictures(encoder, tmp_path, labels.names)
    assert vectors.shape == (len(found), 3)
    kinds = {row.rsplit(",", 1)[1] for row in rows}
    # A text is "seen" as the mean colour of its pictures: then the text alone must find them before others.
    texts = {kind: vectors[[kind in name for name in labels.names]].mean(0) for kind in kinds}
    report = evaluate(labels.labelled(vectors), texts, [0.5])
    scores = report.scores["cover"]
    assert scores["text"].questions == len(found) * (len(kinds) - 1)
    assert scores["text"].ap > 1.5 * scores["chance"].ap
