"""An embedding table cut by rows over the ranks: each holds its rows only, and asks the others for theirs.

For tables too large for one process (items, not clusters). B indices of this rank, W ranks, M the most indices of any
rank, R embedding width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from almmta_spark.training.distributed import Ranks

_BLOCK = 4096


class RowShardedEmbedding(nn.Module):
    """Rank r holds rows [r n / W, (r + 1) n / W) of the n. Cost of a lookup: W M indices and W M R floats sent."""

    def __init__(self, num_rows: int, width: int, ranks: Ranks, std: float = 0.1) -> None:
        super().__init__()
        self.num_rows, self.ranks, self.std = num_rows, ranks, std
        self.first, self.end = (num_rows * r // ranks.world for r in (ranks.rank, ranks.rank + 1))
        self.weight = nn.Parameter(torch.empty(self.end - self.first, width))

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """The rows that a whole table would have from this generator, drawn in blocks so that no rank holds it."""
        for start in range(0, self.num_rows, _BLOCK):
            stop = min(start + _BLOCK, self.num_rows)
            block = torch.empty(stop - start, self.weight.shape[1]).normal_(0.0, self.std, generator=generator)
            low, high = max(start, self.first), min(stop, self.end)
            if low < high:
                self.weight[low - self.first : high - self.first].copy_(block[low - start : high - start])

    def forward(self, index: Tensor) -> Tensor:
        """Rows of the whole table, [*index.shape, R]. Every rank must call it, each with indices of its own."""
        if self.ranks.world == 1:
            return nn.functional.embedding(index, self.weight)
        flat: Tensor = _Lookup.apply(self.weight, index.reshape(-1), self.first, self.ranks)  # type: ignore[no-untyped-call]
        return flat.view(*index.shape, self.weight.shape[1])


class _Lookup(torch.autograd.Function):
    """Everybody's indices to everybody, each answers for its own rows, the answers are summed; gradients go back so."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, index_B: Tensor, first: int, ranks: Ranks) -> Tensor:
        counts = [int(row[0]) for row in ranks.gather([len(index_B)])]
        index_WM = torch.full((ranks.world, max(counts)), -1, dtype=torch.int64, device=weight.device)
        index_WM[ranks.rank, : len(index_B)] = index_B + 1  # the sum over ranks has each row once; 0 where padded
        index_WM.masked_fill_(index_WM < 0, 0)
        local_WM = ranks.sum(index_WM) - 1 - first
        mine_WM = (local_WM >= 0) & (local_WM < len(weight)) & (index_WM > 0)
        rows_WMR = torch.zeros(*index_WM.shape, weight.shape[1], dtype=weight.dtype, device=weight.device)
        rows_WMR[mine_WM] = weight[local_WM[mine_WM]]
        ctx.save_for_backward(local_WM[mine_WM], mine_WM)
        ctx.ranks, ctx.shape = ranks, weight.shape
        return ranks.sum(rows_WMR)[ranks.rank, : len(index_B)].clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (grad_BR,) = grads
        local_N, mine_WM = ctx.saved_tensors
        ranks = ctx.ranks
        grad_WMR = torch.zeros(*mine_WM.shape, grad_BR.shape[1], dtype=grad_BR.dtype, device=grad_BR.device)
        grad_WMR[ranks.rank, : len(grad_BR)] = grad_BR
        ranks.sum(grad_WMR)
        grad = torch.zeros(ctx.shape, dtype=grad_BR.dtype, device=grad_BR.device)
        # Divided as DDP divides: gradients are means over ranks.
        grad.index_add_(0, local_N, grad_WMR[mine_WM] / ranks.world)
        return grad, None, None, None
