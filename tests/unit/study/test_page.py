"""truth.md from hand-made records."""

import pytest

from almmta_spark.study import cells, goals, page
from almmta_spark.study.records import Found, Record


def records(world="default", n=60_000, seeds=(0, 1), **rmse):
    return [Record(world, n, s, m, "relative_rmse", None, v + 0.01 * s) for m, v in rmse.items() for s in seeds]


def auuc(bucket, **values):
    return [
        Record("default", 60_000, 0, m, "auuc_normalised_exact", bucket, v, v - 0.01, v + 0.01)
        for m, v in values.items()
    ]


def table(text, heading):
    """Cells of the first table under a heading."""
    lines = text.split(heading)[1].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|"))
    rows = [line for line in lines[start:] if line.startswith("|")]
    end = next((i for i, line in enumerate(lines[start:]) if not line.startswith("|")), len(rows))
    return [[c.strip() for c in line.strip("|").split("|")] for line in lines[start : start + end]]


def test_methods_stand_in_one_order_with_mean_spread_and_goal():
    rows = table(page.page(records(latent=0.2, last_touch=2.0, backdoor=1.0)), "## default")
    assert [row[0] for row in rows[2:]] == ["`latent`", "`backdoor`", "`last_touch`", "goal for `latent`"]
    assert rows[2][1] == "0.205 ± 0.007"
    assert rows[-1][1] == "<= 0.23"


def test_a_goal_is_met_or_missed_by_the_mean():
    met = table(page.page(records(latent=0.22)), "## Goals")
    missed = table(page.page(records(latent=0.23)), "## Goals")
    assert (met[2][-1], missed[2][-1]) == ("met", "missed")


def test_goals_of_another_size_or_of_an_unknown_world_are_not_judged():
    text = page.page([*records(n=5000, latent=0.2), *records(world="elsewhere", latent=0.1)])
    assert "## Goals" not in text


@pytest.mark.parametrize(
    ("goal", "inside", "outside", "text"),
    [
        (goals.Goal("w", "m", least=0.9), 0.9, 0.89, ">= 0.9"),
        (goals.Goal("w", "m", most=0.3), 0.3, 0.31, "<= 0.3"),
        (goals.Goal("w", "m", 0.95, 1.05), 1.0, 1.06, "0.95 to 1.05"),
    ],
)
def test_a_goal_says_what_it_asks_and_asks_it(goal, inside, outside, text):
    assert goal.met(inside) and not goal.met(outside)
    assert str(goal) == text


def test_buckets_show_intervals_and_the_gain_over_the_best_other_method():
    rows = [*records(latent=0.2, backdoor=1.0, linear=2.0)]
    rows += [*auuc(0, latent=0.98, backdoor=0.7, linear=0.8), *auuc(1, latent=0.99, backdoor=0.95, linear=0.2)]
    rows += auuc(None, latent=0.98, backdoor=0.8, linear=0.7, paper=0.9)
    rows += [*records(paper=0.5), *auuc(0, paper=0.9), *auuc(1, paper=0.9)]
    text = page.page(rows)
    cells = table(text, "### default: AUUC by propensity bucket")
    assert cells[2][:2] == ["`latent`", "0.980 [0.970, 0.990]"]
    assert cells[-2][1:] == ["+0.080 (paper)", "+0.040 (backdoor)"]
    assert cells[-1][1:] == ["+0.180 (linear)", "+0.040 (backdoor)"]
    assert "Largest gain +0.180; goal >= +0.07." in text


def test_there_is_no_gain_without_ours_or_without_others():
    found = Found([*records(backdoor=1.0), *auuc(0, backdoor=0.7)])
    assert page.best_gain(found, "default", 60_000, 0) is None
    found = Found([*records(latent=1.0), *auuc(0, latent=0.7)])
    assert page.best_gain(found, "default", 60_000, 0) is None


def test_several_sizes_make_a_curve_and_several_worlds_a_sweep():
    rows = [*records(n=5000, latent=0.5), *records(latent=0.2), *records(world="hard", latent=0.3)]
    text = page.page(rows)
    assert table(text, "## Relative RMSE against")[2] == ["`latent`", "0.505 ± 0.007", "0.205 ± 0.007"]
    assert [row[0] for row in table(text, "## All worlds")[2:]] == ["default", "hard"]


def test_the_main_size_of_a_world_is_the_one_most_seeds_have():
    found = Found([*records(n=200_000, seeds=(0,), latent=0.1), *records(seeds=(0, 1), latent=0.2)])
    assert list(cells.main_nights(found)) == [("default", 60_000)]


def test_checks_that_warned_are_counted_by_world():
    rows = [Record("default", 60_000, s, "night", "fires/leak", None, float(s > 0)) for s in (0, 1, 2)]
    rows += [Record("default", 60_000, s, "night", "fires/overlap", None, 0.0) for s in (0, 1, 2)]
    cells = table(page.page([*records(latent=0.2), *rows]), "## Diagnostics")
    assert cells[2:] == [["leak", "2 of 3"]]


