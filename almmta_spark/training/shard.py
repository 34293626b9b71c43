"""One rank's share of the training table: which row groups, in which order, in how many batches, was it all read.

Row group i belongs to rank i modulo the world. All ranks take the same number of steps, because each splits its own
rows evenly into that many batches; nothing is dropped and nothing repeated. The order depends on (seed, epoch, rank)
alone, not on the loader.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from almmta_spark.config import TrainingConfig
from almmta_spark.example_spec import ExampleSpec
from almmta_spark.model.batch import Batch
from almmta_spark.training import loader
from almmta_spark.training.ahead import ahead
from almmta_spark.training.distributed import Ranks
from almmta_spark.training.loader import Columns, RowGroup, TrainingTable

BUFFER_BYTES = 1 << 30
"""Decoded data a rank holds: a shard that fits is read once and kept, another one streams in parts of a third."""
_PARTS = 3
"""Parts held at once: one is trained on, one is ready, one is being read. Rows are shuffled within a part."""
_TOUCH_LISTS = (
    "cluster_index",
    "item_id",
    "author_id",
    "item_touches",
    "author_touches",
    "age_hours",
    "propensity_bucket",
    "touch_weight",
)


@dataclass
class Tally:
    """Rows that went by, and the sum of their journey ids modulo 2**64: a row lost and another repeated changes it."""

    rows: int = 0
    id_sum: int = 0

    def add(self, journey_id: np.ndarray) -> None:
        """Counts a batch's rows."""
        self.rows += len(journey_id)
        self.id_sum = (self.id_sum + int(journey_id.view(np.uint64).sum(dtype=np.uint64))) % 2**64


@dataclass(frozen=True)
class Step:
    """One optimiser step's rows on this rank."""

    batch: Batch
    num_rows: int
    """Rows that count; 0: the batch holds one row to keep step with the others, and its weight is 0."""
    weight: float
    """Factor of the local mean loss under which the mean over ranks is the mean over the global batch."""


