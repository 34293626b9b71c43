"""Fits the night's models with torch.distributed, launched by Spark's TorchDistributor."""

from __future__ import annotations

import time
from typing import Any

from pyspark.ml.torch.distributor import TorchDistributor
from pyspark.sql import SparkSession

from almmta_spark import runner, tables
from almmta_spark.example_spec import ExampleSpec
from almmta_spark.training import main as training
from almmta_spark.training.request import FitRequest, FitResult


def run(night: runner.Night) -> None:
    night.read(tables.TRAINING_EXAMPLES)  # remembered in the manifest; the ranks read its files themselves
    spec = ExampleSpec.from_dict(night.meta(tables.TRAINING_EXAMPLES)["spec"])
    conf, history, metrics = night.conf, {}, {}
    refuse_missing_slots(night.spark, conf.training.num_ranks, conf.training.local_mode)
    for variant in conf.training.variants:
        request = FitRequest(
            dataset_url=night.path(tables.TRAINING_EXAMPLES),
            spec=spec,
            model=conf.model,
            training=conf.training,
            variant=variant,
            seed=conf.seed,
            output_dir=night.model_folder(variant),
        )
        clock = time.monotonic()
        result = fit(night.spark, request)
        history[variant] = [flat(record) for record in result.history]
        metrics[variant] = {**result.metrics, "model_version": result.digest}
        runner.log.info("  %-24s %12.1f s, model %s", variant, time.monotonic() - clock, result.digest[:12])
    night.note(history=history, models=metrics)


def fit(spark: SparkSession, request: FitRequest) -> FitResult:
    """Trains in processes of their own: beside the driver (local_mode), or one in a task slot of each executor core."""
    use_gpu = spark.sparkContext.getConf().get("spark.task.resource.gpu.amount") is not None
    launcher = TorchDistributor(request.training.num_ranks, request.training.local_mode, use_gpu)
    launcher.run(training.run, request.to_json())
    return FitResult.load(request.output_dir)  # the launcher's own return value is not reliable


def refuse_missing_slots(spark: SparkSession, num_ranks: int, local_mode: bool) -> None:
    """ValueError where the ranks would wait for ever for task slots that the cluster does not have."""
    if local_mode:
        return
    context: Any = spark.sparkContext._jsc.sc()  # type: ignore[union-attr]
    slots = context.maxNumConcurrentTasks(context.resourceProfileManager().defaultResourceProfile())
    if num_ranks > slots:
        raise ValueError(
            f"training.num_ranks must be <= the cluster's {slots} task slots with training.local_mode=false, got "
            f"{num_ranks}: add executors, or --set training.num_ranks={slots}"
        )


def flat(record: dict[str, Any]) -> dict[str, float]:
    """One epoch's entry with its loss terms as train_* and held_out_*."""
    out = {name: value for name, value in record.items() if isinstance(value, (int, float))}
    for prefix, terms in (("train", record.get("loss", {})), ("held_out", record.get("held_out", {}))):
        out.update({f"{prefix}_{name}": value for name, value in terms.items()})
    return out


if __name__ == "__main__":
    runner.main("train", run, __doc__)
