"""A rank does not outlive whoever launched it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_INIT = 1


def die_with_launcher() -> None:
    """Has the kernel kill this rank when torchrun dies, however it does (on Linux; elsewhere nothing happens).

    torchrun starts ranks in sessions of their own, so that SIGKILL of the driver and its process group misses them: a
    rank that trains on alone removes checkpoints under the feet of the next run of the night.
    """
    if sys.platform != "linux" or "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == _INIT and b"torch" not in Path(f"/proc/{_INIT}/cmdline").read_bytes():  # else torchrun itself
        sys.exit("torchrun, which launched this rank, died while it started: run the job train again")