@dataclass
class Shard:
    """The row groups of one rank; Shard.open finds them."""

    table: TrainingTable
    spec: ExampleSpec
    ranks: Ranks
    seed: int
    loader: str
    groups: tuple[RowGroup, ...]
    learns_from_all: bool
    """Whether the held-out rows are trained on too: an ensemble holds each user out of some of its members itself."""
    expected: tuple[Tally, Tally]
    """What an epoch must read: rows trained on, held-out rows."""
    rows_by_rank: list[int]
    """Rows trained on, of every rank."""
    batch_rows: int
    """The most rows a step takes on one rank."""
    buffer_rows: int
    """The most rows held at once."""
    seen: tuple[Tally, Tally] = field(default_factory=lambda: (Tally(), Tally()))
    """What this epoch has read so far."""
    kept: tuple[Columns, Columns] | None = None
    """All rows of a shard that fits: trained on, held out."""

    @classmethod
    def open(
        cls,
        table: TrainingTable,
        spec: ExampleSpec,
        training: TrainingConfig,
        ranks: Ranks,
        seed: int,
        learns_from_all: bool = False,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> Shard:
        """This rank's shard. ValueError where a rank would have no row group, or no training row.

        Cost: two narrow columns of the shard now; all columns once, or once an epoch where they do not fit the buffer.
        Memory: buffer_bytes, and a copy of the part that is being read.
        """
        if len(table.row_groups) < ranks.world:
            raise ValueError(
                f"training_examples: {len(table.row_groups)} row groups cannot feed training.num_ranks={ranks.world}: "
                "lower training.num_ranks or raise examples.num_row_groups and build the examples again"
            )
        groups = table.row_groups[ranks.rank :: ranks.world]
        expected = _count_keys(table, groups, learns_from_all)
        rows_by_rank = [int(row[0]) for row in ranks.gather([expected[0].rows])]
        if not all(rows_by_rank):
            raise ValueError(
                f"training_examples: rank {rows_by_rank.index(0)} of {ranks.world} got no row with is_validation = 0: "
                "lower training.num_ranks or examples.num_row_groups"
            )
        batch_rows = max(1, training.batch_size // ranks.world)
        buffer_rows = max(1, buffer_bytes // row_bytes(spec))
        return cls(
            table, spec, ranks, seed, training.loader, groups, learns_from_all, expected, rows_by_rank, batch_rows,
            buffer_rows,
        )  # fmt: skip

    @property
    def num_steps(self) -> int:
        """Steps an epoch, on every rank."""
        return -(-max(self.rows_by_rank) // self.batch_rows)

    @property
    def fits(self) -> bool:
        return sum(group.num_rows for group in self.groups) <= self.buffer_rows

    def training_steps(self, epoch: int) -> Generator[Step, None, None]:
        """num_steps steps over the rows that this rank trains on, shuffled by (seed, epoch, rank)."""
        self.seen = (Tally(), Tally())
        rows = _Rows(self._shuffled(epoch))
        for step in range(self.num_steps):
            sizes = [self._rows_at(step, rank) for rank in range(self.ranks.world)]
            columns = rows.take(sizes[self.ranks.rank])
            self.seen[0].add(columns["journey_id"])
            num_rows = len(columns["journey_id"])
            batch = Batch.from_columns(columns if num_rows else rows.spare_row, self.spec)
            yield Step(batch, num_rows, num_rows * self.ranks.world / sum(sizes))
        self.seen[0].add(rows.rest())  # more than the keys promised: check_epoch then says so

    def plain_batch(self, num_rows: int = 64) -> Batch:
        """Some rows without matched pairs: what a batch has least of, as a probe of what a model always uses."""
        columns = next(loader.read_arrow(self.table, self.groups[:1], loader.columns_needed(self.spec)))
        batch = Batch.from_columns({name: values[:num_rows] for name, values in columns.items()}, self.spec)
        batch.match_position_B.fill_(-1)
        batch.negative_cluster_BH.fill_(-1)
        for without in (batch.match_score_B, batch.has_upload_embedding_B, batch.upload_embedding_BE):
            without.zero_()
        return batch

    def validation_batches(self) -> Iterator[Batch]:
        """This rank's held-out rows in the table's order."""
        buffers = [self._kept()[1]] if self.fits else (self._load(part)[1] for part in self._parts(self.groups))
        for columns in buffers:
            for start in range(0, len(columns["journey_id"]), self.batch_rows):
                part = {name: values[start : start + self.batch_rows] for name, values in columns.items()}
                self.seen[1].add(part["journey_id"])
                yield Batch.from_columns(part, self.spec)

    def check_epoch(self, epoch: int) -> int:
        """Rows of the table that the epoch read, over all ranks. ValueError unless it was each row exactly once."""
        mine = [self.seen[0].rows, self.seen[1].rows]
        intact = all(seen == expected for seen, expected in zip(self.seen, self.expected, strict=True))
        everybody = self.ranks.gather([*mine, float(intact)])
        trained, held_out = (int(sum(row[i] for row in everybody)) for i in (0, 1))
        read = trained if self.learns_from_all else trained + held_out
        broken = [rank for rank, row in enumerate(everybody) if not row[2]]
        if read != self.table.num_rows or broken:
            raise ValueError(
                f"training_examples: epoch {epoch} trained on {trained} and evaluated {held_out} validation rows over "
                f"all ranks, the Parquet footers count {self.table.num_rows}; rows were lost or repeated on ranks "
                f"{broken}: run again, it resumes before this epoch; if it repeats, set training.loader to petastorm "
                "or arrow, whichever this was not"
            )
        return read

    def _rows_at(self, step: int, rank: int) -> int:
        """Rows of a rank in a step: its rows spread evenly, the first step never empty."""
        total = self.rows_by_rank[rank]
        return -(-(step + 1) * total // self.num_steps) + (-step * total // self.num_steps)

    def _shuffled(self, epoch: int) -> Iterator[tuple[Columns, np.ndarray]]:
        """Buffers of training rows, each with the order its rows are taken in."""
        if self.fits:
            buffers = iter([self._kept()[0]])
        else:
            order = np.random.default_rng((self.seed, epoch, self.ranks.rank)).permutation(len(self.groups))
            parts = self._parts([self.groups[i] for i in order])
            buffers = ahead((self._load(part)[0] for part in parts), depth=1)
        for i, columns in enumerate(buffers):
            rng = np.random.default_rng((self.seed, epoch, self.ranks.rank, i))
            yield columns, rng.permutation(len(columns["journey_id"]))

    def _kept(self) -> tuple[Columns, Columns]:
        if self.kept is None:
            self.kept = self._load(self.groups)
        return self.kept

    def _parts(self, groups: Sequence[RowGroup]) -> list[list[RowGroup]]:
        """Consecutive row groups, as many at a time as a part holds (one at least)."""
        parts: list[list[RowGroup]] = [[]]
        for group in groups:
            if parts[-1] and sum(g.num_rows for g in parts[-1]) + group.num_rows > self.buffer_rows // _PARTS:
                parts.append([])
            parts[-1].append(group)
        return parts

    def _load(self, groups: Sequence[RowGroup]) -> tuple[Columns, Columns]:
        """Rows trained on and validation rows of the row groups, touch lists cut to the longest journey among them."""
        split: tuple[list[Columns], list[Columns]] = ([], [])
        for columns in loader.READERS[self.loader](self.table, groups, loader.columns_needed(self.spec)):
            held_out = columns["is_validation"] != 0
            trained_on = ~held_out | self.learns_from_all
            split[0].append({name: values[trained_on] for name, values in columns.items()})
            split[1].append({name: values[held_out] for name, values in columns.items()})
        return self._joined(split[0]), self._joined(split[1])

    def _joined(self, parts: list[Columns]) -> Columns:
        longest = max(1, *(int(part["num_touches"].max(initial=1)) for part in parts))
        widths = dict.fromkeys(_TOUCH_LISTS, longest) | {"touch_embedding": longest * self.spec.embedding_length}
        joined = {}
        for name in list(parts[0]):
            cut = [part.pop(name) for part in parts]
            joined[name] = np.concatenate([values[:, : widths[name]] if name in widths else values for values in cut])
        return joined


def _count_keys(table: TrainingTable, groups: Sequence[RowGroup], learns_from_all: bool) -> tuple[Tally, Tally]:
    """Rows trained on and held-out rows of the row groups, by a pass of plain pyarrow over two columns."""
    trained, held_out = Tally(), Tally()
    for columns in loader.read_arrow(table, groups, ("journey_id", "is_validation")):
        journey_id, flag = columns["journey_id"], columns["is_validation"]
        if not np.isin(flag, (0, 1)).all():
            raise ValueError("training_examples.is_validation must be 0 or 1: build the examples again")
        trained.add(journey_id if learns_from_all else journey_id[flag == 0])
        held_out.add(journey_id[flag == 1])
    return trained, held_out


def row_bytes(spec: ExampleSpec) -> int:
    """Bytes of a decoded row, touch lists at their full length."""
    touch = 40 + 4 * spec.embedding_length * spec.touch_embeddings
    lists = len(spec.outcome_proxies) + len(spec.intent_proxies) + spec.num_covariates + spec.embedding_length
    return 72 + spec.max_touchpoints * touch + 4 * (lists + spec.num_hard_negatives)


class _Rows:
    """Rows of buffers, taken some at a time in each buffer's order."""

    def __init__(self, buffers: Iterator[tuple[Columns, np.ndarray]]) -> None:
        self.buffers = buffers
        self.columns, self.order = next(b for b in buffers if len(b[1]))  # a buffer may be all held-out rows
        self.spare_row = {name: values[self.order[:1]] for name, values in self.columns.items()}

    def take(self, size: int) -> Columns:
        """The next rows, fewer where the buffers end."""
        parts = [self._take_here(size)]
        while (missing := size - sum(len(part["journey_id"]) for part in parts)) > 0:
            following = next(self.buffers, None)
            if following is None:
                break
            self.columns, self.order = following
            parts.append(self._take_here(missing))
        return parts[0] if len(parts) == 1 else {name: _stack([part[name] for part in parts]) for name in parts[0]}

    def rest(self) -> np.ndarray:
        """journey_id of what nobody took."""
        left = [self.columns["journey_id"][self.order]]
        return np.concatenate(left + [columns["journey_id"][order] for columns, order in self.buffers])

    def _take_here(self, size: int) -> Columns:
        picked, self.order = self.order[:size], self.order[size:]
        return {name: values.take(picked, axis=0) for name, values in self.columns.items()}  # 4x faster than [picked]


def _stack(parts: list[np.ndarray]) -> np.ndarray:
    """One below the other; touch lists cut to different lengths are padded to the longest."""
    if parts[0].ndim == 1:
        return np.concatenate(parts)
    width = max(part.shape[1] for part in parts)
    return np.concatenate([np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in parts])


def to_device(steps: Generator[Step, None, None], device: torch.device) -> Generator[Step, None, None]:
    """The steps with their batches on the device; on a GPU they are made in a thread of their own."""
    if device.type == "cpu":
        return steps
    moved = (Step(s.batch.to(device, non_blocking=True), s.num_rows, s.weight) for s in steps)
    return ahead(moved, depth=4)
