"""The training table as NumPy columns, row group by row group: Petastorm (default) or plain Arrow, equal to the bit.

Petastorm is used nowhere else. Its stock decoder stacks list columns row by row, which is most of its time; here a list
column is one flatten and one reshape.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from almmta_spark import tables
from almmta_spark.example_spec import ExampleSpec
from almmta_spark.training.folder import Folder

warnings.filterwarnings("ignore", category=FutureWarning, module=r"petastorm\.")  # pyarrow's legacy reader, by design
warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"petastorm\.")

logging.getLogger("petastorm").setLevel(logging.ERROR)  # it reports the want of its own metadata as a failure

from petastorm.arrow_reader_worker import ArrowReaderWorker, ArrowReaderWorkerResultsQueueReader  # noqa: E402
from petastorm.reader import Reader  # noqa: E402
from petastorm.workers_pool import EmptyResultError  # noqa: E402
from petastorm.workers_pool.dummy_pool import DummyPool  # noqa: E402
from pyarrow.filesystem import FileSystem as LegacyFileSystem  # noqa: E402

Columns = dict[str, np.ndarray]
"""Arrays by column name: [rows] for scalars, [rows, length] for lists."""


@dataclass(frozen=True)
class RowGroup:
    """Where a part of the training table lies."""

    file: str
    index: int
    """Of the row group in its file."""
    num_rows: int


@dataclass(frozen=True)
class TrainingTable:
    """A table's files and row groups, from their footers alone."""

    folder: Folder
    row_groups: tuple[RowGroup, ...]
    """By file name, then by position in the file."""
    fingerprint: str
    """SHA-256 over rows, sizes and statistics in the footers, file names left out: equal tables have equal ones."""

    @property
    def num_rows(self) -> int:
        return sum(group.num_rows for group in self.row_groups)


def columns_needed(spec: ExampleSpec) -> tuple[str, ...]:
    """What a batch is made of. Contents of touches are read only where there are any."""
    unused = set() if spec.touch_embeddings else {"touch_embedding"}
    return tuple(name for name in tables.TRAINING_EXAMPLES.column_names if name not in unused)


def open_table(dataset_url: str, spec: ExampleSpec) -> TrainingTable:
    """Reads the footers. ValueError: no files, a missing column, or another number of rows than the spec's."""
    folder = Folder(dataset_url)
    groups: list[RowGroup] = []
    sha = hashlib.sha256()
    for name in folder.names():
        for i, group in enumerate(_footer(folder, name, columns_needed(spec))):
            sha.update(repr((group.num_rows, [_facts(group.column(c)) for c in range(group.num_columns)])).encode())
            groups += [RowGroup(name, i, group.num_rows)] if group.num_rows else []
    table = TrainingTable(folder, tuple(groups), sha.hexdigest())
    if not groups:
        raise ValueError(f"training_examples: no rows under {dataset_url}: build the examples of the night first")
    if table.num_rows != spec.num_training + spec.num_validation:
        raise ValueError(
            f"training_examples: the footers under {dataset_url} count {table.num_rows} rows, their spec "
            f"{spec.num_training} training + {spec.num_validation} validation: build the examples again"
        )
    return table


def _footer(folder: Folder, name: str, columns: Sequence[str]) -> list[pq.RowGroupMetaData]:
    with folder.open(name) as file, _broken(f"the footer of {folder.path_of(name)}"):
        parquet = pq.ParquetFile(file)
        missing = set(columns) - set(parquet.schema_arrow.names)
        if missing:
            raise ValueError(
                f"training_examples.{min(missing)} is missing in {folder.path_of(name)}, which has "
                f"{', '.join(parquet.schema_arrow.names)}: build the examples again"
            )
        return [parquet.metadata.row_group(i) for i in range(parquet.metadata.num_row_groups)]


def _facts(chunk: pq.ColumnChunkMetaData) -> tuple[Any, ...]:
    """What a column chunk's footer says about its content."""
    statistics = chunk.statistics
    known = statistics is not None and statistics.has_min_max
    return chunk.path_in_schema, chunk.total_compressed_size, (statistics.min, statistics.max) if known else None


def decode(batch: pa.Table) -> Columns:
    """Arrow columns as NumPy arrays, lists as [rows, length]. ValueError on nulls and on ragged lists."""
    return {name: _decode(name, batch.column(name)) for name in sorted(batch.column_names)}


def _decode(name: str, chunks: pa.ChunkedArray) -> np.ndarray:
    column = chunks.chunk(0) if chunks.num_chunks == 1 else pa.concat_arrays(chunks.chunks)
    if column.null_count:
        raise ValueError(
            f"training_examples.{name} must have no null, got {column.null_count}: build the examples again"
        )
    if not pa.types.is_list(column.type):
        return np.ascontiguousarray(column.to_numpy(zero_copy_only=False))
    lengths = np.diff(column.offsets.to_numpy())
    length = int(lengths[0]) if len(lengths) else 0
    if not (lengths == length).all():
        raise ValueError(
            f"training_examples.{name} must be of one length, got {lengths.min()} to {lengths.max()}: the loader takes "
            "padded lists only, build the examples again"
        )
    values = column.flatten()
    if values.null_count:
        raise ValueError(f"training_examples.{name} must hold no null inside its lists: build the examples again")
    return values.to_numpy(zero_copy_only=False).reshape(len(column), length)


