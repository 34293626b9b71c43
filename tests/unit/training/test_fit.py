"""A whole fit in one process: what it writes, that it repeats to the bit, and what travels between processes."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import almmta_spark
from almmta_spark.config import EnsembleConfig, ModelConfig, TrainingConfig
from almmta_spark.model import Batch, saved
from almmta_spark.training import gpu_check, loader, main, structure
from almmta_spark.training.request import FitRequest, FitResult

ROOT = str(Path(almmta_spark.__file__).parents[1])


def request_for(sample, output, **settings):
    alone = {"epochs": 2, "batch_size": 128, "num_ranks": 1, "ensemble": EnsembleConfig(variants=())}
    training = TrainingConfig(**(alone | settings))
    return FitRequest(sample.url, sample.spec, ModelConfig(), training, "latent", 3, str(output))


@pytest.fixture(scope="module")
def fitted(sample, tmp_path_factory):
    return main.fit(request_for(sample, tmp_path_factory.mktemp("model")))


def test_a_fit_leaves_a_model_a_history_and_its_checkpoints(fitted):
    names = sorted(path.name for path in Path(fitted.output_dir).iterdir())
    assert names == ["checkpoint-0001.pt", "checkpoint-0002.pt", "history.json", "model.json", "weights.pt"]
    assert [entry["epoch"] for entry in fitted.history] == [1, 2]
    assert fitted.metrics["rows_per_epoch"] == 600 and fitted.metrics["held_out_loss"] > 0
    assert fitted.history[1]["loss"]["loss"] < fitted.history[0]["loss"]["loss"]


def test_the_structure_is_the_one_that_held_out_journeys_are_for(sample, tmp_path, monkeypatch):
    """The larger one must gain more than a standard error; the model kept is the candidate's, to the bit."""
    asked = request_for(sample, tmp_path / "model", epochs=1)
    asked = dataclasses.replace(asked, model=dataclasses.replace(asked.model, signed=None))
    nonnegative, signed = structure.candidates(asked)
    assert (nonnegative.model.signed, signed.model.signed) == (False, True)
    for margin, expected in ((-1e9, signed), (1e9, nonnegative)):
        monkeypatch.setattr(structure, "MARGIN_NATS", margin)
        chosen, alone = main.fit(asked), FitResult.load(expected.output_dir)
        assert chosen.digest == alone.digest == main.fit(expected).digest
        assert saved.load(chosen.output_dir)[2]["model"]["signed"] == expected.model.signed
        assert chosen.metrics["signed"] == float(expected is signed)
        cut, free = (FitResult.load(one.output_dir).metrics["held_out_nll"] for one in (nonnegative, signed))
        assert chosen.metrics["signed_gain_nats"] == pytest.approx((cut - free) * sample.spec.num_validation)


def test_an_ensemble_is_fitted_in_the_structure_that_single_fits_chose(sample, tmp_path):
    plan = EnsembleConfig(variants=("latent",), folds=2, repeats=1)
    asked = request_for(sample, tmp_path, epochs=1, ensemble=plan)
    asked = dataclasses.replace(asked, model=dataclasses.replace(asked.model, signed=None))
    chosen = main.fit(asked)
    singles = [FitResult.load(one.output_dir) for one in structure.candidates(asked)]
    assert chosen.digest not in {one.digest for one in singles}
    assert chosen.metrics["num_parameters"] == 2 * singles[0].metrics["num_parameters"]
    assert saved.load(chosen.output_dir)[2]["model"]["signed"] == bool(chosen.metrics["signed"])


def test_the_structure_of_a_compared_model_is_not_chosen(sample, tmp_path):
    asked = request_for(sample, tmp_path, epochs=1)
    asked = dataclasses.replace(asked, variant="backdoor", model=dataclasses.replace(asked.model, signed=None))
    fitted = main.fit(asked)
    assert saved.load(fitted.output_dir)[2]["model"]["signed"] is False
    assert "signed" not in fitted.metrics and not (tmp_path / "structure=signed").exists()


def test_without_held_out_journeys_the_smaller_structure_is_kept():
    results = [FitResult("latent", "", "", {"held_out_nll": nll}, []) for nll in (1.0, 0.5)]
    assert structure.gain_nats(*results, num_validation=0) == 0.0 < structure.MARGIN_NATS
    assert structure.gain_nats(*results, num_validation=10) == 5.0


def test_the_result_is_read_back_from_the_folder(fitted):
    assert FitResult.load(fitted.output_dir) == fitted


def test_an_unfinished_folder_has_no_result(tmp_path):
    with pytest.raises(ValueError, match=r"no finished model in .*model\.json.*train it first"):
        FitResult.load(str(tmp_path))


def test_the_saved_model_is_the_average_of_the_weights(fitted):
    model = saved.load(fitted.output_dir)[0]
    state = torch.load(Path(fitted.output_dir) / "checkpoint-0002.pt", map_location="cpu", weights_only=True)
    last = [state["model"][name] for name, _ in model.named_parameters()]
    assert any(not torch.equal(a, b) for a, b in zip(model.parameters(), last, strict=True))
    kept = sorted(float(p.detach().double().sum()) for p in model.parameters())
    assert kept == sorted(float(v.double().sum()) for v in state["average"]["values"])


