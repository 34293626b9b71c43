"""Checkpoints appear whole, are read without running anything in them, and are used by their own request alone."""

import io
import logging
import os
import pickle

import pytest
import torch

from almmta_spark.training import checkpoint
from almmta_spark.training.folder import Folder

STATE = {
    "request": "mine",
    "model": {"weight": torch.arange(6.0).reshape(2, 3), "count": torch.tensor(3)},
    "optimiser": {"state": {0: {"step": torch.tensor(5.0)}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999)}]},
    "slow": None,
    "history": [{"epoch": 1, "loss": {"loss": 0.5}}],
}


@pytest.fixture
def folder(tmp_path):
    return Folder(str(tmp_path))


class Attack:
    """Unpickling it writes a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_what_is_saved_comes_back(folder):
    checkpoint.save(folder, 3, STATE)
    name, content = checkpoint.newest(folder, "mine")
    state = checkpoint.load(content, name)
    assert name == "checkpoint-0003.pt" and state["epoch"] == 3
    assert torch.equal(state["model"]["weight"], STATE["model"]["weight"])
    assert state["optimiser"]["param_groups"] == STATE["optimiser"]["param_groups"]


def test_the_newest_of_this_request_is_used_and_old_ones_go(folder, caplog):
    for epoch in (1, 2, 9, 10):
        checkpoint.save(folder, epoch, STATE)
    assert folder.names() == ["checkpoint-0009.pt", "checkpoint-0010.pt"]
    checkpoint.save(folder, 11, STATE | {"request": "another"})
    with caplog.at_level(logging.INFO, "almmta.training"):
        assert checkpoint.newest(folder, "mine")[0] == "checkpoint-0010.pt"
    assert "checkpoint-0011.pt is of another request" in caplog.text
    assert checkpoint.newest(folder, "nobody's") is None


def test_a_new_beginning_forgets_the_checkpoints_of_other_requests(folder):
    for epoch in (13, 14):
        checkpoint.save(folder, epoch, STATE | {"request": "another"})
    checkpoint.discard(folder)
    checkpoint.save(folder, 1, STATE)
    assert folder.names() == ["checkpoint-0001.pt"]


def hostile_pickle(target):
    return pickle.dumps(Attack(target))


def hostile_torch_file(target):
    buffer = io.BytesIO()
    torch.save(STATE | {"content": "x", "history": Attack(target)}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("make", [hostile_pickle, hostile_torch_file])
def test_a_hostile_checkpoint_is_refused_and_runs_nothing(folder, tmp_path, caplog, make):
    target = tmp_path / "pwned"
    checkpoint.save(folder, 1, STATE)
    folder.write("checkpoint-0002.pt", make(target))
    with pytest.raises(ValueError, match=r"checkpoint .*checkpoint-0002\.pt is refused.*delete it"):
        checkpoint.load(folder.read("checkpoint-0002.pt"), folder.path_of("checkpoint-0002.pt"))
    assert checkpoint.newest(folder, "mine")[0] == "checkpoint-0001.pt"
    assert "checkpoint-0002.pt is refused" in caplog.text
    assert not target.exists()


@pytest.mark.parametrize("length", [0, 1, 100, 1000, -1])
def test_a_truncated_checkpoint_is_refused(folder, length, caplog):
    name = checkpoint.save(folder, 1, STATE)
    folder.write(name, folder.read(name)[:length])
    assert checkpoint.newest(folder, "mine") is None
    assert "checkpoint-0001.pt is refused" in caplog.text


def test_a_flipped_bit_in_a_weight_is_noticed(folder):
    name = checkpoint.save(folder, 1, STATE)
    content = bytearray(folder.read(name))
    position = bytes(content).index(torch.arange(6.0).numpy().tobytes())
    content[position + 5] ^= 1
    with pytest.raises(ValueError, match="refused"):
        checkpoint.load(bytes(content), name)


def test_a_write_that_fails_leaves_the_old_file_and_no_rubbish(folder, tmp_path, monkeypatch):
    folder.write("model.json", b"old")

    def killed(source, target):
        raise OSError("disk gone")

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(OSError, match="disk gone"):
        folder.write("model.json", b"new")
    assert folder.read("model.json") == b"old"
    assert os.listdir(tmp_path) == ["model.json"]


def test_half_written_neighbours_are_not_checkpoints(folder):
    folder.write(".checkpoint-0005.pt.abc", b"half")
    folder.write("checkpoint-5.pt", b"not our name")
    assert checkpoint.newest(folder, "mine") is None