Read = Callable[[TrainingTable, Sequence[RowGroup], Sequence[str]], Iterator[Columns]]


@contextmanager
def _broken(what: str) -> Iterator[None]:
    """ValueError that names what Parquet cannot make out."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"training_examples: {what} cannot be read ({reason}): build the examples again") from error


def _naming_what_is_broken(read: Read) -> Read:
    """The same, with a ValueError for a row group that is broken: which one, of which file."""

    @functools.wraps(read)
    def named(table: TrainingTable, groups: Sequence[RowGroup], columns: Sequence[str]) -> Iterator[Columns]:
        found = read(table, groups, columns)
        for group in groups:
            with _broken(f"row group {group.index} of {table.folder.path_of(group.file)}"):
                part = next(found, None)
            if part is None:
                return
            yield part
        yield from found  # nothing, or rows too many, which the shard's tally will see

    return named


@_naming_what_is_broken
def read_arrow(table: TrainingTable, groups: Sequence[RowGroup], columns: Sequence[str]) -> Iterator[Columns]:
    """The row groups in the order given, with nothing but pyarrow."""
    files: dict[str, pq.ParquetFile] = {}
    try:
        for group in groups:
            if group.file not in files:
                files[group.file] = pq.ParquetFile(table.folder.open(group.file))
            yield decode(files[group.file].read_row_group(group.index, columns=list(columns)))
    finally:
        for file in files.values():
            file.close(force=True)


@_naming_what_is_broken
def read_petastorm(table: TrainingTable, groups: Sequence[RowGroup], columns: Sequence[str]) -> Iterator[Columns]:
    """The row groups in the order given, through a Petastorm reader with one worker."""
    with _InOrderReader(table, groups, columns) as reader:
        yield from reader


READERS: dict[str, Read] = {
    "petastorm": read_petastorm,
    "arrow": read_arrow,
}


class _FlattenedResults(ArrowReaderWorkerResultsQueueReader):
    """Petastorm's results as they came from Parquet, without its per-row np.vstack."""

    def read_next(self, workers_pool: Any, schema: Any, ngram: Any) -> Columns:
        try:
            return decode(workers_pool.get_results())
        except EmptyResultError:
            raise StopIteration from None


class _FlattenedWorker(ArrowReaderWorker):
    @staticmethod
    def new_results_queue_reader() -> _FlattenedResults:
        return _FlattenedResults()


class _InOrderPool(DummyPool):
    """Petastorm's single-threaded pool, with its end detected safely.

    The stock pools ask for waiting work first and whether more will come second; work that arrives in between is lost.
    """

    def get_results(self) -> pa.Table:
        while not self._results_queue:
            ended = self._ventilator.completed()
            if self._ventilator_queue:
                args, kwargs = self._ventilator_queue.pop(0)
                self._worker.process(*args, **kwargs)
                self._ventilator.processed_item()
            elif ended:
                raise EmptyResultError()
            else:
                time.sleep(1e-4)
        return self._results_queue.pop(0)


class _LegacyFileSystem(LegacyFileSystem):
    """An fsspec file system in the class by which pyarrow 14 recognises those that Petastorm may use."""

    def __init__(self, filesystem: AbstractFileSystem) -> None:
        self._filesystem = filesystem

    def isdir(self, path: str) -> bool:
        return bool(self._filesystem.isdir(path))

    def isfile(self, path: str) -> bool:
        return bool(self._filesystem.isfile(path))

    def open(self, path: str, mode: str = "rb") -> Any:
        return self._filesystem.open(path, mode)


class _InOrderReader(Reader):
    """What make_batch_reader builds, reading exactly the row groups it is given, in their order."""

    def __init__(self, table: TrainingTable, groups: Sequence[RowGroup], columns: Sequence[str]) -> None:
        self._files = sorted({group.file for group in groups})
        self._wanted = groups
        super().__init__(
            _LegacyFileSystem(table.folder.filesystem),
            [table.folder.path_of(name) for name in self._files],
            schema_fields=[f"^{re.escape(name)}$" for name in columns],
            reader_pool=_InOrderPool(),
            worker_class=_FlattenedWorker,
            is_batched_reader=True,
            shuffle_row_groups=False,
        )

    def _filter_row_groups(self, dataset: Any, row_groups: list[Any], *_: Any) -> tuple[list[int], None]:
        """Positions, among the pieces Petastorm found, of the row groups wanted."""
        found = {(piece.path.rsplit("/", 1)[-1], piece.row_group): i for i, piece in enumerate(row_groups)}
        return [found[group.file, group.index] for group in self._wanted], None
