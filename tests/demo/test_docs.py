"""The tutorial and how-tos, run line by line on a small demo: documents cannot go stale unseen."""

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from geosearch.demo.run import run

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
NOT_HERE = ("make demo", "geosearch db stop")  # the first installs software, the second stops others' server


def blocks(path, language):
    found = re.findall(rf"^```{language}\n(.*?)^```$", path.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert found, f"{path} has no {language} block"
    return found


@pytest.fixture
def demo(database_url, tmp_path, monkeypatch):
    """A small demo with the model that the documents name, and a folder to write in."""
    monkeypatch.setenv("GEOSEARCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GEOSEARCH_DATABASE_URL", database_url)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    made = run(tmp_path / "page.html", tiles=60, photographs=8, places=200, url=database_url)
    work = tmp_path / "work"
    work.mkdir()
    shutil.copy(next((tmp_path / "home" / "demo").glob("photographs-*/simulated-0001.jpg")), work / "photograph.jpg")
    monkeypatch.chdir(work)
    return made


def shell(line):
    return subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, timeout=300, check=False)


def check_shell(path, replaced=()):
    for block in blocks(path, "sh"):
        for line in block.splitlines():
            if line in NOT_HERE:
                continue
            if line.startswith("ogr2ogr") and not shutil.which("ogr2ogr"):
                continue
            if line.startswith("geosearch db psql") and not shutil.which("psql"):
                continue
            for old, new in replaced:
                line = line.replace(old, new)
            done = shell(line)
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            assert done.stdout or "ogr2ogr" in line, line


def check_python(path):
    for block in blocks(path, "python"):
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(block, str(path), "exec"), {})


@pytest.mark.slow
def test_what_the_documents_say_runs(demo, conn):
    how_to, tutorial = DOCS / "how-to" / "search.md", DOCS / "tutorial.md"
    check_python(how_to)
    # The tiles that the documents name are some of four thousand; the small demo has others.
    tile = demo.asked[0].anywhere.results[0].name
    check_shell(how_to, [("N46.0E008.1", tile)])

    nadirs = DOCS / "how-to" / "nadir.md"
    check_shell(nadirs)
    check_python(nadirs)

    composed = DOCS / "how-to" / "compose.md"
    check_python(composed)
    check_shell(composed)
    assert Path("sweep.html").read_text("utf-8").count("<section>") == 11

    for block in [*blocks(nadirs, "sql"), *blocks(composed, "sql"), *blocks(tutorial, "sql")]:
        assert conn.execute(block).fetchall(), block
    conn.rollback()
    check_python(tutorial)
    check_shell(tutorial, [("N23.7E010.7", tile)])
    assert {path.name for path in Path.cwd().iterdir()} >= {"rainforest.html", "photograph.html"}
    # The tutorial ends with the commands that remove the demo.
    assert conn.execute("select count(*) from geosearch.image").fetchone() == (0,)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("psql"), reason="psql is not installed")
def test_range_in_one_sql_session_without_python(demo, database_url):
    """The encoder, a bank, a place, a ranking and a join: what the document says, in one session of psql."""
    path = DOCS / "how-to" / "range-in-sql.md"
    check_shell(path)
    script = Path("session.sql")
    script.write_text("\n".join(blocks(path, "sql")), "utf-8")
    psql = ["psql", "--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-At", "-F", "|", "-f", str(script), database_url]
    done = subprocess.run(psql, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert str(demo.tiles) in lines  # places of the bank
    vectors = [line for line in lines if line.startswith("[")]
    assert [len(vector.split(",")) for vector in vectors] == [256, 1280]
    alike = dict(line.split("|")[:2] for line in lines if line.count("|") == 2 and line.split("|")[0] in PARKS)
    assert alike["Tassili n'Ajjer"] == "Namib-Naukluft"
    assert alike["Jaú"] == "Salonga"


PARKS = ("Tassili n'Ajjer", "Namib-Naukluft", "Jaú", "Salonga", "Northeast Greenland")


def anchors(path):
    """Return the anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "path",
    [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))],
    ids=lambda path: path.name,
)
def test_documents_link_to_what_exists(path):
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", path.read_text("utf-8")):
        file = path.parent / target if target else path
        assert file.exists(), f"{path} links to {target}"
        assert not anchor or anchor in anchors(file), f"{path} links to {target}#{anchor}"
