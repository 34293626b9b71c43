"""What a study knows to be done: by night, settings, code and method."""

from dataclasses import replace

import pytest

from almmta_spark import config
from almmta_spark.study import results
from almmta_spark.study.records import Key, Record
from almmta_spark.study.results import NightResults, Results

KEY = Key("random:3", 5000, 1)


def night(methods, value=0.3, digest="a" * 64, metric="relative_rmse"):
    rows = tuple(Record(KEY.world, KEY.n, KEY.seed, m, metric, None, value) for m in methods)
    return NightResults(KEY, digest, "code", tuple(methods), 10.0, rows)


@pytest.fixture
def kept(tmp_path):
    return Results(tmp_path / "results")


def test_a_night_is_missing_the_methods_it_has_no_results_of(kept):
    assert results.missing(kept.find(KEY, "a" * 64), ["latent", "linear"]) == ["latent", "linear"]
    kept.add(night(["latent"]))
    assert results.missing(kept.find(KEY, "a" * 64), ["latent", "linear"]) == ["linear"]


def test_results_come_back_as_they_were_kept(kept):
    kept.add(night(["latent"]))
    assert list(kept.all()) == [night(["latent"])]


def test_other_settings_or_code_have_results_of_their_own(kept):
    kept.add(night(["latent"]))
    kept.add(night(["latent"], digest="b" * 64))
    assert results.missing(kept.find(KEY, "c" * 64), ["latent"]) == ["latent"]
    assert len(list(kept.all())) == 2


def test_later_methods_join_those_that_are_there_and_newer_figures_replace_older(kept):
    kept.add(night(["latent", "linear"], value=0.3))
    kept.add(night(["linear", "markov"], value=0.9))
    (found,) = kept.all()
    assert set(found.methods) == {"latent", "linear", "markov"}
    assert {r.method: r.value for r in found.records} == {"latent": 0.3, "linear": 0.9, "markov": 0.9}
    assert found.seconds == 20.0


@pytest.fixture
def conf():
    return config.load("conf/test.yaml")


def test_where_tables_lie_and_which_methods_are_compared_leave_the_digest_as_it_is(conf):
    other = replace(
        conf,
        warehouse="elsewhere",
        spark={"spark.master": "local[1]"},
        training=replace(conf.training, variants=("backdoor",)),
        attribution=replace(conf.attribution, baselines=("linear",)),
    )
    assert results.night_digest(other, "code") == results.night_digest(conf, "code")


def test_settings_and_code_change_the_digest(conf):
    epochs = replace(conf, training=replace(conf.training, epochs=3))
    world = replace(conf, simulator=replace(conf.simulator, world="hard"))
    digests = {results.night_digest(c, "code") for c in (conf, epochs, world, replace(conf, seed=7))}
    assert len(digests | {results.night_digest(conf, "other code")}) == 5


def package(root, **sources):
    for name, source in sources.items():
        path = root / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return results.code_digest(root)


def test_a_better_comment_costs_no_night_and_another_statement_does(tmp_path):
    before = package(tmp_path, almmta_spark__model='"""Old words."""\nx = 1\n', jobs__train="def run():\n    'old'\n")
    words = package(
        tmp_path, almmta_spark__model='"""New words."""\nx = 1  # why\n', jobs__train="def run():\n    'new'\n"
    )
    assert words == before
    assert package(tmp_path, almmta_spark__model="x = 2\n") != before


def test_code_that_decides_no_figure_is_not_in_the_digest(tmp_path):
    before = package(tmp_path, almmta_spark__model="x = 1\n", almmta_spark__study__page="y = 1\n")
    assert package(tmp_path, almmta_spark__study__page="y = 2\n", jobs__truth="z = 1\n") == before
    assert package(tmp_path, almmta_spark__evaluation__page="y = 2\n") != before
