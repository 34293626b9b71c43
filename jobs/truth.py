"""Methods against the known truth: whole nights in every world, size and seed asked for, and the tables they make.

python -m jobs.truth --worlds default hard --seeds 0 1 2 --n 60000
python -m jobs.truth --worlds default --n 5000 20000 60000 200000 --methods latent backdoor
python -m jobs.truth --page

A night is what jobs/nightly.py runs, without MLflow, in a warehouse of its own that is deleted when its figures are
kept. What is done is not run again, in the same settings and by the same code; killed anywhere, the same command goes
on where it was. The report holds all that this code has measured, in this run or before, and what it already held of
other nights and methods, with the code that measured them (--anew leaves that out); --page only writes it.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from almmta_spark import config, runner, spark_tables, storage, tables
from almmta_spark.causal.calibration import SUFFIX
from almmta_spark.config import Config
from almmta_spark.study import effects, page, parts, records, results, specs
from almmta_spark.study.progress import Progress, duration
from almmta_spark.study.records import Key, Record
from almmta_spark.study.results import NightResults, Results
from jobs import (
    attribute,
    build_examples,
    build_journeys,
    build_pairs,
    evaluate,
    fit_propensity,
    ingest,
    refit,
    simulate,
    train,
)

Stages = dict[str, tuple[runner.Stage, float]]
DS = "2026-01-15"
STAGES: Stages = {
    "simulate": (simulate.run, 0.10),
    "ingest": (ingest.run, 0.14),
    "build_journeys": (build_journeys.run, 0.05),
    "fit_propensity": (fit_propensity.run, 0.08),
    "build_pairs": (build_pairs.run, 0.04),
    "build_examples": (build_examples.run, 0.07),
    "train": (train.run, 0.13),
    "attribute": (attribute.run, 0.22),
    "evaluate": (evaluate.run, 0.17),
}
"""The night's stages and their share of its time."""
TO_EXAMPLES = ("simulate", "ingest", "build_journeys", "fit_propensity", "build_pairs", "build_examples")
TRUTH_USERS = 50_000
"""Exact effects of more users cost more than they tell."""
EXPERIMENT_SHARE = {"direct": 0.8}
"""Users in the experiment, in worlds of which only an experiment can tell; elsewhere simulator.withholding_share."""
FITTED_TWICE = ("latent", "backdoor")
"""Models whose seed_stability is measured, by one more fit."""


@dataclass(frozen=True)
class Task:
    """A night to run, for the methods it has no results of."""

    key: Key
    conf: Config
    digest: str
    methods: tuple[str, ...]
    once: bool = False
    """No second fit: seed_stability stays unmeasured."""


def main() -> None:
    """Runs the nights that are missing and writes reports/truth.{json,md}: --help says of which worlds."""
    runner.set_up_logging()
    args = parse_args()
    try:
        base = runner.settings(args)
        methods = {world: known_methods(args.methods, base, world) for world in args.worlds}
        code = results.code_digest(Path(__file__).parents[1])
        kept = Results(Path(base.warehouse, "results"))
        keys = [Key(*what) for what in itertools.product(args.worlds, args.n, args.seeds)]
        tasks = [task for key in keys for task in to_do(key, base, methods[key.world], code, kept, args.once)]
        for world, names in methods.items():
            print(f"{world}: {', '.join(names)}", file=sys.stderr)
        print(f"nights: {len(keys)}, of which {len(keys) - len(tasks)} are done", file=sys.stderr)
        failed = [] if args.page or not tasks else run(tasks, code, kept, args.keep)
        write(kept, base, code, Path(args.report), args.anew)
        if failed:
            raise ValueError(f"nights that failed, to be run again by the same command: {'; '.join(failed)}")
    except ValueError as error:
        runner.fail(error)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.truth", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--worlds", nargs="+", default=["default", "hard"], metavar="WORLD", help="simulator.world (default hard)")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="SEED", help="of worlds, users and fits (0 1 2)")
    add("--n", nargs="+", type=int, default=[60_000], metavar="USERS", help="users a night; several: a curve (60000)")
    methods = (
        "short (METHOD.md's table, the default), all, parts (with and without each), latent:exposure_factor=false,"
    )
    methods += f" or out of {', '.join(ALL_METHODS)}"
    add("--methods", nargs="+", default=["short"], metavar="METHOD", help=methods)
    add("--conf", default="conf/truth.yaml", metavar="FILE", help="YAML settings (%(default)s)")
    add("--set", dest="overrides", action="append", default=[], metavar="key=value", help="override any config key")
    add("--report", default="reports", metavar="DIR", help="where truth.json and truth.md go (%(default)s)")
    add("--once", action="store_true", help="no second fits: a night takes less time, and has no seed_stability")
    add("--keep", action="store_true", help="keep the tables of finished nights (1 GB for 60,000 users)")
    add("--page", action="store_true", help="run nothing; write the report of what is done")
    add("--anew", action="store_true", help="leave out what the report already holds by other code")
    return parser.parse_args(argv)


