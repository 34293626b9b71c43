"""Figures from our own fits: training dynamics, seeds, sensitivity, one journey, error against n; and stability.

python -m jobs.figures --world default --seed 0 --n 60000

Three nights up to their training examples (the world's, the next night's, the other policy's), about forty fits, and
one sample of journeys that all of them score. How far the effects move joins the records of `make truth`. Killed
anywhere, the same command goes on where it was. Tables and models stay in runs/truth/figures (3 GB for 60,000 users).
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from pyspark.sql import SparkSession

from almmta_spark import causal, runner, spark_tables, storage, tables
from almmta_spark.config import Config
from almmta_spark.evaluation import exact
from almmta_spark.example_spec import ExampleSpec
from almmta_spark.examples.build import build_examples
from almmta_spark.examples.layout import WRITE_OPTIONS, laid_out, num_groups
from almmta_spark.pairs.build import build_pairs
from almmta_spark.study import effects, explain, figures, parts, results, specs
from almmta_spark.study.effects import Floats
from almmta_spark.study.progress import Progress
from almmta_spark.study.records import Found, Key, Record
from almmta_spark.study.results import NightResults, Results
from jobs import refit, truth
from jobs.refit import Fit
from jobs.train import FitResult

OTHER_POLICY = {"default": "hard", "hard": "default"}
"""Worlds that differ in the recommender's policy alone."""
METHODS = ("latent", "backdoor")
PAIRED = "paper"
"""The model that learns from matched pairs."""
NUM_SEEDS = 4
RATES = (0.005, 0.01, 0.02, 0.04, 0.08)
ADVERSARY = (0.0, 0.3, 1.0, 3.0, 10.0)
QUANTILES = (0.3, 0.5, 0.7, 0.9)
"""Of all similarities inside journeys: the matching threshold from loose to tight."""
WITHOUT = {
    variant: (
        f"{variant}:",
        *(p.method for p in parts.PARTS if p.method.startswith(f"{variant}:") and "default" in p.worlds),
    )
    for variant in ("latent", "paper")
}
"""Each model as it is, and with each part changed."""
LOSSES = {
    "latent: proxies and outcome together": ("held_out", "nll", WITHOUT["latent"]),
    "paper: outcome": ("held_out", "nll", WITHOUT["paper"]),
    "paper: proxies": ("held_out", "proxy_nll", WITHOUT["paper"]),
}
"""Panels of the training dynamics: part of the history, loss, fits."""
JOURNEY_TOUCHES = 6
EXPLAINED = Path(causal.__file__).with_name("figures")
"""The figures of the page that explains the method; they need no night."""


@dataclass(frozen=True)
class Fitted:
    """Models by (method, examples, seed), with what they say of the sample."""

    results: dict[tuple[str, str, int], FitResult]
    effects: dict[tuple[str, str, int], Floats]
    sample: refit.Sample
    seed: int

    def effect(self, method: str, examples: str = "base", seed: int | None = None) -> Floats:
        """Effects of the sampled touches by one fit, [N]."""
        return self.effects[method, examples, self.seed if seed is None else seed]

    def errors(self, method: str, examples: str = "base") -> dict[str, float]:
        """Metrics of that fit against the exact effects."""
        of = self.sample
        return dict(effects.against_truth(self.effect(method, examples), of.ett_N, of.journey_N, of.group_N))

    def moved(self, method: str, examples: str = "base", seed: int | None = None) -> float:
        """From the base night's own fit to another one."""
        return effects.movement(self.effect(method), self.effect(method, examples, seed), self.sample.cluster_N)


def main() -> None:
    """Fits what is missing, draws everything and writes it: --help says of which night."""
    runner.set_up_logging()
    args = parse_args()
    try:
        base = runner.settings(args)
        code = results.code_digest(Path(__file__).parents[1])
        key = Key(args.world, args.n, args.seed)
        digest = results.night_digest(truth.night_conf(key, base), code)
        home = storage.join(base.warehouse, "figures", f"{results.name(key)}-{digest[:8]}")
        nights = night_confs(key, base, home)
        save(explain.draw(), EXPLAINED)
        spark = runner.session(base, "figures")
        started = time.monotonic()
        fitted = fit_all(spark, key, nights, home)
        drawn = draw(spark, nights["base"], fitted)
        kept = Results(Path(base.warehouse, "results"))
        seconds = time.monotonic() - started
        kept.add(NightResults(key, digest, code, ("stability",), seconds, tuple(stability(key, fitted))))
        found = Found(r for night in truth.nights_of(kept, base, code) for r in night.records)
        curve = figures.error_against_n(found, METHODS, "Error against the size of a night")
        save(drawn | ({} if curve is None else {"error_against_n": curve}), Path(args.report, "figures"))
        spark.stop()
        truth.write(kept, base, code, Path(args.report))
    except ValueError as error:
        runner.fail(error)


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.figures", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--world", default="default", metavar="WORLD", help="simulator.world (%(default)s)")
    add("--seed", type=int, default=0, metavar="SEED", help="of the world, its users and the fits (%(default)s)")
    add("--n", type=int, default=60_000, metavar="USERS", help="users a night (%(default)s)")
    add("--conf", default="conf/truth.yaml", metavar="FILE", help="YAML settings (%(default)s)")
    add("--set", dest="overrides", action="append", default=[], metavar="key=value", help="override any config key")
    add("--report", default="reports", metavar="DIR", help="figures go to its folder figures/ (%(default)s)")
    return parser.parse_args()


