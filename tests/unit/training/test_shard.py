"""Every row exactly once an epoch, the same number of steps on every rank, in an order that only the seed decides."""

import dataclasses
import weakref

import numpy as np
import pytest
import torch

from almmta_spark.training import loader
from almmta_spark.training.shard import Shard, row_bytes


def all_columns(sample):
    table = sample.open()
    parts = list(loader.read_arrow(table, table.row_groups, ("journey_id", "is_validation", "outcome")))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def ids(steps):
    return [step.batch.journey_id_B[: step.num_rows].tolist() for step in steps]


def flat(lists):
    return [item for items in lists for item in items]


def steps_of(sample, epoch=1, **settings):
    return lambda ranks: list(sample.shard(ranks, **settings).training_steps(epoch))


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("buffer_bytes", [1 << 30, 30_000])
@pytest.mark.parametrize("all_rows", [False, True])
def test_every_training_row_is_taken_exactly_once_over_all_ranks(uneven, on_ranks, world, buffer_bytes, all_rows):
    def work(ranks):
        shard = uneven.shard(ranks, buffer_bytes=buffer_bytes, learns_from_all=all_rows)
        trained = ids(shard.training_steps(1))
        held_out = [batch.journey_id_B.tolist() for batch in shard.validation_batches()]
        return len(trained), flat(trained), flat(held_out), shard.check_epoch(1)

    results = on_ranks(world, work)
    columns = all_columns(uneven)
    held_out = columns["is_validation"] == 1
    assert sorted(flat(r[1] for r in results)) == sorted(columns["journey_id"][~held_out | all_rows])
    assert sorted(flat(r[2] for r in results)) == sorted(columns["journey_id"][held_out])
    assert {r[3] for r in results} == {600}
    assert len({r[0] for r in results}) == 1, "all ranks take the same number of steps"


def test_the_shard_is_streamed_only_when_it_does_not_fit(uneven):
    assert uneven.shard().fits
    assert not uneven.shard(buffer_bytes=30_000).fits


def test_a_streamed_shard_holds_no_more_than_its_buffer(sample, monkeypatch):
    group_rows = sample.open().row_groups[0].num_rows
    shard = sample.shard(buffer_bytes=3 * group_rows * row_bytes(sample.spec))
    given, most, load = [], 0, Shard._load

    def watched(self, groups):
        nonlocal most
        held = sum(len(rows) for rows in (reference() for reference in given) if rows is not None)
        most = max(most, sum(group.num_rows for group in groups) + held)
        loaded = load(self, groups)
        given.extend(weakref.ref(columns["journey_id"]) for columns in loaded)
        return loaded

    monkeypatch.setattr(Shard, "_load", watched)
    list(shard.training_steps(1))
    assert 2 * group_rows < most <= shard.buffer_rows


@pytest.mark.parametrize("buffer_bytes", [1 << 30, 30_000])
def test_both_loaders_give_the_same_steps(sample, buffer_bytes):
    first, second = (steps_of(sample, buffer_bytes=buffer_bytes, loader=name)(None) for name in ("petastorm", "arrow"))
    assert len(first) == len(second) > 3
    for one, other in zip(first, second, strict=True):
        for field in dataclasses.fields(one.batch):
            values = [getattr(step.batch, field.name) for step in (one, other)]
            assert (values[0] is None and values[1] is None) or torch.equal(*values), field.name


@pytest.mark.parametrize("buffer_bytes", [1 << 30, 30_000])
def test_the_order_is_the_seeds_and_the_epochs(sample, buffer_bytes):
    def order(seed, epoch):
        return ids(sample.shard(None, seed, buffer_bytes).training_steps(epoch))

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)
    assert order(0, 1) != all_columns(sample)["journey_id"].tolist()


@pytest.mark.parametrize("world", [2, 3])
def test_weighted_local_means_average_to_the_mean_of_the_global_batch(uneven, on_ranks, world):
    by_rank = on_ranks(world, steps_of(uneven))
    for together in zip(*by_rank, strict=True):
        ages = torch.cat([step.batch.covariates_BD[: step.num_rows, 0] for step in together])
        weighted = sum(step.weight * step.batch.covariates_BD[:, 0].mean() for step in together) / world
        torch.testing.assert_close(weighted, ages.mean())


def test_a_rank_with_fewer_rows_than_steps_keeps_step_with_weight_zero(uneven, on_ranks):
    by_rank = on_ranks(5, steps_of(uneven, batch_size=5))
    counts = [[step.num_rows for step in steps] for steps in by_rank]
    assert len({len(c) for c in counts}) == 1
    assert 0 in counts[1] and counts[1][0] == 1
    for step in by_rank[1]:
        assert step.batch.size == max(1, step.num_rows)
        assert (step.weight == 0) == (step.num_rows == 0)


def test_touch_lists_are_cut_to_the_longest_journey(sample):
    shard = sample.shard()
    training, _ = shard._kept()
    assert training["age_hours"].shape[1] == training["num_touches"].max()
    assert all(s.batch.age_BL.shape[1] == s.batch.num_touches_B.max() for s in shard.training_steps(1))


def test_more_ranks_than_row_groups_are_refused(uneven, on_ranks):
    with pytest.raises(ValueError, match=r"5 row groups cannot feed training.num_ranks=6.*examples.num_row_groups"):
        on_ranks(6, uneven.shard)


def losing(read, change):
    """A loader that hands out a changed first row group."""

    def broken(table, groups, columns):
        for i, part in enumerate(read(table, groups, columns)):
            yield change(part) if i == 0 and len(columns) > 2 else part

    return broken


def drop_a_training_row(part):
    keep = np.arange(len(part["journey_id"])) != np.argmin(part["is_validation"])
    return {name: values[keep] for name, values in part.items()}


def repeat_one_row_for_another(part):
    order = np.arange(len(part["journey_id"]))
    first, second = np.flatnonzero(part["is_validation"] == 0)[:2]
    order[first] = second
    return {name: values[order] for name, values in part.items()}


def add_rows(part):
    return {name: np.concatenate([values, values[:40]]) for name, values in part.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_a_training_row, "trained on 5.. .* footers count 600; rows were lost or repeated on ranks .0, 1."),
        (repeat_one_row_for_another, "footers count 600; rows were lost or repeated"),
        (add_rows, "footers count 600; rows were lost or repeated"),
    ],
)
def test_a_loader_that_loses_or_repeats_rows_fails_the_job(sample, on_ranks, monkeypatch, change, message):
    monkeypatch.setitem(loader.READERS, "petastorm", losing(loader.read_petastorm, change))

    def work(ranks):
        shard = sample.shard(ranks)
        list(shard.training_steps(3))
        list(shard.validation_batches())
        shard.check_epoch(3)

    with pytest.raises(ValueError, match=f"epoch 3 {message}|{message}"):
        on_ranks(2, work)
