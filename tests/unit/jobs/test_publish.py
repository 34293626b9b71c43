"""What evaluate leaves for publish, and the model that publish registers."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from matplotlib.figure import Figure

from almmta_spark import runner, storage, tables
from almmta_spark.config import Config
from almmta_spark.inference.attribution import FittedModel
from jobs.evaluate import write_figures
from jobs.publish import headline, refuse_another_model, reviewed
from tests.nights import DS
from tests.unit.report.nights import auuc, frame


def test_a_rerun_leaves_no_figure_of_the_run_before(tmp_path):
    night = runner.Night(None, replace(Config(), warehouse=str(tmp_path)), DS, "evaluate")
    write_figures(night, {"overlap.png": Figure(), "estimated_vs_true.png": Figure()})
    write_figures(night, {"overlap.png": Figure()})
    assert storage.names(None, night.figures_folder()) == ["overlap.png"]


def test_a_model_that_did_not_compute_the_table_is_not_registered(spark):
    rows = spark.createDataFrame([("latent", "old"), ("linear", "rule")], "method string, model_version string")
    night = SimpleNamespace(read=lambda table: rows, ds=DS)

    def model(variant, version):
        return FittedModel(variant, version, None, {}, {})

    refuse_another_model(night, model("latent", "old"))
    with pytest.raises(ValueError, match=r"latent rows of ds=2026-01-15 .* new, got old: .* again from jobs/train.py"):
        refuse_another_model(night, model("latent", "new"))
    with pytest.raises(ValueError, match=r"paper rows .* got no model"):
        refuse_another_model(night, model("paper", "new"))


def test_metrics_are_the_areas_of_the_nights_own_method_with_their_ends():
    others = [auuc("backdoor"), auuc(protocol="observational")]
    areas = frame(tables.AUUC_BY_BUCKET, [auuc(), auuc(bucket=3, area=(0.5, None, 0.7)), *others])
    truth = frame(tables.TRUTH_METRICS, [{"method": "latent", "metric": "relative_rmse", "value": 0.2}])
    found = headline({"auuc_by_bucket": areas, "truth_metrics": truth}, "latent", "randomised")
    sides = ("", "_lower", "_upper")
    assert {f"{f}/{b}{s}" for f in ("auuc", "qini") for b in ("all", "bucket_03") for s in sides} < set(found)
    assert (found["auuc/bucket_03"], found["auuc/bucket_03_upper"], found["auuc/all_lower"]) == (500.0, 700.0, 4.0)
    assert found["truth/relative_rmse"] == 0.2 and len(found) == 12 + 2 + 1


def test_a_night_without_a_report_is_not_published():
    said = {"verdict": "pass"}
    manifests = [{"stage": "evaluate", "notes": {}}, {"stage": "report", "notes": {"said": said}}]
    assert reviewed(manifests, DS) == said
    with pytest.raises(ValueError, match=r"ds=2026-01-15 has no report.* run jobs/report.py before publish"):
        reviewed(manifests[:1], DS)
