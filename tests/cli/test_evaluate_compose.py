"""`geosearch evaluate compose`: tables, files, JSON, and what is refused before any work is done."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from geosearch_cli.main import app
from PIL import Image
from tiny_model import write_model
from typer.testing import CliRunner

from geosearch.evaluation import extra

COLOURS = {"red": (200, 30, 20), "green": (20, 160, 40), "blue": (10, 40, 180)}


def _run(*options: Any) -> Any:
    return CliRunner().invoke(app, ["evaluate", "compose", *map(str, options)])


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve pictures of two classes and three colours, one of them in two sizes, in the published layout."""
    monkeypatch.setenv("GEOSEARCH_DEVICE", "cpu")
    (tmp_path / "images").mkdir()
    colours, sizes = [], []
    for i in range(12):
        name, colour = f"{'roof' if i % 2 else 'pool'}{i:03}.png", list(COLOURS)[i // 2 % 3]
        Image.new("RGB", (40, 40 + i), COLOURS[colour]).save(tmp_path / "images" / name)
        colours.append(f"{name},color,{colour}\n")
        sizes.append(f"{name},size,{'large' if i > 5 else 'small'}\n")
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "color.csv").write_text("".join(colours))
    (tmp_path / "tables" / "size.csv").write_text("".join(sizes))
    return tmp_path


@pytest.fixture
def options(album: Path) -> list[Any]:
    model = write_model(album / "model")
    return ["--images", album / "images", "--csv", album / "tables", "--cache", album / "kept", "--model", model]


def test_a_table_of_all_ways_and_files(album: Path, options: list[Any]) -> None:
    pytest.importorskip("matplotlib")
    result = _run(*options, "--lambdas", "0,0.5,1", "--out", album / "out.csv", "--plot", album / "out.png")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["method", "color", "size", "average"]
    assert [line.split("  ")[0].strip() for line in lines[1:8]] == [
        "chance", "text", "image", "mean", "weicom 0", "weicom 0.5", "weicom 1"
    ]  # fmt: skip
    assert "P@5" in lines[9]
    assert "12 pictures, 12 of them labelled, 24 labels: color 24 questions, size 12 questions" in result.stderr
    with (album / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 7
    assert {row["attribute"] for row in rows} == {"color", "size", "average"}
    assert {row["lambda"] for row in rows} == {"", "0.0", "0.5", "1.0"}
    with Image.open(album / "out.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 300
        assert len(picture.convert("RGB").getcolors(1 << 24) or ()) > 10  # lines of several colours were drawn
    assert sorted(path.name for path in album.iterdir()) == ["images", "kept", "model", "out.csv", "out.png", "tables"]


def test_json_and_vectors_kept_for_the_next_run(album: Path, options: list[Any]) -> None:
    first = _run(*options, "--lambdas", "0.3", "--attribute", "color", "--json")
    assert first.exit_code == 0, first.output
    said = json.loads(first.stdout)
    assert said["pictures"] == 12
    assert said["attributes"]["color"]["questions"] == 24
    assert said["best lambda"] == 0.3
    assert [row["method"] for row in said["mAP"]] == ["chance", "text", "image", "mean", "weicom 0.3"]
    assert all(0 <= row["color"] == row["average"] <= 100 for row in said["mAP"])
    kept = list((album / "kept").glob("*.npz"))
    assert len(kept) == 1
    before = kept[0].stat().st_mtime_ns
    assert json.loads(_run(*options, "--lambdas", "0.3", "--attribute", "color", "--json").stdout) == said
    assert kept[0].stat().st_mtime_ns == before


def test_vectors_are_kept_in_the_data_folder_by_default(
    album: Path, options: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEOSEARCH_HOME", str(album / "home"))
    del options[4:6]
    assert _run(*options, "--lambdas", "0.5").exit_code == 0
    assert len(list((album / "home" / "evaluation").glob("*.npz"))) == 1


@pytest.mark.parametrize(
    ("more", "message", "status"),
    [
        (["--lambdas", "a,b"], "--lambdas takes numbers", 2),
        (["--lambdas", "0.5,2"], "from 0 (image alone) to 1 (text alone), not 2", 2),
        (["--attribute", "colour"], "no picture has the attribute 'colour'; there are: color, size", 1),
        (["--plot", "out.jpg"], "the plot is a PNG", 1),
        (["--out", "nowhere/out.csv"], "there is no folder nowhere", 1),
        (["--model", "nothing"], "nothing", 1),
    ],
)
def test_what_is_refused(options: list[Any], more: list[str], message: str, status: int) -> None:
    if "--plot" in more:
        pytest.importorskip("matplotlib")
    result = _run(*options, *more)
    said = (
        result.stderr if result.exception is None or isinstance(result.exception, SystemExit) else str(result.exception)
    )
    assert message in said
    assert result.exit_code == status


def test_a_folder_for_vectors_that_cannot_be_is_refused_before_the_work(album: Path, options: list[Any]) -> None:
    options[options.index("--cache") + 1] = next(path for path in album.rglob("*") if path.is_file())
    result = _run(*options)
    assert result.exit_code == 1
    said = result.stderr if isinstance(result.exception, SystemExit) else str(result.exception)
    assert "name another folder for vectors (--cache)" in said
    assert "questions" not in said.split("error:")[-1]


def test_without_matplotlib_the_remedy_comes_before_the_work(
    album: Path, options: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name="matplotlib")

    monkeypatch.setattr(extra, "import_module", nowhere)
    result = _run(*options, "--plot", album / "out.png")
    said = result.stderr if isinstance(result.exception, SystemExit) else str(result.exception)
    assert "Matplotlib is not installed; get it with: pip install 'geosearch[evaluation]'" in said
    assert not (album / "kept").exists()


def test_real_pictures_by_the_project_s_model(shared_data: Path, tmp_path: Path) -> None:
    found = sorted((shared_data / "eurosat").glob("*.png"))
    if not found:
        pytest.skip("the EuroSAT pictures (eurosat/*.png of the real data) are not here")
    rows = [f"{path.name},land,cover,{path.stem.split('_')[0]}\n" for path in found]
    (tmp_path / "labels.csv").write_text("path,class,attribute,value\n" + "".join(rows))
    (tmp_path / "images").mkdir()
    for path in found:
        (tmp_path / "images" / path.name).write_bytes(path.read_bytes())
    result = _run("--images", tmp_path / "images", "--csv", tmp_path / "labels.csv", "--cache", tmp_path, "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["labelled"] == len(found)
    by_method = {row["method"]: row["average"] for row in said["mAP"]}
    assert by_method["weicom 0"] == by_method["image"]
    assert by_method["weicom 1"] == by_method["text"]
