"""What `make truth` runs, and what it does not run again. No Spark: the stages are stand-ins."""

from dataclasses import replace

import pytest

from almmta_spark import config, runner
from almmta_spark.study.progress import Progress
from almmta_spark.study.records import Key, Record
from almmta_spark.study.results import NightResults, Results
from jobs import truth

KEY = Key("leak_y", 5000, 3)


@pytest.fixture
def base():
    return config.load("conf/truth.yaml")


@pytest.fixture
def kept(tmp_path):
    return Results(tmp_path)


def task(base, kept, *methods):
    found = truth.to_do(KEY, base, truth.known_methods(methods, base), "code", kept)
    return found[0] if found else None


def keep(kept, night, figures=()):
    kept.add(NightResults(night.key, night.digest, "code", night.methods, 1.0, tuple(figures)))


def test_a_night_has_its_world_its_size_its_seed_and_the_signals_the_world_declares(base):
    conf = truth.night_conf(KEY, base)
    assert (conf.simulator.world, conf.simulator.num_users, conf.seed) == ("leak_y", 5000, 3)
    assert [name for name, signal in conf.signals.items() if signal.anchor] == ["template_save", "draft_edit"]


def test_exact_effects_of_a_large_night_are_of_some_of_its_users(base):
    shares = [truth.night_conf(replace(KEY, n=n), base).simulator.truth_share for n in (5000, 60_000, 200_000)]
    assert shares == [0.8, 0.8, 0.25]


def test_the_world_that_only_an_experiment_can_tell_has_a_large_one(base):
    conf = truth.night_conf(Key("direct", 60_000, 0), base).simulator
    assert conf.withholding_share == 0.8 and conf.truth_share == pytest.approx(0.2)
    assert truth.night_conf(KEY, base).simulator.withholding_share == base.simulator.withholding_share


def test_all_is_every_method_but_the_paper_with_the_nights_own_settings(base):
    methods = truth.known_methods(["all"], base)
    assert {"latent", "backdoor", *config.BASELINES} <= set(methods)
    assert "paper" not in methods
    assert truth.known_methods(["all", "paper"], base).count("paper") == 1


def test_the_short_table_is_of_methods_there_are(base):
    short = truth.known_methods(["short"], base)
    assert set(short) == set(truth.SHORT) < set(truth.known_methods(["all"], base))


def test_a_method_with_settings_brings_the_same_without(base):
    assert truth.known_methods(["linear", "latent:sparsity=0"], base) == ("linear", "latent:", "latent:sparsity=0")


def test_parts_are_those_that_must_show_in_the_world(base):
    content = truth.known_methods(["parts"], base, "content")
    assert {"latent:", "paper:", "latent:upload_content=off"} <= set(content)
    assert "latent:hidden_intent=false" not in content
    assert truth.known_methods(["linear", "parts"], base, "random:1") == ("linear",)


def test_an_unknown_method_is_refused_by_name(base):
    with pytest.raises(ValueError, match="'gradient'"):
        truth.known_methods(["gradient"], base)


def test_what_is_done_is_not_run_again_and_what_is_missing_is(base, kept):
    first = task(base, kept, "latent", "linear")
    keep(kept, first)
    assert task(base, kept, "linear", "latent") is None
    rest = task(base, kept, "latent", "linear", "backdoor")
    assert rest.methods == ("backdoor",)
    assert rest.conf.training.variants == ("backdoor",)
    assert rest.conf.attribution.baselines == ()


def test_other_settings_or_other_code_are_not_done(base, kept):
    keep(kept, task(base, kept, "latent"))
    other = replace(base, training=replace(base.training, epochs=2))
    assert task(other, kept, "latent") is not None
    assert truth.to_do(KEY, base, ("latent",), "other code", kept)


def test_a_night_of_other_methods_settings_or_code_has_another_warehouse(base, kept):
    other = replace(base, training=replace(base.training, epochs=2))
    nights = [task(base, kept, "latent"), task(base, kept, "backdoor"), task(other, kept, "latent")]
    nights += truth.to_do(KEY, base, ("latent",), "other code", kept)
    assert len({night.conf.warehouse for night in nights}) == 4
    assert task(base, kept, "latent").conf.warehouse == nights[0].conf.warehouse


