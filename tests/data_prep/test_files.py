"""Files that are whole or not there."""

import os
import stat

import pytest

from data_prep.errors import InputError
from data_prep.files import atomic, writable_folder, write_text


def test_write_makes_the_folder_and_replaces(tmp_path):
    path = tmp_path / "a" / "b.csv"
    write_text(path, "one")
    write_text(str(path), "zwei: é")
    assert path.read_text(encoding="utf-8") == "zwei: é"
    assert [p.name for p in path.parent.iterdir()] == ["b.csv"]


def test_the_place_is_untouched_until_the_end(tmp_path):
    path = tmp_path / "x.pt"
    path.write_text("old")
    with atomic(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent and temporary.suffix == ".pt"
    assert path.read_text() == "new"


@pytest.mark.parametrize("old", [None, "old"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_of_a_failure(old, error, tmp_path):
    path = tmp_path / "x.csv"
    if old:
        path.write_text(old)
    with pytest.raises(error), atomic(path) as temporary:
        temporary.write_text("half")
        raise error("stop")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == ({"x.csv": "old"} if old else {})


def test_permissions_follow_the_umask(tmp_path):
    mask = os.umask(0o027)
    try:
        write_text(tmp_path / "x", "")
        assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640
        assert os.umask(0o027) == 0o027  # left as it was
    finally:
        os.umask(mask)


def test_a_folder_is_made_or_refused_before_the_work(tmp_path):
    assert writable_folder(tmp_path / "a" / "b").is_dir() and not list((tmp_path / "a" / "b").iterdir())
    (tmp_path / "file").write_text("kept")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="is not a folder. Choose another folder"):
            writable_folder(path)
    assert (tmp_path / "file").read_text() == "kept"