def test_methods_with_settings_stand_apart_beside_the_same_without():
    rows = [*records(latent=0.2), *records(seeds=(0,), **{"latent:": 0.2, "latent:sparsity=0": 0.3})]
    text = page.page(rows)
    assert [row[0] for row in table(text, "## default")[2:]] == ["`latent`", "goal for `latent`"]
    cells = table(text, "## With and without")
    assert cells[2] == ["default", "`latent`", "as it is", "", "0.200", "", "", ""]
    words = "without the cost of a stimulus"
    assert cells[3] == ["default", "`latent:sparsity=0`", words, "", "0.300", "", "", "+50%"]


def test_stability_shows_what_moved_the_clusters_of_each_method():
    rows = [Record("default", 60_000, 0, m, "moves/policy", None, v) for m, v in (("latent", 0.1), ("backdoor", 0.9))]
    rows += [Record("default", 60_000, 0, "paper", "moves/pairs above 0.9", None, 0.2)]
    text = page.page([*records(latent=0.2), *rows])
    cells = table(text, "## Stability")
    assert cells[0] == ["default, 60,000 users", "logs of another policy"]
    assert cells[2:] == [["`latent`", "0.100"], ["`backdoor`", "0.900"]]
    assert "| default, 60,000 users | pairs above 0.9 |\n| --- | --- |\n| `paper` | 0.200 |" in text


def figure(metric, world="default", **by_method):
    return [Record(world, 60_000, 0, method, metric, None, value) for method, value in by_method.items()]


def test_upload_auc_gains_on_the_best_other_method_on_randomised_exposure():
    rows = [*records(latent=0.2, backdoor=1.0, paper=0.5), *figure("upload_auc_logged", latent=0.85)]
    rows += figure("upload_auc_randomised", latent=0.75, backdoor=0.70, paper=0.60, truth=0.77)
    (row,) = table(page.page(rows), "## Upload AUC")[2:]
    assert row == ["default", "0.750", "0.700", "`backdoor`", "+7.1%", "+25.0%", "0.770", "+0.020", "0.850"]


def test_intervals_show_whatever_is_known_of_them():
    rows = [*records(latent=0.2, backdoor=1.0), *figure("interval_coverage", latent=0.95)]
    assert table(page.page(rows), "## Intervals") == [
        ["world", "method", "coverage"],
        ["---"] * 3,
        ["default", "`latent`", "0.950"],
    ]


def test_the_family_shows_its_median_and_its_worst_world():
    rows = []
    for k, (error, ratio) in enumerate([(0.2, 1.0), (0.9, 0.5), (0.4, 1.5)]):
        rows += figure("relative_rmse", world=f"random:{k}", latent=error)
        rows += figure("magnitude_ratio", world=f"random:{k}", latent=ratio)
    cells = table(page.page(rows), "## The family of 3 random worlds")
    assert cells[2] == ["`latent`", "", "", "0.400", "0.900", "1.000", "0.500", "", ""]
    assert cells[3][4] == "<= 0.7" and cells[3][7] == "0.92 to 0.98"


def test_what_a_part_must_gain_is_judged_by_the_difference_it_makes():
    values = {"latent:": 0.90, "latent:upload_content=off": 0.80}
    rows = [*records(world="content", latent=0.3), *figure("within_journey_spearman", world="content", **values)]
    (row,) = table(page.page(rows), "## Goals")[2:]
    assert row[3:] == ["+0.100", ">= +0.080", "met"]


def test_what_an_experiment_takes_off_is_judged_beside_ours_and_is_no_other_method():
    rows = records(world="direct", latent=0.6, latent_calibrated=0.4, backdoor=0.9)
    (row,) = table(page.page(rows), "## Goals")[2:]
    assert row[2:] == ["relative RMSE, taken off by the experiment", "+0.200", ">= +0.050", "met"]
    cells = table(page.page([*rows, *records(latent=0.2)]), "## All worlds")
    assert [r[2] for r in cells[2:]] == ["`latent`", "`latent`", "`latent_calibrated`", "`backdoor`"]
    found = Found([*records(latent=0.2), *auuc(0, latent=0.9, latent_calibrated=0.95, backdoor=0.7)])
    assert page.best_gain(found, "default", 60_000, 0) is None
    found = Found([*records(latent=0.2, latent_calibrated=0.3, backdoor=1.0), *found.records])
    assert page.best_gain(found, "default", 60_000, 0)[1] == "backdoor"


def test_the_summary_is_ours_beside_the_back_door_and_the_goals():
    rows = [*records(latent=0.2, linear=3.0), *records(world="hard", latent=0.3)]
    text = page.summary(rows)
    assert "## All worlds" in text and "## Goals" in text and "linear" not in text
    assert "`linear`" in page.summary(records(latent=0.2, linear=3.0))


def test_the_page_says_which_code_measured_what():
    measured = [Record("default", 60_000, s, "night", "code/abc", None, 300.0) for s in (0, 1)]
    text = page.page([*records(latent=0.2), *measured])
    assert "- code abc: 2 nights (default, 60,000 users)\n" in text


def test_a_gain_may_be_a_share():
    gain = goals.Gain("w", "relative_rmse", "a", "b", 0.25, "taken off", relative=True)
    assert gain.of(0.4, 0.3) == pytest.approx(0.25) and gain.text(0.25) == "+25.0%"
    absolute = goals.GAINS[0]
    assert absolute.of(0.9, 0.8) == pytest.approx(0.1) and absolute.text(absolute.least) == "+0.080"