def test_a_night_of_settings_alone_ends_with_its_examples_and_further_fits(base, kept):
    assert list(truth.steps(task(base, kept, "latent:sparsity=0"))) == [*truth.TO_EXAMPLES, "further_fits"]
    assert list(truth.steps(task(base, kept, "linear"))) == list(truth.STAGES)
    both = task(base, kept, "latent")
    assert list(truth.steps(both)) == [*truth.STAGES, "further_fits"]
    assert list(truth.steps(replace(both, once=True))) == list(truth.STAGES)


def test_a_second_fit_has_the_structure_that_the_first_has_chosen(base):
    latent, backdoor = (truth.specs.parse(m, base) for m in ("latent", "backdoor"))
    assert latent.model.signed is None
    assert [truth.with_structure(latent, found).model.signed for found in (1.0, 0.0)] == [True, False]
    assert truth.with_structure(backdoor, None) == backdoor


def test_a_killed_night_goes_on_after_the_stages_it_has_ended(base, kept, monkeypatch):
    night, ran = task(base, kept, "linear"), []

    def run_stage(of, stage):
        ran.append(of.stage)
        return {"seconds": 2.0}

    monkeypatch.setattr(runner, "run_stage", run_stage)
    monkeypatch.setattr(runner, "manifests", lambda *_: [{"stage": "simulate", "seconds": 5.0}])
    progress = Progress([(KEY, [(name, share) for name, (_, share) in truth.steps(night).items()])])
    assert truth.run_night(None, night.conf, truth.DS, truth.steps(night), 0, progress) == 5.0 + 2.0 * len(ran)
    assert ran == [name for name in truth.STAGES if name != "simulate"]
    assert progress.seconds_left() == 0


class Session:
    def stop(self):
        self.stopped = True


def test_a_night_that_fails_is_named_and_the_others_are_run_and_kept(base, kept, monkeypatch):
    def run_night(spark, conf, *_):
        if conf.seed == 1:
            raise RuntimeError("the model has diverged")
        return 5.0

    keys = [Key("default", 2000, seed) for seed in (0, 1, 2)]
    tasks = [task for key in keys for task in truth.to_do(key, base, ("linear",), "code", kept)]
    session = Session()
    monkeypatch.setattr(runner, "session", lambda *_: session)
    monkeypatch.setattr(truth, "run_night", run_night)
    monkeypatch.setattr(truth, "figures", lambda *_: ())
    failed = truth.run(tasks, "code", kept, keep_tables=True)
    assert failed == ["default, 2,000 users, seed 1 (RuntimeError)"]
    assert {night.key.seed for night in kept.all()} == {0, 2}
    assert session.stopped


def test_the_report_holds_the_nights_of_these_settings_and_this_code_alone(base, kept, tmp_path, capsys):
    mine = task(base, kept, "latent")
    error = Record(*(KEY.world, KEY.n, KEY.seed), "latent", "relative_rmse", None, 0.3)
    keep(kept, mine, [error])
    keep(kept, replace(mine, digest="0" * 64), [replace(error, value=9.0)])
    truth.write(kept, base, "code", tmp_path / "reports")
    path, code = tmp_path / "reports/truth.json", replace(error, method="night", metric="code/code", value=1.0)
    assert truth.records.read(path) == [error, code]
    assert "0.300" in path.with_suffix(".md").read_text()
    assert "9.000" not in capsys.readouterr().out


def test_what_the_report_held_of_other_nights_stays_unless_it_is_made_anew(base, kept, tmp_path):
    keep(kept, task(base, kept, "latent"))
    other = Record("default", 60_000, 0, "latent", "relative_rmse", None, 0.2)
    for anew in (False, True):
        path = tmp_path / "reports/truth.json"
        truth.records.write([other], path)
        truth.write(kept, base, "code", path.parent, anew)
        assert (other in truth.records.read(path)) != anew


def test_a_report_of_nothing_says_what_to_do(base, kept, tmp_path):
    with pytest.raises(ValueError, match="run `make truth` without --page"):
        truth.write(kept, base, "code", tmp_path)