def night_confs(key: Key, base: Config, home: str) -> dict[str, Config]:
    """The nights to simulate, each in a warehouse of its own: base, next, and policy where there is another one."""
    worlds = {"base": key.world, "next": key.world}
    worlds |= {"policy": OTHER_POLICY[key.world]} if key.world in OTHER_POLICY else {}
    return {
        name: replace(
            truth.with_methods(truth.night_conf(replace(key, world=world), base), METHODS),
            warehouse=storage.join(home, name),
        )
        for name, world in worlds.items()
    }


def night_ds(name: str) -> str:
    """The night of a table of examples."""
    return spark_tables.shift(truth.DS, 1) if name == "next" else truth.DS


def fit_all(spark: SparkSession, key: Key, nights: dict[str, Config], home: str) -> Fitted:
    """Runs the nights, derives the other examples, trains every model and scores the sample with it."""
    stages = {
        name: {s: truth.STAGES[s] for s in (*truth.TO_EXAMPLES, *(("train", "attribute") if name == "base" else ()))}
        for name in nights
    }
    wanted = fits(nights)
    shares = [[(s, share) for s, (_, share) in of.items()] for of in stages.values()]
    progress = Progress([(key, steps) for steps in [*shares, [("fits", 0.06 * len(wanted))]]])
    for number, (name, conf) in enumerate(nights.items()):
        truth.run_night(spark, conf, night_ds(name), stages[name], number, progress)
    runner.log.info("%s", progress.line(len(nights), f"{len(wanted)} fits"))
    other_order(spark, nights["base"], derived(nights["base"], "order"))
    for quantile in QUANTILES:
        other_pairs(spark, derived(nights["base"], pairs_name(quantile)), nights["base"], quantile)
    found = refit.fit(spark, storage.join(home, "models"), wanted)
    sample = refit.sample(spark, nights["base"], truth.DS)
    keys = [(one.spec.name, Path(one.examples.warehouse).name, one.seed) for one in wanted]
    said = {k: sample.effects(result.output_dir) for k, result in zip(keys, found, strict=True)}
    return Fitted(dict(zip(keys, found, strict=True)), said, sample, nights["base"].seed)


def derived(base: Config, name: str) -> Config:
    """A warehouse beside the base night's, for the examples alone."""
    return replace(base, warehouse=str(Path(base.warehouse).with_name(name)))


def pairs_name(quantile: float) -> str:
    """Of the examples whose pairs are matched from another quantile on."""
    return f"pairs{quantile:g}"


def fits(nights: dict[str, Config]) -> list[Fit]:
    """Every model of the study, once each."""
    base = nights["base"]
    single = specs.single_fits(base)

    def one(method: str, examples: str = "base", seed: int | None = None) -> Fit:
        conf = nights.get(examples) or derived(base, examples)
        return Fit(specs.parse(method, single), conf, night_ds(examples), base.seed if seed is None else seed)

    wanted = [one(m, seed=base.seed + i) for m in METHODS for i in range(NUM_SEEDS)]
    wanted += [one(m, examples) for m in METHODS for examples in ("order", *(n for n in nights if n != "base"))]
    wanted += [one(PAIRED, pairs_name(q)) for q in QUANTILES]
    wanted += [one(f"latent:{rate}={value:g}") for rate in ("dense_lr", "sparse_lr") for value in RATES]
    wanted += [one(f"paper:adversary_weight={value:g}") for value in ADVERSARY]
    wanted += [one(method) for _, _, methods in LOSSES.values() for method in methods]
    return list({fit.name: fit for fit in wanted}.values())


def other_order(spark: SparkSession, base: Config, conf: Config) -> None:
    """The base night's examples with their rows in another order, in other row groups."""
    if spark_tables.exists(spark, conf, tables.TRAINING_EXAMPLES, truth.DS):
        return
    examples = spark_tables.read(spark, base, tables.TRAINING_EXAMPLES, truth.DS)
    meta = spark_tables.meta(spark, base, tables.TRAINING_EXAMPLES, truth.DS)
    rows = examples.count()
    wanted = base.examples
    groups = num_groups(rows, wanted.num_row_groups, wanted.max_row_group_rows, base.training.num_ranks)
    shuffled = laid_out(examples, rows, groups, base.seed + 1)
    spark_tables.write(shuffled, conf, tables.TRAINING_EXAMPLES, truth.DS, {"spec": meta["spec"]}, WRITE_OPTIONS)