SHORT = (
    *("latent", "paper_lambda_0", "paper_lambda_1", "paper_lambda_5", "balanced", "backdoor_ipw", "backdoor"),
    *("attention", "shapley_model", "markov", "time_decay", "linear", "last_touch"),
)
ALL_METHODS = (*(v for v in config.VARIANTS if v != "paper"), *config.BASELINES)


def known_methods(asked: Sequence[str], base: Config, world: str = "default") -> tuple[str, ...]:
    """The methods asked for in a world, models first; beside one with settings the same without.

    `short` is METHOD.md's table, `all` every method, `parts` every part that must show in the world.
    ValueError for a name nobody declared.
    """
    asked = [m for name in asked for m in (parts.methods(world) if name == parts.ALL else [name])]
    known = (*config.VARIANTS, *config.BASELINES)
    plain, with_settings = specs.split(asked)
    unchanged = [specs.unchanged(specs.parse(text, base).variant) for text in with_settings]
    unknown = sorted(set(plain) - {"all", "short", *known})
    if unknown:
        raise ValueError(f"--methods must be short, all, parts, or out of {', '.join(known)}, got {unknown[0]!r}")
    wanted = {*plain, *(ALL_METHODS if "all" in plain else ()), *(SHORT if "short" in plain else ())}
    return (*(m for m in known if m in wanted), *dict.fromkeys([*unchanged, *with_settings]))


def to_do(key: Key, base: Config, methods: Sequence[str], code: str, kept: Results, once: bool = False) -> list[Task]:
    """The night's task; none where every method has its results."""
    conf = night_conf(key, base)
    digest = results.night_digest(conf, code)
    left = results.missing(kept.find(key, digest), methods)
    if not left:
        return []
    conf = with_methods(conf, left)
    home = f"{results.name(key)}-{digest[:8]}-{config.digest(conf)[:8]}"
    conf = replace(conf, warehouse=storage.join(base.warehouse, "nights", home))
    return [Task(key, conf, digest, tuple(left), once)]


def night_conf(key: Key, base: Config) -> Config:
    """The settings of one night: its world and what it declares, its size, its seed, at most TRUTH_USERS with truth."""
    withheld = EXPERIMENT_SHARE.get(key.world, base.simulator.withholding_share)
    share = min(base.simulator.truth_share, TRUTH_USERS / key.n, 1 - withheld)
    simulator = replace(base.simulator, world=key.world, num_users=key.n, truth_share=share, withholding_share=withheld)
    return replace(base, seed=key.seed, signals=simulate.declared_signals(key.world), simulator=simulator)


def with_methods(conf: Config, methods: Sequence[str]) -> Config:
    """The night with these methods alone; where none of them is a model, one is fitted for the tables that need one."""
    variants = tuple(m for m in methods if m in config.VARIANTS) or ("backdoor",)
    baselines = tuple(m for m in methods if m in config.BASELINES)
    return replace(
        conf,
        training=replace(conf.training, variants=variants),
        attribution=replace(conf.attribution, baselines=baselines),
    )


def steps(task: Task) -> Stages:
    """What the task's methods need of the night: all of it, or its examples alone, and further fits."""
    plain, with_settings = specs.split(task.methods)
    twice = [m for m in plain if m in FITTED_TWICE and not task.once]
    wanted = STAGES if plain else {name: STAGES[name] for name in TO_EXAMPLES}
    if not (twice or with_settings):
        return wanted
    return wanted | {"further_fits": (partial(further_fits, task, twice, with_settings), 0.1)}


def further_fits(task: Task, twice: Sequence[str], with_settings: Sequence[str], night: runner.Night) -> None:
    """Fits models a second time with another seed, and methods with settings of their own; notes what they say."""
    spark, conf = night.spark, night.conf
    found = refit.sample(spark, conf, night.ds)
    notes = {m["stage"]: m["notes"] for m in runner.manifests(spark, conf, night.ds)}
    trained = notes["train"]["models"] if twice else {}
    chosen = {m: with_structure(specs.parse(m, conf), trained[m].get("signed")) for m in twice}
    again = [refit.Fit(spec, conf, night.ds, conf.seed + 1) for spec in chosen.values()]
    single = specs.single_fits(conf)
    others = [refit.Fit(specs.parse(m, single), conf, night.ds, conf.seed) for m in with_settings]
    fitted = refit.fit(spark, night.model_folder("_further"), [*again, *others])
    figures: list[tuple[str, str, float]] = []
    for one, result in zip(again, fitted[: len(again)], strict=True):
        both = [found.effects(folder) for folder in (night.model_folder(one.spec.variant), result.output_dir)]
        figures += [(one.spec.name, *item) for item in effects.seed_stability(both, found.cluster_N).items()]
    for one, result in zip(others, fitted[len(again) :], strict=True):
        errors = effects.against_truth(found.effects(result.output_dir), found.ett_N, found.journey_N, found.group_N)
        figures += [(one.spec.name, *item) for item in errors.items()]
    night.note(figures=figures)


