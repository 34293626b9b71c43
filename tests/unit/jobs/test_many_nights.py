"""Night after night, rows of some days late and some twice, against all nights anew from the same logs."""

import pytest

from almmta_spark import manifest, reruns, spark_tables, tables
from jobs import build_journeys, ingest
from tests.bench import late_rows
from tests.bench.late_rows import FIRST, nights

STAGES = {"ingest": ingest.run, "build_journeys": build_journeys.run}
NIGHTS = nights(10)
LATE_DAYS = (0, 8)
SMALL = ("journeys.lookback_hours=48", "ingest.user_buckets=2", "simulator.base_rate=0.2")


def day(n):
    return spark_tables.shift(FIRST, n)


@pytest.fixture(scope="module")
def live(spark, tmp_path_factory):
    conf = late_rows.settings(f"{tmp_path_factory.mktemp('nights')}/live", 200, len(NIGHTS), *SMALL)
    late_rows.write_logs(spark, conf, NIGHTS[-1])
    done = late_rows.night_after_night(spark, conf, NIGHTS, STAGES, [day(n) for n in LATE_DAYS])
    return conf, {n["night"]: n for n in done}


def test_ten_nights_with_late_rows_equal_the_same_nights_from_all_rows(spark, live, tmp_path):
    conf, _ = live
    anew = late_rows.logs_alone(conf, str(tmp_path / "anew"))
    deduplicated = []
    for ds in NIGHTS:
        late_rows.run(spark, anew, ds, STAGES)
        for table in (tables.JOURNEYS, tables.REJECTED_ROWS, tables.ITEM_CLUSTERS, tables.ACCEPTED_UPLOADS):
            found, wanted = (sorted(map(str, spark_tables.read(spark, c, table, ds).collect())) for c in (conf, anew))
            assert found == wanted, f"{table.name} of {ds}"
        counts = [manifest.read(spark, c, ds, "build_journeys")["notes"]["accounting"] for c in (conf, anew)]
        assert counts[0] == counts[1], ds
        deduplicated.append(counts[0]["exposures"]["deduplicated"])
    assert max(deduplicated) > 0


def test_a_night_writes_the_new_day_and_those_that_grew_and_no_other(live):
    _, done = live
    first, last = done[NIGHTS[0]], done[NIGHTS[-1]]
    assert first["written"] == [f"exposures {day(n)}" for n in (-2, -1)] + [f"signals {day(n)}" for n in (-3, -2, -1)]
    assert done[day(7)]["written"] == [f"exposures {day(6)}", f"signals {day(6)}"], "nothing came late"
    assert last["days_grown"] == [day(8)] and last["nights_again"] == [day(8)]
    assert done[day(8)]["ran"][day(8)] == list(STAGES) and last["ran"][day(8)][0] == "ingest"


def test_nights_are_run_again_where_late_rows_are_theirs_and_nowhere_else(live):
    _, done = live
    again = {n: done[day(n)]["nights_again"] for n in range(10)}
    assert again == {
        **{n: [] for n in range(10)},
        1: [day(0)],  # uploads of day 0
        2: [day(0), day(1)],  # of day 0, which night 1 has read too
        9: [day(8)],
    }


def test_a_night_that_is_run_once_more_does_nothing(spark, live):
    conf, _ = live
    assert reruns.due(spark, conf, NIGHTS[-1]) == {}
    assert late_rows.run(spark, conf, NIGHTS[-1], STAGES) == []


def test_late_rows_arrive_once_or_twice_and_all_of_them(spark, live):
    """What the nights read in the end is what was logged, and some rows of the days that come late twice."""
    conf, _ = live
    logs = late_rows._all_logs(conf)
    for n in (0, 2):
        rows = [spark_tables.read_day(spark, c, tables.EXPOSURES, day(n)).drop("ds") for c in (conf, logs)]
        counts = [df.count() for df in rows]
        assert rows[0].exceptAll(rows[1]).distinct().count() <= counts[0] - counts[1]
        assert rows[1].exceptAll(rows[0]).isEmpty() and (counts[0] > counts[1]) == (n in LATE_DAYS)
