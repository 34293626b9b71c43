"""Fits the night's models with torch.distributed, launched by Spark's TorchDistributor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyspark.ml.torch.distributor import TorchDistributor
from pyspark.sql import SparkSession

from almmta_spark import runner, tables
from almmta_spark.config import TrainingConfig
from almmta_spark.example_spec import ExampleSpec
from almmta_spark.training import main as training
from almmta_spark.training.request import FitRequest, FitResult


def run(night: runner.Night) -> None:
    """training_examples -> a folder a model; notes metrics and histories."""
    night.read(tables.TRAINING_EXAMPLES)  # remembered in the manifest; the ranks read its files themselves
    examples = night.path(tables.TRAINING_EXAMPLES)
    spec = ExampleSpec.from_dict(night.meta(tables.TRAINING_EXAMPLES)["spec"])
    conf, history, metrics, placebos = night.conf, {}, {}, {}
    refuse_missing_slots(night.spark, conf.training.num_ranks, conf.training.local_mode)
    requests = [
        FitRequest(examples, spec, conf.model, conf.training, v, conf.seed, night.model_folder(v))
        for v in (*conf.training.variants, *conf.training.placebos)
    ]
    for result in fit(night.spark, requests, conf.training):
        night.has_trained(result.variant)
        if result.variant in conf.training.placebos:
            placebos[result.variant] = result.metrics
            continue
        history[result.variant] = [flat(record) for record in result.history]
        metrics[result.variant] = {**result.metrics, "model_version": result.digest}
        runner.log.info("  %-24s model %s", result.variant, result.digest[:12])
    night.note(history=history, models=metrics, placebos=placebos)


def fit(spark: SparkSession, requests: Sequence[FitRequest], conf: TrainingConfig) -> list[FitResult]:
    """One model after the other, in one set of processes: beside the driver (local_mode), or one in a task slot.

    ValueError where the ranks refuse something; where one dies all start again (training.max_restarts).
    """
    use_gpu = spark.sparkContext.getConf().get("spark.task.resource.gpu.amount") is not None
    launcher = TorchDistributor(conf.num_ranks, conf.local_mode, use_gpu)
    asked = [request.to_json() for request in requests]
    training.restarted(lambda: launcher.run(training.run, *asked), conf.max_restarts)
    return [FitResult.load(r.output_dir) for r in requests]  # the launcher's own return value is not reliable


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
