import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from saliency_sanity import _files as results
from saliency_sanity._files import (
    ResultsError,
    read_json,
    read_table,
    replacing,
    results_folder,
    write_json,
    write_table,
)

TABLE = pd.DataFrame({"method": ["gradient", "sobel"], "value": [0.25, np.nan], "seed": [0, 1]})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def full_disk(monkeypatch):
    """Every sync says that the disk is full, as it does when buffered data find no room."""

    def no_room(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return lambda: monkeypatch.setattr(results.os, "fsync", no_room)


def test_a_folder_is_made_with_its_parents_and_left_empty(tmp_path):
    folder = results_folder(tmp_path / "a" / "b")
    assert folder.is_dir()
    assert names(folder) == []


def test_a_file_in_place_of_the_folder_is_named_with_what_to_do(tmp_path):
    (tmp_path / "results").write_text("mine")
    with pytest.raises(
        ResultsError, match=r"results.*is a file, not a folder; choose another folder"
    ):
        results_folder(tmp_path / "results")
    with pytest.raises(ResultsError, match="results"):
        results_folder(tmp_path / "results" / "deeper")
    assert (tmp_path / "results").read_text() == "mine"


def test_a_read_only_folder_is_found_before_the_work(tmp_path, monkeypatch):
    def refused(self, *arguments, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(ResultsError, match="Read-only file system") as caught:
        results_folder(tmp_path)
    assert caught.value.errno == errno.EROFS
    assert str(tmp_path) in str(caught.value)


def test_too_little_room_is_found_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(
        results.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 2**20)
    )
    with pytest.raises(ResultsError, match=r"1 MB are free.*32 MB are needed"):
        results_folder(tmp_path)


def test_a_table_comes_back_as_it_was(tmp_path):
    write_table(TABLE, tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.parquet"), TABLE)
    assert names(tmp_path) == ["t.parquet"]


def test_a_table_needs_its_ending(tmp_path):
    with pytest.raises(ValueError, match=r"t\.csv.*must end in '\.parquet'"):
        write_table(TABLE, tmp_path / "t.csv")


def test_json_is_strict_and_numpy_becomes_plain(tmp_path):
    content = {
        "float": np.float32(0.5),
        "int": np.int64(3),
        "array": np.array([[1.0, np.inf]]),
        "nan": float("nan"),
        "flag": np.bool_(True),
        "text": "κ – ok",
        3: (1, 2),
    }
    path = write_json(content, tmp_path / "x.json")
    strict = json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert strict == {
        "float": 0.5,
        "int": 3,
        "array": [[1.0, None]],
        "nan": None,
        "flag": True,
        "text": "κ – ok",
        "3": [1, 2],
    }
    assert read_json(path) == strict


@pytest.mark.parametrize(
    ("write", "read", "name", "first", "second"),
    [
        (write_json, read_json, "x.json", {"a": 1}, {"a": 2}),
        (
            write_table,
            lambda path: read_table(path).to_dict(),
            "x.parquet",
            TABLE[:1],
            TABLE.assign(seed=9),
        ),
    ],
    ids=["json", "table"],
)
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path, full_disk, write, read, name, first, second
):
    path = tmp_path / name
    write(first, path)
    before = path.read_bytes()
    full_disk()
    with pytest.raises(ResultsError, match="No space left on device") as caught:
        write(second, path)
    assert caught.value.errno == errno.ENOSPC
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    assert names(tmp_path) == [name]


def test_a_value_that_json_cannot_hold_changes_nothing(tmp_path):
    path = write_json({"a": 1}, tmp_path / "x.json")
    with pytest.raises(TypeError):
        write_json({"a": object()}, path)
    assert read_json(path) == {"a": 1}
    assert names(tmp_path) == ["x.json"]


def test_an_error_in_the_writer_changes_nothing(tmp_path):
    path = write_json({"a": 1}, tmp_path / "x.json")

    def half():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyError("lost")

    with pytest.raises(KeyError):
        half()
    assert read_json(path) == {"a": 1}
    assert names(tmp_path) == ["x.json"]


def test_the_old_file_is_whole_until_the_new_one_is(tmp_path):
    path = write_json({"a": 1}, tmp_path / "x.json")
    with replacing(path) as temporary:
        temporary.write_text("{}")
        assert temporary.parent == path.parent
        assert read_json(path) == {"a": 1}
    assert read_json(path) == {}


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ResultsError, match="No such file or directory"):
        write_json({}, tmp_path / "no" / "x.json")


def test_what_is_missing_or_broken_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="run the notebook"):
        read_table(tmp_path / "t.parquet")
    with pytest.raises(FileNotFoundError, match="run the notebook"):
        read_json(tmp_path / "x.json")
    (tmp_path / "x.json").write_text('{"a": ')
    with pytest.raises(ValueError, match=r"x\.json.*is not JSON"):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize("start", [".", "notebooks", "notebooks/deeper"])
def test_a_relative_folder_is_meant_from_the_root_of_the_checkout(tmp_path, monkeypatch, start):
    (tmp_path / "notebooks" / "deeper").mkdir(parents=True)
    (tmp_path / "_config.yml").touch()
    monkeypatch.chdir(tmp_path / start)
    folder = results_folder("results")
    assert folder.resolve() == (tmp_path / "results").resolve()
    assert not folder.is_absolute()


def test_outside_a_checkout_a_relative_folder_is_meant_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert results_folder("results").resolve() == (tmp_path / "results").resolve()