def other_pairs(spark: SparkSession, conf: Config, base: Config, quantile: float) -> None:
    """The base night's examples with pairs drawn at another threshold."""
    if spark_tables.exists(spark, conf, tables.TRAINING_EXAMPLES, truth.DS):
        return
    read = (tables.JOURNEYS, tables.PROPENSITIES, tables.ITEM_CLUSTERS)
    journeys, propensities, items = (spark_tables.read(spark, base, table, truth.DS) for table in read)
    changed = replace(conf, pairs=replace(conf.pairs, match_threshold=None, match_quantile=quantile))
    pairs, _ = build_pairs(journeys, propensities, items, changed)
    meta = spark_tables.meta(spark, base, tables.TRAINING_EXAMPLES, truth.DS)
    examples = build_examples(journeys, propensities, pairs, items, ExampleSpec.from_dict(meta["spec"]), changed)
    spark_tables.write(examples, conf, tables.TRAINING_EXAMPLES, truth.DS, {"spec": meta["spec"]}, WRITE_OPTIONS)


def stability(key: Key, fitted: Fitted) -> list[Record]:
    """How far clusters' mean effects move from the base night's fit, by what was changed."""
    there = {examples for _, examples, _ in fitted.effects}
    moves: list[tuple[str, str, float]] = []
    for method in METHODS:
        seeds = range(fitted.seed + 1, fitted.seed + NUM_SEEDS)
        moves.append((method, "moves/seed", float(np.mean([fitted.moved(method, seed=s) for s in seeds]))))
        for examples, name in (("order", "order"), ("next", "night"), ("policy", "policy")):
            if examples in there:
                moves.append((method, f"moves/{name}", fitted.moved(method, examples)))
    middle = fitted.effect(PAIRED, pairs_name(0.7))
    for quantile in QUANTILES:
        moved = effects.movement(middle, fitted.effect(PAIRED, pairs_name(quantile)), fitted.sample.cluster_N)
        moves.append((PAIRED, f"moves/pairs above {quantile:g}", moved))
    return [Record(key.world, key.n, key.seed, m, name, None, value) for m, name, value in moves]


def draw(spark: SparkSession, base: Config, fitted: Fitted) -> dict[str, Figure]:
    """Every figure by its name."""
    of = f"world {base.simulator.world}, {base.simulator.num_users:,} users"
    cluster_N = fitted.sample.cluster_N
    seeds = range(fitted.seed, fitted.seed + NUM_SEEDS)
    by_seed = {m: {s: effects.by_group(fitted.effect(m, seed=s), cluster_N) for s in seeds} for m in METHODS}
    true_K = effects.by_group(fitted.sample.ett_N, cluster_N)
    return {
        "training_dynamics": figures.dynamics(dynamics(fitted), f"Training with and without each part ({of})"),
        "across_seeds": figures.across_seeds(by_seed, true_K, f"Effects by cluster, fits of four seeds ({of})"),
        "sensitivity": figures.sensitivity(sweeps(fitted, base), f"Sensitivity to the settings ({of})"),
        "journey": figures.journey(one_journey(spark, base), f"One user's journey that ended in an upload ({of})"),
    }


def dynamics(fitted: Fitted) -> dict[str, dict[str, list[float]]]:
    """Panels of loss curves; a fit's label says its error against the truth."""
    return {
        panel: {label(fitted, m): [e[part][loss] for e in history(fitted, m)] for m in methods}
        for panel, (part, loss, methods) in LOSSES.items()
    }


def label(fitted: Fitted, method: str) -> str:
    """A method in words, with its error."""
    name = parts.WORDS.get(method, "as it is")
    return f"{name} (RMSE {fitted.errors(method)['relative_rmse']:.2f})"


def history(fitted: Fitted, method: str) -> list[dict]:
    """Epochs of a method's training."""
    return fitted.results[method, "base", fitted.seed].history


def sweeps(fitted: Fitted, base: Config) -> list[figures.Sweep]:
    """Errors under other values of the settings that people ask about."""
    rates = [
        figures.Sweep(
            f"training.{rate}", "latent", RATES, [fitted.errors(f"latent:{rate}={v:g}") for v in RATES], log=True
        )
        for rate in ("dense_lr", "sparse_lr")
    ]
    adversary = [fitted.errors(f"paper:adversary_weight={v:g}") for v in ADVERSARY]
    pairs = [fitted.errors(PAIRED, pairs_name(q)) for q in QUANTILES]
    return [
        *rates,
        figures.Sweep("model.adversary_weight", PAIRED, ADVERSARY, adversary),
        figures.Sweep("pairs.match_quantile", PAIRED, QUANTILES, pairs),
    ]


def one_journey(spark: SparkSession, base: Config) -> figures.Journey:
    """A journey of the base night that ended in an upload after at least JOURNEY_TOUCHES touches of known effect."""
    truth_rows = spark_tables.read_day(spark, base, tables.TRUTH_ATTRIBUTION, truth.DS)
    rows = spark_tables.read(spark, base, tables.ATTRIBUTION, truth.DS)
    return figures.Journey.of(exact.one_journey(rows, truth_rows, METHODS, JOURNEY_TOUCHES), METHODS)


def save(drawn: dict[str, Figure], folder: Path) -> None:
    """As PNG files in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in drawn.items():
        figure.savefig(folder / f"{name}.png", dpi=110)
        print(f"written: {folder / name}.png", file=sys.stderr)


if __name__ == "__main__":
    main()
