"""Feature rows through a saved model, without Spark: the function that mapInArrow calls."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

import torch

from almmta_spark.causal import jackknife
from almmta_spark.inference import udf
from almmta_spark.inference.deletion import deletion_effects
from almmta_spark.model import Batch, saved
from almmta_spark.model.ensemble import left_out


def scorer(saved_model, rows_per_batch, seen=False):
    return udf.Scorer(SimpleNamespace(value=[saved_model.fitted]), rows_per_batch, seen=seen)


def scored(saved_model, rows, rows_per_batch, arrow_rows, seen=False):
    batches = list(scorer(saved_model, rows_per_batch, seen)(rows.to_batches(max_chunksize=arrow_rows)))
    return pa.Table.from_batches(batches)


def test_scores_are_the_models_own_effects_for_real_touches_alone(saved_model, feature_rows):
    model, spec, _ = saved.load(saved_model.folder)
    columns = udf.columns(feature_rows)
    effects = model.effects(Batch.from_columns(columns, spec))
    found = scored(saved_model, feature_rows, 1000, 1000)
    assert found["journey_id"].equals(feature_rows["journey_id"])
    for row, count in enumerate(columns["num_touches"]):
        assert found["removal_effect"][row].as_py() == effects.removal_effect_BL[row, :count].double().tolist()
        assert found["p_outcome_deleted"][row].as_py() == effects.p_deleted_BL[row, :count].double().tolist()
        assert found["removal_effect_ate"][row].as_py() == effects.removal_effect_ate_BL[row, :count].double().tolist()
    assert found["p_outcome"].to_pylist() == effects.p_outcome_B.double().tolist()
    for name in ("p_do", "posterior_mean", "intent_residual", "mediator_overlap", "leak_gain"):
        expected = getattr(effects, f"{name}_B")
        assert found[name].to_pylist() == ([None] * len(found) if expected is None else expected.double().tolist())
    assert np.abs(effects.removal_effect_BL.numpy()).max() > 0.01


@pytest.mark.parametrize("seen", [True, False])
def test_an_ensembles_scores_hold_an_interval_and_each_members_effect(saved_ensemble, feature_rows, seen):
    """The centre is made by the members that left the user out, of users nobody has seen by all."""
    model, _, _ = saved.load(saved_ensemble.folder)
    users = np.arange(feature_rows.num_rows)
    rows = feature_rows.append_column("user_id", pa.array(users))
    found = scored(saved_ensemble, rows, 64, 1000, seen).to_pandas()
    speaks_MB = left_out(torch.from_numpy(users), model.plan, model.seed).numpy() | (not seen)
    for row, score in found.iterrows():
        members = np.stack(score.removal_effect_members)
        agreed = (np.abs(members) > 1e-7).mean(1) >= model.plan.agreement
        np.testing.assert_allclose(score.removal_effect, members[:, speaks_MB[:, row]].mean(1) * agreed, atol=1e-7)
        unseen = model.plan.unseen_effect * score.p_outcome
        half = jackknife.half_width(members.T, score.removal_effect, 3, 0.95, model.plan.shared_error, unseen)
        np.testing.assert_allclose(score.removal_effect_upper - score.removal_effect, half, atol=1e-12)
        np.testing.assert_allclose(score.removal_effect - score.removal_effect_lower, half, atol=1e-12)
        np.testing.assert_allclose(score.p_outcome - score.p_outcome_deleted, score.removal_effect, atol=1e-6)
    assert set(speaks_MB.sum(0)) == {2 if seen else 6}


def test_a_single_model_has_no_interval(saved_model, feature_rows):
    found = scored(saved_model, feature_rows, 1000, 1000)
    assert found["removal_effect_members"].null_count == feature_rows.num_rows
    assert (
        found["removal_effect_lower"].combine_chunks().flatten().null_count
        == feature_rows["num_touches"].to_numpy().sum()
    )


@pytest.mark.parametrize("arrow_rows", [1, 7, 64, 100, 10_000])
def test_the_size_of_arrow_batches_changes_no_bit(saved_model, feature_rows, arrow_rows):
    assert scored(saved_model, feature_rows, 64, arrow_rows).equals(scored(saved_model, feature_rows, 64, 301))


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 7))
@settings(max_examples=60, deadline=None)
def test_batches_are_the_same_rows_in_order_and_all_full_but_the_last(sizes, rows):
    ends = np.cumsum([0, *sizes])
    given_batches = [
        pa.RecordBatch.from_pydict({"x": pa.array(range(a, b), pa.int64())}) for a, b in itertools.pairwise(ends)
    ]
    found = [table["x"].to_pylist() for table in udf.fixed_batches(given_batches, rows)]
    assert [x for batch in found for x in batch] == list(range(ends[-1]))
    assert all(len(batch) == rows for batch in found[:-1])
    assert all(0 < len(batch) <= rows for batch in found)


def test_an_empty_partition_has_no_scores(saved_model):
    assert list(scorer(saved_model, 8)(iter([]))) == []


def test_a_worker_loads_a_model_once(saved_model, feature_rows, monkeypatch):
    monkeypatch.setattr(udf, "_MODELS", {})
    calls = []
    monkeypatch.setattr(saved, "load", lambda folder, load=saved.load: calls.append(folder) or load(folder))
    for _ in range(2):
        scored(saved_model, feature_rows, 128, 50)
    assert len(calls) == 1


def test_a_piece_that_a_variant_does_not_have_is_null(saved_model, feature_rows, monkeypatch):
    model, _, _ = saved.load(saved_model.folder)
    effects = model.effects
    model.effects = lambda batch: SimpleNamespace(**{**vars(effects(batch)), "mu_B": None})
    monkeypatch.setattr(udf, "_MODELS", {saved_model.version: model})
    found = scored(saved_model, feature_rows, 1000, 1000)
    assert found["mu"].null_count == feature_rows.num_rows
    assert found["g0"].null_count == 0


def test_a_model_that_diverged_is_refused(saved_model, feature_rows):
    import torch

    model, spec, _ = saved.load(saved_model.folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"attribution\.p_outcome must be finite, 301 of 301 scores"):
        deletion_effects(model, spec, udf.columns(feature_rows))
