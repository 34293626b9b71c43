"""What evaluate leaves for publish, and the model that publish registers."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from matplotlib.figure import Figure

from almmta_spark import runner, storage
from almmta_spark.config import Config
from almmta_spark.inference.attribution import FittedModel
from jobs.evaluate import write_figures
from jobs.publish import refuse_another_model
from tests.nights import DS


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
