"""Folders on any URL: whole files in, whole files out."""

import uuid

import pytest

from almmta_spark.training.folder import Folder


@pytest.fixture(params=["path", "file://", "memory://", "other"])
def folder(request, tmp_path, monkeypatch):
    if request.param == "memory://":
        return Folder(f"memory://bucket/{uuid.uuid4().hex}")
    if request.param == "other":  # a remote file system that has to rename
        monkeypatch.setattr(Folder, "_protocols", {"hdfs"})
        return Folder(f"memory://host/{uuid.uuid4().hex}")
    return Folder(f"{'' if request.param == 'path' else 'file://'}{tmp_path}/deep/er")


def test_a_written_file_is_read_back_and_replaced(folder):
    assert folder.names() == []
    folder.write("b.json", b"first")
    folder.write("a.pt", b"")
    folder.write("b.json", b"second")
    assert folder.names() == ["a.pt", "b.json"]
    assert folder.read("b.json") == b"second"
    with folder.open("b.json") as file:
        assert file.read(3) == b"sec"
    folder.remove("a.pt")
    assert folder.names() == ["b.json"]


def test_folders_and_bookkeeping_are_not_its_files(folder):
    folder.write("part.parquet", b"x")
    folder.write("_SUCCESS", b"")
    folder.write(".hidden", b"")
    Folder(f"{folder.url}/below").write("other.parquet", b"x")
    assert folder.names() == ["part.parquet"]
