"""Folders and files on any URL fsspec understands (a plain path, file://, s3://, hdfs://, memory:// ...)."""

from __future__ import annotations

import os
import uuid
from typing import IO, cast

import fsspec
from fsspec.core import url_to_fs

OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "memory"}


class Folder:
    """One folder: its files by name, read and replaced as wholes."""

    def __init__(self, url: str) -> None:
        self.url = url
        filesystem, path = url_to_fs(url)
        self.filesystem: fsspec.AbstractFileSystem = filesystem
        self.path = str(path).rstrip("/")

    def path_of(self, name: str) -> str:
        """Path of one file in it."""
        return f"{self.path}/{name}"

    def names(self) -> list[str]:
        """Names of the visible files, sorted; those that begin with _ or . are somebody's bookkeeping."""
        self.filesystem.invalidate_cache(self.path)
        if not self.filesystem.isdir(self.path):
            return []
        files = [f for f in self.filesystem.ls(self.path, detail=True) if f["type"] == "file"]
        names = (str(f["name"]).rsplit("/", 1)[-1] for f in files)
        return sorted(name for name in names if name[0] not in "_.")

    def open(self, name: str) -> IO[bytes]:
        """One file of it, to be read."""
        return cast(IO[bytes], self.filesystem.open(self.path_of(name), "rb"))

    def read(self, name: str) -> bytes:
        """All bytes of one file."""
        with self.open(name) as file:
            return file.read()

    def write(self, name: str, content: bytes) -> None:
        """Replace a file as a whole: readers see the old content or the new, never a part, even after kill -9.

        Object stores show a file when it is closed. Elsewhere a hidden neighbour is renamed over it; remote file
        systems cannot do that over a file that is there, so on those a reader may for a moment see neither.
        """
        self.filesystem.makedirs(self.path, exist_ok=True)
        target = self.path_of(name)
        beside = target if self._protocols & OBJECT_STORES else self.path_of(f".{name}.{uuid.uuid4().hex}")
        try:
            with self.filesystem.open(beside, "wb") as file:
                file.write(content)
                file.flush()
                if self.is_local:
                    os.fsync(file.fileno())
            if self.is_local:
                os.replace(beside, target)
            elif beside != target:
                if self.filesystem.exists(target):
                    self.filesystem.rm(target)
                self.filesystem.mv(beside, target)
        except BaseException:
            if beside != target and self.filesystem.exists(beside):
                self.filesystem.rm(beside)
            raise

    def remove(self, name: str) -> None:
        """Deletes one file."""
        self.filesystem.rm(self.path_of(name))

    @property
    def is_local(self) -> bool:
        return "file" in self._protocols

    @property
    def _protocols(self) -> set[str]:
        protocol = self.filesystem.protocol
        return set(protocol) if isinstance(protocol, (tuple, list)) else {str(protocol)}
