"""One simulated night, run once for all end-to-end tests: every part real."""

from __future__ import annotations

import pytest

from almmta_spark import config, runner, summary
from almmta_spark.night_log import Claim
from jobs import nightly, simulate

DS = "2026-01-15"


@pytest.fixture(scope="session")
def night(spark, tmp_path_factory):
    """One night of 3,000 users through every stage."""
    root = tmp_path_factory.mktemp("night")
    settings = [f"warehouse={root}/warehouse", "training.num_ranks=2", f"report_file={root}/run.json"]
    conf = config.load("conf/test.yaml", settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        runner.run_stage(runner.Night(spark, conf, DS, "simulate"), simulate.run)
        with Claim(spark, conf, DS) as claim:
            for name, stage in nightly.STAGES.items():
                runner.run_stage(runner.Night(spark, conf, DS, name, claim), stage)
        done = summary.collect(spark, conf, DS, {"peak_gb": 1.0})
        summary.write(spark, conf, [done])
        summary.show(conf, done)
    return conf
