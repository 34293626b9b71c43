"""Which cases `make cluster-faults` has, what it calls the same, and what its page says."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from almmta_spark.night_log import Claim
from tests import cluster_faults
from tests.cluster_faults import DS, EXECUTOR, WORKER, Case, Place


@pytest.fixture
def place(tmp_path):
    """A night that has ended as the undisturbed one did: one table, and manifests of stages that shuffle or do not."""
    place = Place(tmp_path)
    manifests = place.night / f"warehouse/_manifests/ds={DS}"
    manifests.mkdir(parents=True)
    shuffled = {"ingest": 9, "build_pairs": 5, "train": 0, "evaluate": 7}
    for stage in cluster_faults.nightly.STAGES:
        cost = {"spark": {"shuffle_write_bytes": shuffled.get(stage, 0), "tasks": 3}}
        (manifests / f"{stage}.json").write_text(json.dumps(cost))
    publish(place, [1, 2, 2], "same")
    place.night.rename(place.undisturbed)
    place.put_back(place.undisturbed)
    return place


def publish(place, users, version):
    folder = place.night / f"warehouse/journeys/ds={DS}"
    (folder / f"version={version}").mkdir(parents=True)
    pq.write_table(pa.table({"user_id": users}), folder / f"version={version}/part.parquet")
    rest = {"ds": DS, "version": version, "meta": {}, "checksum": str(users)}
    (folder / f"version={version}.json").write_text(json.dumps({"table": "journeys", "rows": len(users), **rest}))
    with Claim(None, place.conf, DS) as claim:
        claim.draft["journeys"] = version
        claim.publish()


def test_an_executor_dies_in_the_training_and_in_every_stage_that_shuffles_and_a_worker_once(place):
    executors = [Case(EXECUTOR, stage) for stage in ("train", "build_pairs", "evaluate", "ingest")]
    assert cluster_faults.cases(place) == [*executors, Case(WORKER, "build_journeys")]
    assert [case.whole for case in cluster_faults.cases(place)] == [False, False, False, True, True]


def test_rows_that_a_night_lacks_are_lost_as_often_as_they_were_there(place):
    assert cluster_faults.differences(place) == []
    publish(place, [1, 2, 3], "other")
    assert cluster_faults.differences(place) == ["journeys"] and cluster_faults.num_lost(place, ["journeys"]) == 1


def test_a_stage_is_forgotten_alone(place):
    place.forget("evaluate")
    left = {path.stem for path in (place.night / f"warehouse/_manifests/ds={DS}").iterdir()}
    assert left == set(cluster_faults.nightly.STAGES) - {"evaluate"}


def test_the_page_counts_what_was_the_same_and_what_was_lost():
    made = {"killed_at": "1.0 s into the stage", "seconds": 9.0, "note": "a|b\nc"}
    found = [{"case": "one", "identical": True, "lost_rows": 0, **made}]
    found += [{"case": "two", "identical": False, "lost_rows": 7, **made}]
    page = cluster_faults.page(found, 3)
    assert "2 of 3 cases have run: 1 identical, 1 different, 7 rows lost." in " ".join(page.split())
    assert "| two | 1.0 s into the stage | 9 | NO | 7 | a/b c |" in page
