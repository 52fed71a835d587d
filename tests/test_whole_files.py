"""Files are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from geosearch.errors import InputError
from geosearch.whole_files import write_whole


def test_a_file_is_made_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / ("a" * 255)  # the longest name there is
    for content in (b"first", b"second, longer"):
        write_whole(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "page.html"
    path.write_text("before")

    def full(self: Path, content: bytes) -> int:
        with self.open("wb") as out:
            out.write(content[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"page.html: cannot be written \(No space left on device\)"):
        write_whole(path, b"after")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["before"]


def test_a_pipe_and_a_link_are_written_to_and_stay(tmp_path: Path) -> None:
    pipe, link, file = tmp_path / "pipe", tmp_path / "link", tmp_path / "file"
    os.mkfifo(pipe)
    file.touch()
    link.symlink_to(file)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_whole(pipe, b"through")
        assert os.read(reader, 20) == b"through"
    finally:
        os.close(reader)
    write_whole(link, b"behind")
    assert link.is_symlink() and file.read_bytes() == b"behind"


@pytest.mark.parametrize("name", ["", "folder", "nowhere/a", "file/a"])
def test_what_is_no_place_for_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        write_whole(Path(name), b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
