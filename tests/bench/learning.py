"""Loading, training and scoring on one training table. B journeys, L touchpoints."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from almmta_spark import runner
from almmta_spark.config import Config, EnsembleConfig
from almmta_spark.example_spec import ExampleSpec
from almmta_spark.model import build, saved
from almmta_spark.model.batch import Batch
from almmta_spark.model.ensemble import Ensemble
from almmta_spark.training import loader
from almmta_spark.training.loader import Columns, TrainingTable
from almmta_spark.training.main import launch
from almmta_spark.training.request import FitRequest
from tests.bench.measure import Record, seconds_of, settings, training_table

REPEATS = 5
EPOCHS = 2
VARIANT = "latent"
COMPARED = ("paper", "backdoor", "backdoor_ipw", "balanced", "doubly_robust", "attention", "shapley_model")
MAX_SCORED = 20_000


def loading(work: str, name: str, size: int) -> Record:
    """Rows/s of each reader over the whole table in this process: the median of REPEATS, taken in turn."""
    path, spec = training_table(settings(work, name, size))
    table, columns = loader.open_table(path, spec), loader.columns_needed(spec)

    def through(read: Callable[..., Iterator[Columns]]) -> Callable[[], object]:
        return lambda: sum(len(c["journey_id"]) for c in read(table, table.row_groups, columns))

    readers = {read: through(function) for read, function in loader.READERS.items()}
    readers["pyarrow"] = lambda: _bare_reads(table, columns)
    times: dict[str, list[float]] = {reader: [] for reader in readers}
    for _ in range(REPEATS + 1):  # the first fills the page cache
        for reader, read in readers.items():
            times[reader].append(seconds_of(read))
    medians = {reader: statistics.median(seconds[1:]) for reader, seconds in times.items()}
    rates = [_rate(reader, seconds, table.num_rows) for reader, seconds in medians.items()]
    return {"rows": table.num_rows, "row_groups": len(table.row_groups), "columns": len(columns), "readers": rates}


def _rate(reader: str, seconds: float, rows: int) -> Record:
    runner.log.info("  %-10s %12s rows/s", reader, f"{rows / seconds:,.0f}")
    return {"reader": reader, "seconds": round(seconds, 4), "rows_per_second": round(rows / seconds)}


def _bare_reads(table: TrainingTable, columns: tuple[str, ...]) -> None:
    """The same row groups as Arrow tables, not decoded to NumPy."""
    for name in dict.fromkeys(group.file for group in table.row_groups):
        with pq.ParquetFile(table.folder.path_of(name)) as file:
            for index in range(file.num_row_groups):
                file.read_row_group(index, columns=list(columns))


def training(work: str, name: str, size: int, num_ranks: int) -> Record:
    """Journeys/s of the last epoch and the share of each epoch spent waiting for data."""
    conf = settings(work, name, size)
    path, spec = training_table(conf)
    alone = EnsembleConfig(variants=())
    chosen = dataclasses.replace(conf.training, epochs=EPOCHS, num_ranks=num_ranks, ensemble=alone)
    request = FitRequest(path, spec, conf.model, chosen, VARIANT, conf.seed, model_folder(work, name, num_ranks))
    (result,) = launch(request, num_ranks=num_ranks)
    speed = result.history[-1]["journeys_per_second"]
    waits = [round(epoch["data_wait_share"], 4) for epoch in result.history]
    runner.log.info("  %d rank(s): %s journeys/s, %.1f%% waiting for data", num_ranks, f"{speed:,.0f}", 100 * waits[-1])
    return {
        "ranks": num_ranks,
        "journeys": spec.num_training,
        "batch_size": chosen.batch_size,
        "loader": chosen.loader,
        "journeys_per_second": round(speed),
        "data_wait_share": waits,
        "bytes_sent_per_epoch": result.history[-1]["bytes_sent"],
    }


def model_folder(work: str, name: str, num_ranks: int) -> str:
    return str(Path(work, name, f"model-{num_ranks}-ranks"))


def effects(work: str, name: str, size: int) -> Record:
    """All deletions of a batch's journeys beside one forward pass (loss and terms, no gradients), one thread.

    Of each variant: the trained one, and the others with the weights they start from, which change no cost. The median
    over batches of each batch's fastest of REPEATS runs, the two taken in turn.
    """
    torch.set_num_threads(1)
    conf = settings(work, name, size)
    path, spec = training_table(conf)
    batches = _batches(path, spec, conf)
    touches = sum(int(batch.num_touches_B.sum()) for batch in batches)
    journeys = sum(batch.size for batch in batches)
    models: dict[str, Any] = {VARIANT: saved.load(model_folder(work, name, 1))[0]}
    for variant in COMPARED:
        models[variant] = _started(build(variant, spec, conf.model), batches[0])
    plan = conf.training.ensemble
    together = f"{VARIANT}, ensemble of {plan.members}"
    models[together] = _started(Ensemble(VARIANT, spec, conf.model, plan, conf.seed), batches[0])
    rows = [{"variant": v, **_deletions(v, model, batches, touches, journeys)} for v, model in models.items()]
    return {
        "journeys": journeys,
        "effects": touches,
        "rows_per_batch": conf.attribution.rows_per_batch,
        "forwards_one_by_one": round(1 + touches / journeys, 2),
        "variants": rows,
    }


def _started(model: Any, batch: Batch) -> Any:
    """As it is before the first step, but for what a model remembers of the rows it trains on."""
    model.reset_parameters(torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.train()(batch, 1.0)
    return model.eval()


def _deletions(variant: str, model: Any, batches: list[Batch], touches: int, journeys: int) -> Record:
    forward, deletions = [], []
    with torch.no_grad():
        for batch in batches:
            one, all_deletions = partial(model, batch, 1.0), partial(model.effects, batch)
            runs = [(seconds_of(one), seconds_of(all_deletions)) for _ in range(REPEATS)]
            forward.append(min(run[0] for run in runs))
            deletions.append(min(run[1] for run in runs))
    ratio = statistics.median(d / f for d, f in zip(deletions, forward, strict=True))
    runner.log.info("  %-24s all deletions cost %.2f forward passes", variant, ratio)
    return {
        "effects_per_second": round(touches / sum(deletions)),
        "journeys_per_second": round(journeys / sum(deletions)),
        "forward_journeys_per_second": round(journeys / sum(forward)),
        "deletions_to_forward": round(ratio, 3),
    }


def _batches(path: str, spec: ExampleSpec, conf: Config) -> list[Batch]:
    """The first MAX_SCORED journeys in batches of the size that attribution scores."""
    table = loader.open_table(path, spec)
    held: list[Columns] = []
    for columns in loader.read_arrow(table, table.row_groups, loader.columns_needed(spec)):
        held.append(columns)
        if sum(len(c["journey_id"]) for c in held) >= MAX_SCORED:
            break
    joined = {name: np.concatenate([columns[name] for columns in held])[:MAX_SCORED] for name in held[0]}
    step = conf.attribution.rows_per_batch
    starts = range(0, len(joined["journey_id"]), step)
    return [Batch.from_columns({n: c[s : s + step] for n, c in joined.items()}, spec) for s in starts]
