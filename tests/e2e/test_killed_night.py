"""A small night killed while its report is written, and run again, as `make kill-test` does it."""

from __future__ import annotations

import json

import pytest

from tests import kill_runs
from tests.kill_runs import Case

SMALL = ("env=kill", "simulator.num_users=800", "training.epochs=2", "training.batch_size=128", "training.placebos=[]")


@pytest.mark.slow
def test_a_killed_night_run_again_is_the_undisturbed_night(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    cases = (Case("publish", kill_runs.HALF_FILES), Case("report", kill_runs.ALL_FILES))
    assert kill_runs.main(cases, SMALL, tmp_path / "runs", tmp_path) == []
    found = json.loads((tmp_path / "kill.json").read_text())
    assert [r["case"] for r in found] == list(map(str, cases))
    assert all(r["identical"] and r["lost_rows"] == 0 and r["rerun_seconds"] > 0 for r in found)
    assert "readers saw all" in found[0]["note"] and "readers saw nothing" in found[1]["note"]
    assert "2 identical, 0 different, 0 rows lost" in (tmp_path / "kill.md").read_text()
