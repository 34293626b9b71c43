"""What is read of the large tables: few rows, by rule, and no ids."""

from almmta_spark import tables
from almmta_spark.report import read
from almmta_spark.report.contents import Journey, Touch
from tests.nights import INDEX_TS
from tests.unit.report.nights import journey

USER = 4_611_686_018_427_387_000  # long enough that finding none of its digits is no accident


def attribution(spark, journeys, method="latent"):
    """journeys: (number, outcome, effects)."""
    rows = []
    for number, outcome, effects in journeys:
        for k, effect in enumerate(effects):
            row = dict.fromkeys(tables.ATTRIBUTION.column_names)
            row |= {
                "journey_id": USER + number,
                "user_id": USER + number,
                "touch_id": USER + k,
                "item_id": 1,
                "cluster": k,
            }
            row |= {"removal_effect": effect, "credit": max(effect, 0.0), "attribution_share": 0.0, "p_outcome": 0.25}
            row |= {"age_hours": float(len(effects) - k), "touch_ts": INDEX_TS, "outcome": outcome, "method": method}
            row |= {"author_id": 1, "propensity_bucket": 0, "model_version": "v"}
            rows.append(tuple(row.values()))
    return spark.createDataFrame(rows, tables.ATTRIBUTION.ddl)


def test_sampled_journeys_are_whole_and_in_order(spark):
    df = attribution(spark, [(1, 1, [0.1, 0.2, -0.3]), (2, 0, [0.5])]).unionByName(
        attribution(spark, [(1, 1, [9.0] * 3)], "linear")
    )
    upload, other = read.sampled_journeys(df, "latent", seed=0)
    assert upload == Journey(
        True, 0.25, (Touch(3, 0, 0.1, None, None), Touch(2, 1, 0.2, None, None), Touch(1, 2, -0.3, None, None))
    )
    assert (other.uploaded, other.p_outcome, len(other.touches)) == (False, 0.25, 1)


def test_a_sample_is_the_same_whatever_the_order_and_partitions_of_rows(spark, monkeypatch):
    monkeypatch.setattr(read, "SAMPLED_TOUCHES", 40)
    df = attribution(spark, [(n, n % 2, [0.01 * n, 0.02]) for n in range(60)])
    found = read.sampled_journeys(df, "latent", seed=0)
    assert found == read.sampled_journeys(df.repartition(7, "touch_id").orderBy("removal_effect"), "latent", seed=0)
    assert found != read.sampled_journeys(df, "latent", seed=1)
    assert all(len(j.touches) == 2 for j in found)  # the one that the limit may have cut is left out
    assert sum(j.uploaded for j in found) == 19


def test_the_drawn_journeys_are_chosen_by_rule():
    main, even, none = journey(0.09, 0.0, 0.0, 0.01), journey(0.05, 0.05, 0.05, 0.05), journey(0, 0, 0, 0)
    tried = journey(0.1, 0.1, 0.1, 0.1, uploaded=False)
    short = journey(0.5)
    found = read.chosen([even, none, main, tried, short, journey(0.0, 0, 0, 0.001, uploaded=False)])
    assert [j for _, j in found] == [main, even, none, tried]
    assert read.chosen([short]) == (("An upload with one main cause: the largest share of one touch", short),)
    assert read.chosen([]) == ()


def test_the_ends_of_a_rollup_are_ordered_by_the_ends_of_intervals(spark):
    def row(item, mean, half, exposures=10, method="latent"):
        known = {"item_id": item, "method": method, "exposures": exposures, "removal_effect_mean": mean}
        known |= {"removal_effect_mean_lower": None if half is None else mean - half}
        known |= {"removal_effect_mean_upper": None if half is None else mean + half}
        return tuple(known.values())

    rows = [row(1, 0.9, 0.8), row(2, 0.5, 0.1), row(3, 0.3, None), row(4, 0.0, 0.0, 5), row(5, 0.0, 0.0, 50)]
    rows.append(row(6, 9.0, 0.0, method="linear"))
    ddl = "item_id bigint, method string, exposures bigint, removal_effect_mean double"
    ddl += ", removal_effect_mean_lower double, removal_effect_mean_upper double"
    found = read.extremes(spark.createDataFrame(rows, ddl), tables.ATTRIBUTION_BY_ITEM, "latent")
    assert found.top.item_id.tolist() == [2, 3, 1, 5, 4]
    assert found.bottom.item_id.tolist() == [5, 4, 3, 2, 1]
