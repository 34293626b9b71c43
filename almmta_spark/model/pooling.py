"""Effects of single items and authors, partially pooled towards what their cluster and content say.

    delta_i = scale z_i,   z_i ~ N(0, 1) a priori,   q(z_i) = N(mean_i, 1 / (1 + n_i information scale^2))
    cost = sum_i KL(q(z_i) || N(0, 1))

Empirical Bayes by mean-field variational inference (Blei, Kucukelbir & McAuliffe 2017): `scale` is learned with the
rest, so that a night whose items do not differ shrinks all effects to 0. A joint maximum over effects and scale would
not do: its density is unbounded at scale 0. The posterior's width is not a parameter an item but a function of n_i,
the training touches of the item, and of one learned number: exact where each touch tells equally much.
B journeys, L touchpoints, N rows of a hashed table.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from almmta_spark.model import initialise
from almmta_spark.model.batch import Batch

FIRST_SCALE = 0.4
"""In units of strength. Means grow under it first: learned from the start, the scale falls to 0 before they have."""
HOLD = 0.4
"""Share of training in which the scale is held."""
FIRST_INFORMATION = 0.1
"""What one touch tells about its item's strength, in inverse squared units of strength."""


class PooledEffects(nn.Module):
    """delta of each id, from row hash(id) mod N: an id that training never met has 0, but for collisions.

    Cost: a gather of B x L rows; N floats of parameters, which the optimiser walks over at every step.
    """

    def __init__(self, num_rows: int, salt: int) -> None:
        super().__init__()
        self.num_rows, self.salt = num_rows, salt
        self.mean_N = nn.Parameter(torch.empty(num_rows))
        self.log_scale = nn.Parameter(torch.empty(()))
        self.log_information = nn.Parameter(torch.empty(()))

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """No effects; how far they spread and what a touch tells of them as usual."""
        initialise.fill(self.mean_N, 0.0)
        initialise.fill(self.log_scale, math.log(FIRST_SCALE))
        initialise.fill(self.log_information, math.log(FIRST_INFORMATION))

    def forward(self, id_BL: Tensor) -> tuple[Tensor, Tensor]:
        """(the posterior mean of delta, no cost), each [B, L]."""
        delta_BL = torch.exp(self.log_scale) * self.mean_N[rows(id_BL, self.num_rows)]
        return delta_BL, torch.zeros_like(delta_BL) * self.log_information

    def draw(self, id_BL: Tensor, touches_BL: Tensor, noise_BL: Tensor, progress: float) -> tuple[Tensor, Tensor]:
        """(delta drawn from its posterior, the touch's share of the cost), each [B, L].

        A touch bears 1 / n_i of its item's cost, so that an epoch pays for each item once, whatever the batches.
        """
        learned = float(progress >= HOLD)  # and not detach() alone: every parameter has a gradient at every step
        log_scale = learned * self.log_scale + (1 - learned) * self.log_scale.detach()
        precision_BL = 1 + touches_BL * torch.exp(self.log_information + 2 * log_scale)
        mean_BL = self.mean_N[rows(id_BL, self.num_rows)]
        delta_BL = torch.exp(log_scale) * (mean_BL + noise_BL / precision_BL.sqrt())
        cost_BL = (mean_BL.square() + 1 / precision_BL - 1 + precision_BL.log()) / 2
        return delta_BL, cost_BL / touches_BL.clamp_min(1)


def rows(id_BL: Tensor, num_rows: int) -> Tensor:
    """A row for each id; ids that follow one another do not share the low bits of a product with an odd number."""
    return torch.remainder(_mixed(id_BL), num_rows)


def hashed_normal(batch: Batch, progress: float, salt: int) -> Tensor:
    """[B, L] standard normal noise, a function of journey, position and progress: no generator, so that equal steps
    draw equal noise on any number of ranks, for models side by side, and resumed or not."""
    position_L = torch.arange(batch.cluster_BL.shape[1], device=batch.cluster_BL.device)
    step = (int(progress * 2**40) * 16 + salt) * 0x9E3779B1 % 2**62
    word_BL = _mixed(_mixed(batch.journey_id_B + step)[:, None] + position_L * 0x85EBCA6B)
    uniform_BL = ((word_BL & 0x7FFFFF).to(torch.float32) + 0.5) / 2**23  # 23 bits: never 0 or 1 in float32
    return math.sqrt(2) * torch.erfinv(2 * uniform_BL - 1)


def _mixed(word: Tensor) -> Tensor:
    """Nonnegative int64 words whose bits all depend on all bits (as Murmur3's finaliser; Appleby 2011)."""
    word = (word ^ (word >> 33)) * 0x7F51AFD7ED558CCD
    word = (word ^ (word >> 33)) * 0x44CEB9FE1A85EC53
    return (word ^ (word >> 33)) & 0x7FFFFFFFFFFFFFFF
