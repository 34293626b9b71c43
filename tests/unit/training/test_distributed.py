"""Which GPU a rank takes, on any mix of machines and of what Spark or torchrun lets it see."""

from almmta_spark.training.distributed import _place

ALL, FIRST, SECOND = 1, 2, 3


def test_ranks_that_see_the_same_gpus_share_them_out():
    everybody = [(7, ALL, 2), (7, ALL, 2)]
    assert [_place(rank, everybody).gpu for rank in (0, 1)] == [0, 1]
    assert _place(0, everybody).all_have_gpus and _place(0, everybody).ranks == 2


def test_two_ranks_that_see_one_gpu_between_them_do_not_have_one_each():
    assert not _place(0, [(7, ALL, 1), (7, ALL, 1)]).all_have_gpus


def test_ranks_shown_one_gpu_each_call_it_0():
    everybody = [(7, FIRST, 1), (7, SECOND, 1), (8, FIRST, 1)]
    assert [_place(rank, everybody).gpu for rank in range(3)] == [0, 0, 0]
    assert _place(2, everybody).all_have_gpus
    assert [_place(rank, everybody).ranks for rank in range(3)] == [2, 2, 1]


def test_one_machine_without_gpus_is_enough_to_train_on_cpus():
    assert not _place(0, [(7, ALL, 1), (8, ALL, 0)]).all_have_gpus
