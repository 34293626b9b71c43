"""Where Spark and torch meet: feature rows in, scores out, partition by partition.

Rows are cut into batches of a fixed size in the order in which the partition holds them, whatever Arrow batches they
come in, so equal partitions give equal bits. A Python worker loads a model once and keeps it for its later tasks.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from almmta_spark.example_spec import ExampleSpec

if TYPE_CHECKING:
    from pyspark import Broadcast


PASSED_ON = ("journey_id", "num_touches", "propensity_bucket")
JOURNEY_VALUES = (
    *("p_outcome", "p_do", "mu", "g0", "slope", "posterior_mean"),
    *("intent_residual", "mediator_overlap", "leak_gain"),
)
TOUCH_VALUES = (
    "removal_effect",
    "removal_effect_lower",
    "removal_effect_upper",
    "removal_effect_ate",
    "p_outcome_deleted",
)
SCHEMA = (
    "journey_id bigint, method string, model_version string, num_touches int, propensity_bucket array<int>, "
    "p_outcome double, p_do double, mu double, g0 double, slope double, posterior_mean double, intent_residual double, "
    "mediator_overlap double, leak_gain double, "
    "removal_effect array<double>, removal_effect_lower array<double>, removal_effect_upper array<double>, "
    "removal_effect_ate array<double>, p_outcome_deleted array<double>, removal_effect_members array<array<float>>"
)
"""What a Scorer yields: journey values, and one value a touch, oldest first; one list a touch of an ensemble's members'
effects, null of a single model."""
_NAMES = [column.split()[0] for column in SCHEMA.split(", ")]


@dataclass(frozen=True)
class FittedModel:
    """A model's files on the driver, as they are sent to the executors."""

    variant: str
    version: str
    """Digest of weights and settings: what a worker remembers the model by."""
    spec: ExampleSpec
    files: dict[str, bytes]
    metrics: dict[str, Any]


@dataclass(frozen=True)
class Scorer:
    """Saved models as a function for DataFrame.mapInArrow: columns of training_examples in, SCHEMA out: a row for every
    journey and model. Memory of a worker: the models, one batch and its scores."""

    models: Broadcast[list[FittedModel]]
    rows_per_batch: int
    level: float = 0.95
    """Of the intervals."""
    seen: bool = False
    """Whether the model may have learned from the rows' users."""

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for rows in fixed_batches(batches, self.rows_per_batch):
            for fitted in self.models.value:
                yield self._scored(rows, fitted)

    def _scored(self, rows: pa.Table, fitted: FittedModel) -> pa.RecordBatch:
        from almmta_spark.inference.deletion import deletion_effects

        model = _loaded(fitted)
        scores: dict[str, NDArray] = deletion_effects(model, fitted.spec, columns(rows), self.level, self.seen)
        counts_B = rows["num_touches"].to_numpy()
        one_each = {n: pa.array(scores[n], from_pandas=True) for n in JOURNEY_VALUES}
        lists = {n: ragged(scores[n], counts_B) for n in TOUCH_VALUES}
        lists["removal_effect_members"] = ragged_lists(scores["removal_effect_members"], counts_B)
        same = {"method": pa.repeat(fitted.variant, len(rows)), "model_version": pa.repeat(fitted.version, len(rows))}
        passed = {name: rows[name].combine_chunks() for name in PASSED_ON}
        found = passed | same | one_each | lists
        return pa.RecordBatch.from_pydict({name: found[name] for name in _NAMES})


def fixed_batches(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """The same rows in the same order, `rows` at a time; the last may be shorter. Holds one batch and one more."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(b.num_rows for b in held) < rows:
            continue
        table = pa.Table.from_batches(held)
        whole = table.num_rows - table.num_rows % rows
        yield from (table.slice(start, rows) for start in range(0, whole, rows))
        held = table.slice(whole).to_batches()
    if sum(b.num_rows for b in held):
        yield pa.Table.from_batches(held)


def columns(rows: pa.Table) -> dict[str, NDArray]:
    """Columns as arrays, lists (of one length a column) stacked to [rows, length], without a per-row loop."""
    found = {}
    for name in rows.column_names:
        column = rows[name].combine_chunks()
        if pa.types.is_list(column.type):
            found[name] = column.flatten().to_numpy(zero_copy_only=False).reshape(rows.num_rows, -1)
        else:
            found[name] = column.to_numpy(zero_copy_only=False)
    return found


def ragged(values_BL: NDArray, counts_B: NDArray) -> pa.ListArray:
    """Row b's first counts_B[b] values as lists; NaN becomes null."""
    real_BL = np.arange(values_BL.shape[1]) < counts_B[:, None]
    offsets = np.concatenate([[0], np.cumsum(counts_B)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values_BL[real_BL], from_pandas=True))


def ragged_lists(values_BLM: NDArray, counts_B: NDArray) -> pa.Array:
    """Row b's first counts_B[b] lists of M float32 values; null where M is 0."""
    num_members = values_BLM.shape[2]
    kind = pa.list_(pa.list_(pa.float32()))
    if not num_members:
        return pa.nulls(len(counts_B), kind)
    values = values_BLM[np.arange(values_BLM.shape[1]) < counts_B[:, None]]
    inner = np.arange(0, values.size + 1, num_members, dtype=np.int32)
    lists = pa.ListArray.from_arrays(pa.array(inner), pa.array(values.reshape(-1), pa.float32()))
    offsets = np.concatenate([[0], np.cumsum(counts_B)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), lists)


_MODELS: dict[str, Any] = {}
"""Models this Python worker has loaded, by digest; the oldest goes when there would be more than MAX_LOADED."""
MAX_LOADED = 32


def _loaded(fitted: FittedModel) -> Any:
    """The model, on one thread: the cores are Spark's to share out."""
    import torch

    from almmta_spark.model import saved

    torch.set_num_threads(1)
    if fitted.version not in _MODELS:
        with tempfile.TemporaryDirectory() as folder:
            for name, content in fitted.files.items():
                Path(folder, name).write_bytes(content)
            model, _, _ = saved.load(folder)
        if len(_MODELS) >= MAX_LOADED:
            _MODELS.pop(next(iter(_MODELS)))
        _MODELS[fitted.version] = model
    return _MODELS[fitted.version]