def with_structure(spec: specs.Spec, signed: float | None) -> specs.Spec:
    """The structure a first fit has chosen (None: it had no choice), not to be chosen again."""
    return spec if signed is None else replace(spec, model=replace(spec.model, signed=bool(signed)))


def run(tasks: Sequence[Task], code: str, kept: Results, keep_tables: bool) -> list[str]:
    """The nights one after the other in one Spark session, each one's figures kept when it is done; those that failed.

    A night that fails is said and passed over: the rest of an hour's study is worth having.
    """
    spark = runner.session(tasks[0].conf, "truth")
    progress = Progress([(task.key, [(name, share) for name, (_, share) in steps(task).items()]) for task in tasks])
    failed = []
    for number, task in enumerate(tasks):
        try:
            seconds = run_night(spark, task.conf, DS, steps(task), number, progress)
            kept.add(NightResults(task.key, task.digest, code, task.methods, seconds, figures(spark, task)))
        except Exception as error:  # whatever a world or a model may raise, Spark's and torch's errors among it
            runner.log.exception("night %s failed", task.key)
            failed.append(f"{task.key} ({type(error).__name__})")
            progress.give_up(number)
            continue
        if not keep_tables:
            storage.delete(spark, task.conf.warehouse)
    spark.stop()
    runner.log.info("%d nights in %s", len(tasks) - len(failed), duration(time.monotonic() - progress.started))
    return failed


def run_night(spark: SparkSession, conf: Config, ds: str, stages: Stages, number: int, progress: Progress) -> float:
    """The night's stages but for those an earlier run has ended; the seconds they all took."""
    earlier = {m["stage"]: m["seconds"] for m in runner.manifests(spark, conf, ds)}
    total = 0.0
    for name, (stage, _) in stages.items():
        if name in earlier:
            total += earlier[name]
            progress.done(number, name, None)
            continue
        runner.log.info("%s", progress.line(number, name))
        done = runner.run_stage(runner.Night(spark, conf, ds, name), stage)
        total += done["seconds"]
        progress.done(number, name, done["seconds"])
    return total


def figures(spark: SparkSession, task: Task) -> tuple[Record, ...]:
    """The night's small tables and the further fits as records of the methods asked for."""
    manifests = {m["stage"]: m for m in runner.manifests(spark, task.conf, DS)}
    found: list[Record] = []
    if "evaluate" in manifests:
        small = (tables.TRUTH_METRICS, tables.AUUC_BY_BUCKET, tables.DIAGNOSTICS)
        found += records.of_night(task.key, *(rows(spark, task.conf, table) for table in small))
    further = manifests.get("further_fits", {}).get("notes", {}).get("figures", [])
    found += [
        Record(task.key.world, task.key.n, task.key.seed, method, metric, None, value)
        for method, metric, value in further
    ]
    error = manifests["simulate"]["notes"].get("truth_error")
    found.append(Record(task.key.world, task.key.n, task.key.seed, records.NIGHT, "truth_error", None, error))
    wanted = {*task.methods, *(f"{m}{SUFFIX}" for m in task.methods), records.NIGHT, "truth"}
    return tuple(r for r in found if r.method in wanted)


def rows(spark: SparkSession, conf: Config, table: tables.Table) -> list[dict[str, Any]]:
    """A small table of the night as dictionaries, ordered by its key."""
    return [row.asDict() for row in spark_tables.read(spark, conf, table, DS).orderBy(*table.key).collect()]


def nights_of(kept: Results, base: Config, code: str) -> list[NightResults]:
    """Every night run in these settings by this code."""
    return [n for n in kept.all() if n.digest == results.night_digest(night_conf(n.key, base), code)]


def write(kept: Results, base: Config, code: str, folder: Path, anew: bool = False) -> None:
    """truth.json and truth.md of every night run in these settings by this code; shows what to look at first.

    What the report holds of other nights and methods stays, unless anew.
    """
    nights = nights_of(kept, base, code)
    if not nights:
        raise ValueError("no night has been run by this code yet: run `make truth` without --page")
    found = [r for night in nights for r in (*night.records, measured_by(night))]
    path = folder / "truth.json"
    if path.exists() and not anew:
        found = records.completed(found, records.read(path))
    records.write(found, path)
    (folder / "truth.md").write_text(page.page(found))
    print(page.summary(found))
    print(f"written: {path}, {folder}/truth.md", file=sys.stderr)


def measured_by(night: NightResults) -> Record:
    """Which code measured a night, and how long it took, as a record."""
    key = night.key
    metric = f"{records.CODE}{night.code[:12]}"
    return Record(key.world, key.n, key.seed, records.NIGHT, metric, None, round(night.seconds, 1))


if __name__ == "__main__":
    main()