def test_the_claim_on_held_out_touches_is_that_of_the_model_kept(sample, fitted):
    table = loader.open_table(sample.url, sample.spec)
    columns = list(loader.read_arrow(table, table.row_groups, loader.columns_needed(sample.spec)))
    held_out = [{name: v[c["is_validation"] == 1] for name, v in c.items()} for c in columns]
    model = saved.load(fitted.output_dir)[0]
    batches = [Batch.from_columns(c, sample.spec) for c in held_out if len(c["journey_id"])]
    size = sum(float(model.effects(b).removal_effect_BL.abs().sum()) for b in batches)
    touches = sum(int(b.num_touches_B.sum()) for b in batches)
    assert fitted.metrics["held_out_mean_abs_effect"] == pytest.approx(size / touches, rel=1e-4)


@pytest.mark.parametrize("settings", [{}, {"loader": "arrow"}])
def test_the_same_request_gives_the_same_bits_whatever_the_loader(sample, fitted, tmp_path, settings):
    again = main.fit(request_for(sample, tmp_path, **settings))
    first, second = (saved.load(result.output_dir)[0].state_dict() for result in (fitted, again))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert again.digest == fitted.digest


def test_all_ranks_start_again_where_one_has_died_and_not_where_they_refused_something(caplog):
    said: list[str | None] = ["rank 1: Signal 9 (SIGKILL)", "Connection closed by peer", None]

    def start() -> None:
        text = said.pop(0)
        if text:
            raise RuntimeError(text)

    main.restarted(start, max_restarts=2)
    assert said == [] and caplog.text.count("all start again from the last checkpoint") == 2
    said = ["died"] * 3
    with pytest.raises(RuntimeError, match="died"):
        main.restarted(start, max_restarts=1)
    assert len(said) == 1
    said = ["Traceback:\n[rank1]: ValueError: row group 1 of x is broken: build it again\nmore", "never"]
    with pytest.raises(ValueError, match=r"^row group 1 of x is broken: build it again$"):
        main.restarted(start, max_restarts=5)
    assert said == ["never"]
    said = ["Job aborted: Traceback\nModuleNotFoundError: No module named 'numpy'\nDriver stacktrace:", "never"]
    with pytest.raises(ValueError, match=r"^training: the Python of the ranks has no module numpy: install the pack"):
        main.restarted(start, max_restarts=5)
    assert said == ["never"]


def test_another_seed_gives_other_weights(sample, fitted, tmp_path):
    other = main.fit(dataclasses.replace(request_for(sample, tmp_path), seed=4))
    assert other.digest != fitted.digest


def test_a_fit_leaves_torch_as_it_found_it(sample, tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        main.fit(request_for(sample, tmp_path, epochs=1))
        assert torch.get_num_threads() == 2 and not torch.are_deterministic_algorithms_enabled()
    finally:
        torch.set_num_threads(before)


def test_a_request_survives_its_json(sample, tmp_path):
    request = request_for(sample, tmp_path, slow_momentum=0.5, variants=("paper", "latent"))
    assert FitRequest.from_json(request.to_json()) == request


def test_where_things_lie_does_not_decide_the_weights_but_settings_do(sample, tmp_path):
    request = request_for(sample, tmp_path)
    assert dataclasses.replace(request, output_dir="/elsewhere", dataset_url="/other").digest == request.digest
    assert dataclasses.replace(request, seed=9).digest != request.digest
    assert request_for(sample, tmp_path, dense_lr=1e-3).digest != request.digest


def test_an_unknown_setting_in_a_request_is_an_error(sample, tmp_path):
    raw = json.loads(request_for(sample, tmp_path).to_json())
    raw["training"]["learning_rate"] = 1
    with pytest.raises(ValueError, match=r"unknown config key training\.learning_rate"):
        FitRequest.from_json(json.dumps(raw))


@pytest.mark.long
def test_training_runs_without_spark_being_imported():
    code = "import sys, almmta_spark.training.main, almmta_spark.training.gpu_check; print('pyspark' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_the_gpu_check_says_that_it_skipped(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpu_check"])
    assert gpu_check.main() == 0
    assert "skipped: torch sees no CUDA device" in capsys.readouterr().out


def test_the_gpu_check_compares_two_fits(capsys, tmp_path):
    two = EnsembleConfig(folds=2, repeats=1)
    cases = [gpu_check.Case(128), gpu_check.Case(64, two)]
    found = gpu_check.compare("cpu", "cpu", 300, TrainingConfig(epochs=1, num_ranks=1), cases)
    assert [(c.members, c.batch_size) for c in found] == [(1, 128), (2, 64)]
    assert all(c.agrees and c.rank_correlation == pytest.approx(1.0) and c.rms_difference == 0 for c in found)
    said = capsys.readouterr().out
    assert said.count("journeys/s") == 2 and "removal effects agree: Spearman 1.0000" in said
    gpu_check.write(found, tmp_path, {"rows": 300, "epochs": 1})
    assert [f["members"] for f in json.loads((tmp_path / "gpu.json").read_text())["fits"]] == [1, 2]
    assert (tmp_path / "gpu.md").read_text().count("| 1.0000 | 0.000 |") == 2


def test_devices_that_disagree_are_said():
    found = gpu_check.Comparison(1, 128, 1000.0, 2000.0, 0.1, 0.1, 0.9, 0.5)
    assert not found.agrees and found.gain == 0.5 and "DISAGREE" in str(found)


def test_effects_of_one_model_agree_with_themselves(sample, fitted):
    effects = gpu_check.effects_of(fitted.output_dir, sample.url, sample.spec)
    assert gpu_check.rank_correlation(effects, effects) == pytest.approx(1.0)
    assert gpu_check.rank_correlation(effects, -effects) == pytest.approx(-1.0)
    assert effects.std() > 0
