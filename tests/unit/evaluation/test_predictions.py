"""What is read off journey_scores, against scikit-learn and direct sums."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from almmta_spark.evaluation import predictions


@pytest.fixture(scope="module")
def scored():
    rng = np.random.default_rng(0)
    n = 2000
    p = 1 / (1 + np.exp(2 - rng.normal(size=n)))
    return {
        "method": np.repeat(["latent", "backdoor"], n // 2),
        "outcome": (rng.random(n) < p).astype(int),
        "p_outcome": p,
        "p_do": p**2 + rng.random(n) / 10,
        "is_validation": (np.arange(n) % 3 == 0).astype(int),
        "sample": np.where(np.arange(n) % 2 == 0, "logged", "randomised"),
        "posterior_mean": rng.normal(scale=0.5, size=n),
        "leak_gain": rng.normal(size=n),
    }


@pytest.fixture(scope="module")
def found(spark, scored):
    rows = [
        (
            str(m),
            int(y),
            float(p),
            None if m == "backdoor" else float(d),
            int(v),
            str(s),
            None if m == "backdoor" else float(e),
            None if m == "backdoor" else float(g),
        )
        for m, y, p, d, v, s, e, g in zip(*scored.values(), strict=True)
    ]
    ddl = "method string, outcome int, p_outcome double, p_do double, is_validation int, sample string"
    ddl += ", posterior_mean double, leak_gain double"
    return predictions.predictions(spark.createDataFrame(rows, ddl))


def test_upload_auc_is_scikit_learns_and_of_p_do_on_the_randomised_sample_where_a_model_has_one(found, scored):
    rows = {(r["method"], r["metric"]): r for r in predictions.upload_auc_rows(found)}
    assert len(rows) == 4
    for method in ("latent", "backdoor"):
        of = scored["method"] == method
        held_out = of & (scored["sample"] == "logged") & (scored["is_validation"] == 1)
        drawn = of & (scored["sample"] == "randomised")
        for name, rows_of in (("logged", held_out), ("randomised", drawn)):
            row = rows[method, f"upload_auc_{name}"]
            score = "p_do" if (method, name) == ("latent", "randomised") else "p_outcome"
            expected = roc_auc_score(scored["outcome"][rows_of], scored[score][rows_of])
            assert row["value"] == pytest.approx(expected, abs=1e-3)
            assert row["n"] == rows_of.sum()


def test_the_truth_scores_as_a_model_would_on_the_randomised_sample(spark, found, scored):
    rows = (scored["method"] == "backdoor") & (scored["sample"] == "randomised")
    true = list(zip(scored["p_outcome"][rows].tolist(), scored["outcome"][rows].tolist(), strict=True))
    said = predictions.as_scores(spark.createDataFrame(true, "p_outcome double, outcome int"), "truth", "randomised")
    (row,) = predictions.upload_auc_rows(predictions.predictions(said))
    model = {(r["method"], r["metric"]): r for r in predictions.upload_auc_rows(found)}
    assert row == {**model["backdoor", "upload_auc_randomised"], "method": "truth"}


def test_fits_are_mcfaddens_gain_on_each_half(found, scored):
    fit = predictions.model_fits(found)["latent"]
    of = (scored["method"] == "latent") & (scored["sample"] == "logged")
    for half, measured in ((0, fit.training), (1, fit.held_out)):
        rows = of & (scored["is_validation"] == half)
        y, p = scored["outcome"][rows], scored["p_outcome"][rows]
        base = y.mean()
        difference = np.where(y == 1, np.log(p / base), np.log((1 - p) / (1 - base)))
        null = np.sum(np.where(y == 1, np.log(base), np.log(1 - base)))
        assert measured.journeys == rows.sum() and measured.outcomes == y.sum()
        assert measured.gain == pytest.approx(-difference.sum() / null, rel=1e-6)
        assert measured.gain_sd == pytest.approx(difference.std() * np.sqrt(len(y)) / abs(null), rel=1e-6)
    assert fit.posterior_variance == pytest.approx(scored["posterior_mean"][of].var(), rel=1e-6)


def test_the_leaks_gain_is_that_of_held_out_logged_journeys(found, scored):
    rows = (scored["method"] == "latent") & (scored["sample"] == "logged") & (scored["is_validation"] == 1)
    assert predictions.model_fits(found)["latent"].leak_gain == pytest.approx(scored["leak_gain"][rows].mean())


def test_a_model_without_a_mediator_has_no_proxy_reliability_and_no_leak(found):
    fit = predictions.model_fits(found)["backdoor"]
    assert np.isnan(fit.posterior_variance) and np.isnan(fit.leak_gain)


def test_auc_of_counts_by_hand():
    counts = predictions.auc_of_counts
    assert counts(np.array([0, 3]), np.array([2, 0])) == 1.0
    assert counts(np.array([5]), np.array([7])) == 0.5
    assert counts(np.array([1, 1]), np.array([1, 1])) == pytest.approx(0.5)
    assert np.isnan(counts(np.array([1]), np.array([0])))
