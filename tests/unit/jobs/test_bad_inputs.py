"""What is wrong with an input is said, by table, column or key, or its rows are refused one by one and all counted."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from almmta_spark import manifest, night_log, runner, spark_tables, tables
from almmta_spark.config import Config, IngestConfig, JourneysConfig, SignalConfig
from almmta_spark.logs.accounting import Account, refuse_too_many_rejections
from jobs import build_examples, build_journeys, build_pairs, fit_propensity, ingest
from tests import bad_inputs
from tests.bad_inputs import HEALTHY, NIGHTS, ROWS, TABLES
from tests.hand_made import DS, before

STAGES = {
    "ingest": ingest.run,
    "build_journeys": build_journeys.run,
    "fit_propensity": fit_propensity.run,
    "build_pairs": build_pairs.run,
    "build_examples": build_examples.run,
}


def settings(warehouse: Path, max_rejected_rate: float = 0.05) -> Config:
    return replace(
        Config(),
        warehouse=str(warehouse),
        ingest=IngestConfig(max_rejected_rate=max_rejected_rate, user_buckets=2),
        journeys=JourneysConfig(
            bad_inputs.LOOKBACK_HOURS, bad_inputs.LOOKBACK_HOURS, bad_inputs.OUTCOME_HOURS, bad_inputs.MAX_TOUCHPOINTS
        ),
        signals={"camera": SignalConfig(("outcome_proxy",))},
    )


def run(spark, conf, num_stages=2):
    for name, stage in list(STAGES.items())[:num_stages]:
        runner.run_stage(runner.Night(spark, conf, DS, name), stage)


def test_there_are_more_than_a_hundred():
    assert bad_inputs.NUM_CASES >= 100
    print(f"{bad_inputs.NUM_CASES} bad inputs")


# ---- rows ------------------------------------------------------------------------------------------------------------


def logged(rows_of):
    """The healthy rows with others."""
    return {table: [*HEALTHY[table], *rows_of.get(table, ())] for table in tables.INPUTS}


@pytest.fixture(scope="module")
def dirty(spark, tmp_path_factory):
    """A night of all bad rows together, columns that nobody asked for beside theirs."""
    warehouse = tmp_path_factory.mktemp("dirty")
    added = {t: [row for case in ROWS if case.table == t for row in case.rows] for t in tables.INPUTS}
    bad_inputs.write(warehouse, logged(added))
    for path in warehouse.rglob("part.parquet"):
        rows = pq.read_table(path)
        pq.write_table(rows.append_column("comment", pa.nulls(rows.num_rows, pa.string())), path)
    conf = settings(warehouse, max_rejected_rate=1.0)
    run(spark, conf)
    return conf


def accounting(conf):
    notes = manifest.read(None, conf, DS, "build_journeys")["notes"]
    reasons = notes["rejection_reasons"]
    return {name: Account.from_dict({**a, "reasons": reasons.get(name, {})}) for name, a in notes["accounting"].items()}


def in_files(conf, table):
    """Rows of a table's day by the files' own footers."""
    return sum(pq.read_metadata(p).num_rows for p in bad_inputs.folder_of(conf.warehouse, table).iterdir())


def sums(account):
    return {part: getattr(account, part) for part in bad_inputs.PARTS if getattr(account, part)} | account.rejected


@pytest.mark.parametrize("table", tables.INPUTS, ids=lambda t: t.name)
def test_every_bad_row_is_counted_as_what_it_is_and_nothing_else_changes(dirty, table):
    becomes = Counter({"used": len(HEALTHY[table])})
    for case in ROWS:
        becomes.update(case.becomes if case.table == table else {})
    account = accounting(dirty)[table.name]
    assert sums(account) == dict(becomes)
    assert account.rows_in == sum(becomes.values()) == in_files(dirty, table)


@pytest.mark.parametrize("case", [c for c in ROWS if set(c.becomes) - set(bad_inputs.PARTS)], ids=lambda c: c.name)
def test_a_refused_row_is_kept_with_its_reason(spark, dirty, kept, case):
    (reason,) = case.becomes
    wanted = Counter(ids(case.table, dict(zip(case.table.column_names, row, strict=True))) for row in case.rows)
    found = kept[case.table.name, reason]
    assert all(found[key] >= n for key, n in wanted.items()), found


@pytest.fixture(scope="module")
def kept(spark, dirty):
    """Ids of refused rows by table and reason."""
    rows = spark_tables.read(spark, dirty, tables.REJECTED_ROWS, DS).collect()
    found = {}
    for r in rows:
        found.setdefault((r.source, r.reason), Counter())[ids(tables.BY_NAME[r.source], json.loads(r.row))] += 1
    return found


def ids(table, row):
    assert list(row) == list(table.column_names)
    return tuple(row[c] for c in row if c.endswith("_id") or c == "signal")


def test_no_row_is_refused_that_is_not_counted_and_the_other_way_round(dirty, kept):
    accounts = accounting(dirty)
    assert {key: sum(found.values()) for key, found in kept.items()} == {
        (name, reason): n for name, account in accounts.items() for reason, n in account.rejected.items()
    }


@pytest.mark.parametrize("table", tables.INPUTS, ids=lambda t: t.name)
def test_too_many_of_them_stop_the_night_and_the_error_says_which(dirty, table):
    account = accounting(dirty)[table.name]
    most = max(account.rejected.items(), key=lambda item: (item[1], item[0]))
    with pytest.raises(ValueError) as error:
        refuse_too_many_rejections({table.name: account}, 0.05)
    said = str(error.value)
    assert said.startswith(f"table {table.name}: {account.num_rejected} of {account.rows_in} rows rejected (")
    assert "ingest.max_rejected_rate allows 5.0%" in said and f"({most[1]})" in said and "repair the table, or" in said


# ---- drawn rows, against a slow count --------------------------------------------------------------------------------


NAN, INF = float("nan"), float("inf")
CELLS = {
    "user_id": [1, 2, 3, 4, 5, 6, 77, -1, None],
    "item_id": [10, 11, 12, 13, 99, None],
    "upload_id": [*range(60), None],
    "author_id": [1, None],
    "cluster": [0, 1, 1],
    "event_ts": [before(h) for h in (-30, -21, -3, -1, 0, 1, 2, 3, 19, 20, 21, 23.5, 30)] + [None],
    "signal": ["camera", "waved", " ", None],
    "value": [1.0, 0.5, 0.0, NAN, -INF, -1.0, 2e9, None],
    "covariates": [[1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [3.0, NAN], [1.0], None],
    "embedding": [None, None, None, [1.0, 2.0], [1.0], [NAN, 1.0], [1.0, 1.0], [1e7, 1.0]],
    "withheld": [True, False, None],
    "p_withheld": [0.5, None, 0.0, NAN],
}
NUM_DRAWN = {tables.ITEMS: 16, tables.USERS: 20, tables.WITHHOLDINGS: 60, tables.UPLOADS: 60}


def drawn(seed):
    """Rows whose every cell is one of a few good and bad ones, so that what is wrong comes together."""
    random_ = random.Random(seed)
    rows_of = {
        t: [tuple(random_.choice(CELLS[c]) for c in t.column_names) for _ in range(NUM_DRAWN.get(t, 200))]
        for t in tables.INPUTS
    }
    # Two items are never shown at one instant: which of them is the newer, a hash would say.
    rows_of[tables.EXPOSURES] = [
        (user, item, ts + timedelta(microseconds=item) if item and ts else ts)
        for user, item, ts in rows_of[tables.EXPOSURES]
    ]
    return rows_of


def own_fault(table, row):
    """The rule that a row breaks, whatever the others are: in the order in which the rules stand."""
    for name in ("user_id", "item_id", "upload_id", "author_id"):
        if row.get(name, 0) is None:
            return f"null_{name}"
    if table == tables.SIGNALS and not (row["signal"] or "").strip():
        return "null_signal"
    if "event_ts" in row and row["event_ts"] is None:
        return "null_event_ts"
    if "event_ts" in row and row["event_ts"].strftime(tables.DS_FORMAT) != bad_inputs.DAYS[table]:
        return "event_outside_its_day"
    if table == tables.SIGNALS:
        value = row["value"]
        if value is None or not -INF < value < INF:
            return "null_value" if value is None else "non_finite_value"
        return "negative_value" if value < 0 else "value_too_large" if value > 1e9 else None
    if table == tables.WITHHOLDINGS and row["withheld"] is None:
        return "null_withheld"
    if table == tables.WITHHOLDINGS and row["p_withheld"] is not None and not 0 < row["p_withheld"] < 1:
        return "p_withheld_not_in_0_1"
    if table == tables.USERS and (row["covariates"] is None or len(row["covariates"]) != 2):
        return "null_covariates" if row["covariates"] is None else "covariates_length"
    if row.get("embedding") is not None:
        wrong = {(1.0,): "embedding_length", (1.0, 1.0): "embedding_constant", (1e7, 1.0): "embedding_norm"}
        wrong[1.0, 2.0] = None
        return wrong.get(tuple(row["embedding"]), "embedding_not_finite")
    return None


def fates(rows_of):
    """What becomes of the rows of each table, one row after the other."""
    rows = {t: [dict(zip(t.column_names, row, strict=True)) for row in of_t] for t, of_t in rows_of.items()}
    found, valid = {}, {}
    for t in tables.INPUTS:
        fate = found[t] = [own_fault(t, row) or ("used" if inside(t, row) else "outside_window") for row in rows[t]]
        if t not in (tables.EXPOSURES, tables.SIGNALS):
            settle_keys(t, rows[t], fate)
        valid[t] = [row for row, f in zip(rows[t], fate, strict=True) if f == "used"]
    known = {c: {row[c] for row in valid[t]} for c, t in (("item_id", tables.ITEMS), ("user_id", tables.USERS))}
    for t in (tables.EXPOSURES, tables.WITHHOLDINGS):
        for n, row in enumerate(rows[t]):
            if found[t][n] == "used" and row["item_id"] not in known["item_id"]:
                found[t][n] = "unknown_item"
            elif found[t][n] == "used" and row["user_id"] not in known["user_id"]:
                found[t][n] = "unknown_user"
    settle_journeys(rows, found)
    return {t: dict(Counter(fate)) for t, fate in found.items()}


def inside(table, row):
    if table in (tables.EXPOSURES, tables.SIGNALS, tables.WITHHOLDINGS):
        return before(bad_inputs.LOOKBACK_HOURS) <= row["event_ts"] < before(0)
    return table != tables.UPLOADS or before(0) <= row["event_ts"] < before(-bad_inputs.OUTCOME_HOURS)


def settle_keys(table, rows, fate):
    """Equal rows of a key count once, contradictory ones not at all."""
    by_key = {}
    for n, row in enumerate(rows):
        if fate[n] == "used":
            by_key.setdefault(tuple(row[c] for c in table.key), []).append(n)
    for members in by_key.values():
        same = len({repr(rows[n]) for n in members}) == 1
        for n in members if not same else members[1:]:
            fate[n] = "deduplicated" if same else "conflicting_duplicates"


def settle_journeys(rows, found):
    """Touches of a user: newest first, copies of kept ones count once, older ones are capped; then who has none."""
    cap = bad_inputs.MAX_TOUCHPOINTS
    touches, uploads = {}, {}
    for n, row in enumerate(rows[tables.EXPOSURES]):
        if found[tables.EXPOSURES][n] == "used":
            touches.setdefault(row["user_id"], {}).setdefault((row["event_ts"], row["item_id"]), []).append(n)
    for of_user in touches.values():
        times = sorted((ts for ts, _ in of_user), reverse=True)
        for (ts, _), copies in of_user.items():
            newer = sum(t > ts for t in times)
            found[tables.EXPOSURES][copies[0]] = "used" if newer < cap else "capped"
            for n in copies[1:]:
                found[tables.EXPOSURES][n] = "deduplicated" if newer < cap else "capped"
    for t in (tables.SIGNALS, tables.UPLOADS, tables.USERS):
        for n, row in enumerate(rows[t]):
            if found[t][n] == "used" and row["user_id"] not in touches:
                found[t][n] = "without_journey"
    for n, row in sorted(enumerate(rows[tables.UPLOADS]), key=lambda at: str(at[1]["event_ts"])):
        if found[tables.UPLOADS][n] == "used":
            uploads[row["user_id"]] = uploads.get(row["user_id"], 0) + 1
            found[tables.UPLOADS][n] = "used" if uploads[row["user_id"]] <= cap else "capped"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_drawn_rows_are_counted_as_a_loop_counts_them(spark, tmp_path, seed):
    rows_of = drawn(seed)
    bad_inputs.write(tmp_path, rows_of)
    conf = settings(tmp_path, max_rejected_rate=1.0)
    run(spark, conf)
    expected = fates(rows_of)
    for name, account in accounting(conf).items():
        assert sums(account) == expected[tables.BY_NAME[name]], name
        assert account.rows_in == in_files(conf, tables.BY_NAME[name])


# ---- tables and nights -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", TABLES, ids=lambda c: f"{c.table.name}: {c.name}")
def test_a_spoilt_day_is_refused_by_name(spark, tmp_path, case):
    bad_inputs.write(tmp_path, {case.table: HEALTHY[case.table]})
    case.spoil(bad_inputs.folder_of(tmp_path, case.table))
    conf, day = settings(tmp_path), bad_inputs.DAYS[case.table]
    with pytest.raises(ValueError, match=case.says):
        runner.run_stage(
            runner.Night(spark, conf, DS, "ingest"), lambda night: night.read_day(case.table, day).toArrow()
        )
    assert manifest.read(spark, conf, DS, "ingest") is None


@pytest.mark.slow
@pytest.mark.parametrize("case", NIGHTS, ids=lambda c: c.name)
def test_a_night_that_cannot_be_is_refused_and_publishes_nothing(spark, tmp_path, case):
    bad_inputs.write(tmp_path, {**HEALTHY, **case.rows})
    conf = settings(tmp_path)
    run(spark, conf, case.stages - 1)
    name = list(STAGES)[case.stages - 1]
    before_it = night_log.versions(spark, conf, DS)
    with pytest.raises(ValueError, match=case.says):
        runner.run_stage(runner.Night(spark, conf, DS, name), STAGES[name])
    assert night_log.versions(spark, conf, DS) == before_it and manifest.read(spark, conf, DS, name) is None


@pytest.mark.slow
def test_a_user_with_a_million_exposures_is_capped_and_all_of_them_are_counted(spark, tmp_path):
    bad_inputs.write(tmp_path, HEALTHY)
    number, first = 1_000_000, before(10)
    start = int(first.timestamp() * 1_000_000)
    hot = {
        "user_id": pa.array(np.full(number, 1)),
        "item_id": pa.array(10 + np.arange(number) % 6),
        "event_ts": pa.array(start + 1000 * np.arange(number), pa.timestamp("us", tz="UTC")),
    }
    conf = settings(tmp_path)
    pq.write_table(pa.table(hot), bad_inputs.folder_of(tmp_path, tables.EXPOSURES) / "hot.parquet")
    started = time.monotonic()
    run(spark, conf)
    print(f"a night with a user of {number:,} exposures: {time.monotonic() - started:.0f} s")
    account = accounting(conf)["exposures"]
    cold = len(HEALTHY[tables.EXPOSURES])
    assert account.rows_in == number + cold
    assert sums(account) == {"used": cold + 1, "capped": number - 1}, "the cold touches are newer than all hot ones"
