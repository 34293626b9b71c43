"""The train job asks for no more processes than the cluster has task slots."""

from types import SimpleNamespace

import pytest

from jobs.train import refuse_missing_slots


def cluster(slots):
    """A Spark session as far as the job asks it: task slots of the default resource profile."""
    profiles = SimpleNamespace(defaultResourceProfile=lambda: "default")
    context = SimpleNamespace(
        resourceProfileManager=lambda: profiles,
        maxNumConcurrentTasks=lambda profile: {"default": slots}[profile],
    )
    return SimpleNamespace(sparkContext=SimpleNamespace(_jsc=SimpleNamespace(sc=lambda: context)))


def test_more_ranks_than_task_slots_are_refused_with_what_would_fit():
    with pytest.raises(ValueError, match=r"<= the cluster's 2 task slots.*got 3: .*--set training.num_ranks=2"):
        refuse_missing_slots(cluster(2), 3, local_mode=False)


def test_ranks_that_fit_are_not():
    refuse_missing_slots(cluster(3), 3, local_mode=False)


def test_ranks_beside_the_driver_need_no_slots():
    refuse_missing_slots(cluster(0), 3, local_mode=True)
