"""What is said to have changed since the night before."""

import pytest

from almmta_spark.report import trends
from almmta_spark.report.trends import Point, Trend
from tests.unit.report.nights import CHECKS, COUNTS, auuc, check, cluster, contents, night


def by_label(found):
    return {t.label: t for t in found}


def test_figures_are_compared_with_the_night_before():
    then = night("2026-01-14", accounting={"uploads": {**COUNTS, "used": 800}})
    found = by_label(trends.trends(contents(then, night())))
    uploads = found["Uploads that followed"]
    assert uploads.points == (Point(800.0), Point(1000.0)) and uploads.change == pytest.approx(0.25)
    assert found["Users with a journey"].points[0] is None and found["Users with a journey"].change is None
    assert found["Touches attributed"].tonight == Point(3000.0)
    assert found["Uploads caused by touches"].tonight.value == pytest.approx(14.0)
    assert found["Effect of a touch"].tonight.value == pytest.approx(1000 * 14 / 3000)
    assert found["AUUC, randomised"].tonight == Point(6.0, 4.0, 8.0)


def test_an_area_that_a_night_could_not_measure_is_a_gap_and_not_0():
    missing = auuc(qini=(None,) * 3, area=(None,) * 3)
    found = by_label(trends.trends(contents(night("2026-01-14", areas=[missing]), night())))
    assert found["AUUC, randomised"].before is None and found["AUUC, randomised"].tonight is not None


def test_only_checks_that_count_are_counted():
    checks = [*CHECKS, check("overfit/backdoor", "fail"), check("base_rate", "warn")]
    (found,) = (t for t in trends.trends(contents(night(checks=checks))) if t.label.startswith("Checks"))
    assert found.tonight == Point(1.0)


def test_a_figure_is_unusual_outside_all_that_five_nights_have_shown():
    def figure(*values):
        return Trend("", "", tuple(Point(v) for v in values)).unusual

    assert figure(1, 2, 3, 2, 1, 4) and figure(1, 2, 3, 2, 1, 0)
    assert not figure(1, 2, 3, 2, 1, 3) and not figure(1, 2, 3, 9)


def test_checks_whose_verdict_changed_are_named():
    then = night("2026-01-14", checks=[*CHECKS, check("base_rate"), check("gone", "fail")])
    now = night(checks=[*CHECKS, check("base_rate", "warn"), check("new", "fail")])
    assert trends.verdict_changes(contents(then, now)) == [("base_rate", "pass", "warn")]
    assert trends.verdict_changes(contents(now)) == []


def test_a_cluster_has_moved_where_its_intervals_have_nothing_in_common():
    then = night("2026-01-14", clusters=[cluster(3, 0.010), cluster(5, 0.004), cluster(8, 0.001, half=None)])
    now = night(clusters=[cluster(3, 0.013), cluster(5, 0.005), cluster(8, 0.9, half=None), cluster(9, 0.5)])
    both = contents(then, now)
    (moved,) = trends.moved_clusters(both)
    assert moved.cluster == 3 and moved.before.value == pytest.approx(10) and moved.now.value == pytest.approx(13)
    assert trends.movement(both) == pytest.approx((0.003 + 0.001 + 0.899) / 0.015)


def test_a_first_night_has_nothing_to_be_compared_with():
    first = contents()
    assert trends.moved_clusters(first) == [] and trends.movement(first) is None
    assert all(t.before is None and t.change is None and not t.unusual for t in trends.trends(first))
