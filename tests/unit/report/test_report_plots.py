"""What notebooks draw and tabulate of a review: hand-made contents, figures that a test can foresee."""

import numpy as np
import pandas as pd
import pytest

from almmta_spark import tables
from almmta_spark.report import frames, plots
from tests.unit.report.nights import CHECKS, auuc, check, cluster, contents, frame, night


def panels(figure):
    return [axis for axis in figure.axes if axis.get_visible()]


def drawn(axis):
    """(x, y) of each point of a panel with error bars, and the ends of its bar, none where there is no interval."""
    points = [tuple(float(v[0]) for v in c.lines[0].get_data()) for c in axis.containers]
    ends = [c.lines[2][0].get_segments()[0][:, 0].tolist() if c.has_xerr else None for c in axis.containers]
    return points, ends


def labels(axis):
    return [text.get_text() for text in axis.get_yticklabels()]


def test_areas_have_a_panel_a_bucket_and_a_line_a_method_with_its_interval():
    figure = plots.areas(contents(night(areas=[auuc("backdoor"), auuc(), auuc(bucket=3)])), "randomised")
    everything, third = panels(figure)
    assert (everything.get_title(), third.get_title()) == ("all buckets (500 rows)", "bucket 3 (500 rows)")
    assert labels(everything) == ["latent", "backdoor"]  # the night's own first
    points, ends = drawn(everything)
    assert points == [(6.0, 0.0), (6.0, 1.0)] and ends == [pytest.approx([4.0, 8.0])] * 2
    assert "per 1,000 touches" in everything.get_xlabel() and "randomised" in figure.get_suptitle()
    marks = [c.lines[0].get_marker() for c in everything.containers]
    assert len(set(marks)) == 2
    missing = np.isnan([v for x, _ in drawn(third)[0][1:] for v in (x,)])
    assert missing.all()


def test_an_observational_area_is_called_not_causal_where_it_is_drawn():
    figure = plots.areas(contents(night(areas=[auuc(protocol="observational")])), "observational")
    assert "not causal" in figure.get_suptitle()


def test_causes_stand_from_the_most_to_the_least_with_their_intervals():
    most, least = panels(plots.causes(contents(), "cluster"))
    assert labels(most) == ["cluster 3", "cluster 5"] and labels(least) == ["cluster 8"]
    points, ends = drawn(most)
    assert [x for x, _ in points] == pytest.approx([10.0, 4.0]) and ends[0] == pytest.approx([9.0, 11.0])
    assert "95% interval" in most.get_xlabel() and "latent" in plots.causes(contents(), "cluster").get_suptitle()


def test_a_group_without_an_interval_is_drawn_without_one():
    rows = frame(tables.ATTRIBUTION_BY_CLUSTER, [cluster(3, 0.01, half=None)])
    extremes = {"cluster": contents().extremes["cluster"].__class__(rows, rows)}
    assert drawn(panels(plots.causes(contents(extremes=extremes), "cluster"))[0])[1] == [None]


def test_every_watched_figure_is_drawn_over_the_nights_with_its_unit():
    figure = plots.over_nights(contents(night("2026-01-12"), night("2026-01-14"), night()))
    by_title = {axis.get_title(): axis for axis in panels(figure)}
    area = by_title["AUUC, randomised, uploads per 1,000 touches"].containers[0]
    assert area.lines[0].get_ydata().tolist() == pytest.approx([6.0, 6.0, 6.0]) and area.has_yerr
    assert not by_title["Touches attributed, a night"].containers[0].has_yerr


def test_changes_since_the_night_before_are_tabled_with_their_units():
    then = night("2026-01-14", clusters=[cluster(3, 0.020)])
    found = frames.changes(contents(then, night()))
    assert found.loc["Uploads caused by touches"].tolist() == pytest.approx([14.0, 20.0, -0.3])
    assert found.loc["Effect of a touch per 1,000 touches", "the night before"] == pytest.approx(20.0)
    assert frames.changes(contents())["the night before"].isna().all()


def test_checks_that_do_not_pass_come_first_with_their_advice():
    found = frames.checks(contents(night(checks=[*CHECKS, check("base_rate", "fail", 0.0, 0.1)])))
    assert found.index[0] == "base_rate" and found["what to do"].iloc[0].startswith("Mend it.")
    assert found.loc["base_rate", "limit"] == "≥ 0.100" and "overfit/backdoor" not in found.index
    assert (found[found.verdict == "pass"]["what to do"] == "").all()


def test_accounts_say_what_came_late_beside_where_rows_went():
    found = frames.accounts(contents(late={"exposures": 5}))
    assert found.loc["exposures"].to_dict()["of all, late"] == 5 and pd.isna(found.loc["users", "of all, late"])
    parts = ["used", "rejected", "deduplicated", "outside window"]
    assert (found[parts].sum(axis=1) == found["rows in"]).all()


def test_what_mlflow_holds_is_tabled_by_bucket_with_unit_and_protocol():
    metrics = {"auuc/all": 4.0, "auuc/all_lower": 3.0, "auuc/all_upper": 5.0, "auuc/bucket_00": 1.0}
    found = frames.logged({**metrics, "qini/all": 9.0, "checks/pass": 3.0}, "auuc", "exact")
    assert list(found.columns) == ["auuc per 1,000 touches, exact", "lower", "upper"]
    assert found.loc["all"].tolist() == pytest.approx([4.0, 3.0, 5.0])
    assert found.loc["bucket 00"].iloc[0] == 1.0 and found.loc["bucket 00"].isna().sum() == 2


def test_errors_against_the_truth_have_a_row_a_method():
    rows = [{"method": m, "metric": "relative_rmse", "value": v} for m, v in (("backdoor", 0.9), ("latent", 0.2))]
    found = frames.truth(contents(truth=frame(tables.TRUTH_METRICS, rows)))
    assert found.relative_rmse.to_dict() == {"latent": 0.2, "backdoor": 0.9} and found.index[0] == "latent"
