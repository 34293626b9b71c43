"""The time left, from the steps that are done."""

import pytest

from almmta_spark.study import progress
from almmta_spark.study.progress import FIXED_USERS, Progress, duration
from almmta_spark.study.records import Key

STEPS = [("train", 0.75), ("evaluate", 0.25)]


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def nights():
    small, large = Key("default", FIXED_USERS, 0), Key("hard", 3 * FIXED_USERS, 0)
    return Progress([(small, STEPS), (large, STEPS)], Clock())


def test_before_the_first_step_nobody_knows(nights):
    assert nights.seconds_left() is None
    assert "time left not known yet" in nights.line(0, "train")


def test_the_rest_costs_what_its_weight_has_cost_so_far(nights):
    nights.done(0, "train", 30.0)
    # A quarter of a night, and a night that is twice as large with the fixed part.
    assert nights.seconds_left() == pytest.approx(10 + 80)
    nights.done(0, "evaluate", 10.0)
    assert nights.seconds_left() == pytest.approx(80)


def test_steps_an_earlier_run_has_done_neither_count_nor_remain(nights):
    nights.done(0, "train", None)
    assert nights.seconds_left() is None
    nights.done(0, "evaluate", 10.0)
    assert nights.seconds_left() == pytest.approx(80)


def test_a_line_says_which_night_which_step_and_how_long(nights):
    nights.done(0, "train", 30.0)
    nights.clock.now = 30.0
    assert nights.line(1, "evaluate") == (
        "night 2 of 2 (hard, 45,000 users, seed 0): evaluate; 30 s so far, about 90 s left"
    )


def test_nothing_is_left_of_a_night_that_is_given_up(nights):
    nights.done(0, "train", 30.0)
    nights.give_up(1)
    assert nights.seconds_left() == pytest.approx(10)


def test_all_done_is_nothing_left(nights):
    for night in (0, 1):
        for step, _ in STEPS:
            nights.done(night, step, 1.0)
    assert nights.seconds_left() == 0


@pytest.mark.parametrize(("seconds", "text"), [(42.4, "42 s"), (420, "7 min"), (7500, "2 h 05 min")])
def test_durations_are_told_as_people_tell_them(seconds, text):
    assert duration(seconds) == text
    assert progress.duration(0) == "0 s"
