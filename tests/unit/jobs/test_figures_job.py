"""What `make figures` fits, and that every figure finds its fits. No Spark: effects are made up."""

from pathlib import Path

import numpy as np
import pytest

from almmta_spark import config
from almmta_spark.study.records import Key
from jobs import figures
from jobs.refit import Sample
from jobs.train import FitResult

KEY = Key("default", 3000, 2)
CLUSTER = np.array([0, 0, 1, 1])
TRUTH = np.array([0.1, 0.2, 0.3, 0.4])


def fitted(world="default"):
    """Effects are the truth, twice as large where the examples are those of the other policy."""
    nights = figures.night_confs(Key(world, KEY.n, KEY.seed), config.load("conf/truth.yaml"), "home")
    sample = Sample(None, np.array([1, 1, 2, 2]), CLUSTER, CLUSTER, TRUTH, np.ones(4, bool))
    results, effects = {}, {}
    for one in figures.fits(nights):
        key = (one.spec.name, Path(one.examples.warehouse).name, one.seed)
        terms = {"nll": 0.1, "proxy_nll": 0.2}
        results[key] = FitResult(one.spec.variant, "", "", {}, [{"held_out": terms, "loss": terms}] * 3)
        effects[key] = TRUTH * (2 if key[1] == "policy" else 1)
    return figures.Fitted(results, effects, sample, KEY.seed)


@pytest.fixture(scope="module")
def default():
    return fitted()


def test_no_model_is_fitted_twice():
    nights = figures.night_confs(KEY, config.load("conf/truth.yaml"), "home")
    wanted = [
        (one.spec.model, one.spec.training, one.spec.variant, one.examples, one.seed) for one in figures.fits(nights)
    ]
    repeated = sum(wanted.count(one) > 1 for one in wanted)
    # A sweep passes through the setting as it is, under a name of its own.
    assert repeated <= 8


def test_the_next_night_is_a_day_later_and_the_other_policy_is_another_world_of_the_same_seed():
    nights = figures.night_confs(KEY, config.load("conf/truth.yaml"), "home")
    assert {name: conf.simulator.world for name, conf in nights.items()} == {
        "base": "default", "next": "default", "policy": "hard",
    }  # fmt: skip
    assert len({conf.seed for conf in nights.values()}) == 1
    assert len({conf.warehouse for conf in nights.values()}) == 3
    assert figures.night_ds("next") > figures.night_ds("policy") == figures.night_ds("base")


def test_stability_says_what_moved_and_by_how_much(default):
    moves = {(r.method, r.metric): r.value for r in figures.stability(KEY, default)}
    for method in figures.METHODS:
        assert moves[method, "moves/policy"] == pytest.approx(1)
        assert moves[method, "moves/seed"] == moves[method, "moves/order"] == moves[method, "moves/night"] == 0
    assert sum(metric.startswith("moves/pairs") for _, metric in moves) == len(figures.QUANTILES)


def test_a_world_without_another_policy_has_no_such_move():
    assert "moves/policy" not in {r.metric for r in figures.stability(KEY, fitted("leak_y"))}


def test_every_curve_and_every_sweep_finds_its_fits(default):
    curves = figures.dynamics(default)
    assert list(curves) == list(figures.LOSSES)
    assert all(len(values) == 3 for panel in curves.values() for values in panel.values())
    assert "the direct proxy: the proxies alone (RMSE 0.00)" in curves["paper: outcome"]
    sweeps = figures.sweeps(default, config.load("conf/truth.yaml"))
    assert all(len(sweep.errors) == len(sweep.values) for sweep in sweeps)
