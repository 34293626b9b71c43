"""torchrun killed: its ranks go too, though they have sessions of their own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

RANK = """
import sys, time
from almmta_spark.training.launcher import die_with_launcher
die_with_launcher()
open(sys.argv[1], "w").close()
time.sleep(60)
"""
LAUNCHER = """
import subprocess, sys, time
rank = subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]], start_new_session=True)
print(rank.pid, flush=True)
time.sleep(60)
"""


def is_alive_after_its_launcher(folder: Path, environment: dict[str, str]) -> bool:
    ready = folder / "ready"
    command = [sys.executable, "-c", LAUNCHER, RANK, str(ready)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as launcher:
        rank = psutil.Process(int(launcher.stdout.readline()))
        while not ready.exists():
            time.sleep(0.01)
        launcher.kill()
    with contextlib.suppress(psutil.NoSuchProcess):
        for _ in range(100):
            if rank.status() == psutil.STATUS_ZOMBIE:  # dead, and its new parent has not looked yet
                return False
            time.sleep(0.01)
        rank.kill()
        return True
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
def test_a_rank_dies_with_torchrun(tmp_path):
    assert not is_alive_after_its_launcher(tmp_path, os.environ | {"TORCHELASTIC_RUN_ID": "1"})


def test_a_process_that_is_no_rank_lives_on(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "TORCHELASTIC_RUN_ID"}
    assert is_alive_after_its_launcher(tmp_path, environment)
