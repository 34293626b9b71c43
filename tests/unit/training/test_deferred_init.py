"""Models without memory, tables on the ranks they belong to, and torchdistx where it works."""

import sys
import types

import pytest
import torch
from torch import nn

from almmta_spark import model as models
from almmta_spark.config import ModelConfig
from almmta_spark.training import deferred_init, sample_table
from almmta_spark.training.distributed import Ranks
from almmta_spark.training.sharded_embedding import RowShardedEmbedding

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    spec = sample_table.write(tmp_path_factory.mktemp("t"), 60)
    return lambda: models.build("latent", spec, ModelConfig())


def test_a_table_larger_than_any_memory_is_measured_without_it():
    size = deferred_init.footprint(lambda: nn.Embedding(10**11, 64))
    assert size.weights == 10**11 * 64 * 4
    assert size.training == 5 * size.weights


def test_a_deferred_model_has_no_storage(build):
    assert all(p.is_meta for p in deferred_init.deferred(build).parameters())


def test_an_initialised_model_is_the_one_built_directly_from_the_same_seed(build):
    late = deferred_init.initialised(build, 7, CPU)
    direct = build()
    direct.reset_parameters(torch.Generator().manual_seed(7))
    assert late.state_dict().keys() == direct.state_dict().keys()
    for (name, value), other in zip(late.named_parameters(), direct.parameters(), strict=True):
        assert torch.equal(value, other), name
    for (name, value), other in zip(late.named_buffers(), direct.buffers(), strict=True):
        assert torch.equal(value, other), name
    other_seed = deferred_init.initialised(build, 8, CPU)
    assert any(not torch.equal(a, b) for a, b in zip(late.parameters(), other_seed.parameters(), strict=True))


def fake_torchdistx(monkeypatch, materialise):
    """A package of torchdistx's interface: the real one does not build against this torch."""
    module = types.ModuleType("torchdistx.deferred_init")
    calls = []

    def deferred(make, *arguments):
        calls.append(make)
        with torch.device("meta"):
            return make(*arguments)

    module.deferred_init, module.materialize_module = deferred, materialise
    monkeypatch.setitem(sys.modules, "torchdistx", types.ModuleType("torchdistx"))
    monkeypatch.setitem(sys.modules, "torchdistx.deferred_init", module)
    return calls


def test_an_installed_torchdistx_that_works_is_used(build, monkeypatch):
    calls = fake_torchdistx(monkeypatch, lambda model: model.to_empty(device="cpu"))
    model = deferred_init.initialised(build, 7, CPU)
    assert build in calls and not any(p.is_meta for p in model.parameters())


def test_an_installed_torchdistx_that_does_not_work_is_not(build, monkeypatch, caplog):
    def broken(model):
        raise RuntimeError("undefined symbol")

    calls = fake_torchdistx(monkeypatch, broken)
    with caplog.at_level("INFO", "almmta.training"):
        deferred_init.initialised(build, 7, CPU)
    assert build not in calls and "undefined symbol" in caplog.text


def test_no_rank_ever_holds_another_ranks_rows(on_ranks):
    def work(ranks):
        table = deferred_init.materialised(deferred_init.deferred(lambda: RowShardedEmbedding(10_001, 4, ranks)), CPU)
        table.reset_parameters(torch.Generator().manual_seed(3))
        return table.weight.detach()

    parts = on_ranks(3, work)
    assert [len(part) for part in parts] == [3333, 3334, 3334]
    whole = RowShardedEmbedding(10_001, 4, Ranks(0, 1, CPU))
    whole.reset_parameters(torch.Generator().manual_seed(3))
    assert torch.equal(torch.cat(parts), whole.weight.detach())


def test_lookups_and_gradients_are_those_of_the_whole_table(on_ranks):
    index = [torch.tensor([[0, 9], [4, 4]]), torch.tensor([[9, 5]]), torch.tensor([], dtype=torch.int64).reshape(0, 2)]

    def loss_of(rows, rank):
        return (rows * (rank + 1)).sin().sum()

    def work(ranks):
        table = RowShardedEmbedding(10, 3, ranks)
        table.reset_parameters(torch.Generator().manual_seed(0))
        rows = table(index[ranks.rank])
        loss_of(rows, ranks.rank).backward()
        return rows.detach(), table.weight.grad

    results = on_ranks(3, work)
    whole = RowShardedEmbedding(10, 3, Ranks(0, 1, CPU))
    whole.reset_parameters(torch.Generator().manual_seed(0))
    rows = [whole(i) for i in index]
    (sum(loss_of(r, rank) for rank, r in enumerate(rows)) / 3).backward()
    for (got, _), expected in zip(results, rows, strict=True):
        assert torch.equal(got, expected)
    torch.testing.assert_close(torch.cat([grad for _, grad in results]), whole.weight.grad)
