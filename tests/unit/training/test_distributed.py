"""Which GPU a rank takes, on any mix of machines and of what each sees of them; how ranks find each other."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import almmta_spark
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


RANK = """
import os, signal, time
from almmta_spark.training import distributed
started, rank = int(os.environ["TORCHELASTIC_RESTART_COUNT"]), int(os.environ["RANK"])
time.sleep(3 * started * rank)
with distributed.session("cpu") as ranks:
    print("started", started, ranks.gather([10.0 + rank]), flush=True)
    if started == 0 and rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    ranks.gather([0.0])
"""


@pytest.mark.long
def test_ranks_that_torchrun_starts_again_do_not_call_one_that_died(tmp_path):
    """The first to come back reads the store while only the dead rank's address can stand there."""
    (tmp_path / "rank.py").write_text(RANK)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    place = os.environ | {"PYTHONPATH": str(Path(almmta_spark.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*torchrun, str(tmp_path / "rank.py")], env=place, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert done.stdout.count("started 1 [[10.0], [11.0]]") == 2
