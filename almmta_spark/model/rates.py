"""How often a user is shown each cluster: the touch-level propensity, as a rate.

B journeys, K clusters, N inputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from almmta_spark.model import initialise

MAX_LOG_RATE = 10.0


class TouchRates(nn.Module):
    """lambda_c = exp(pop_c + taste_c . inputs): touches of cluster c are Poisson given the inputs."""

    def __init__(self, inputs: int, num_clusters: int) -> None:
        super().__init__()
        self.taste_KN = nn.Parameter(torch.empty(num_clusters, inputs))
        self.popularity_K = nn.Parameter(torch.empty(num_clusters))

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """All clusters at one touch for every ten journeys (no randomness: the argument is a convention)."""
        initialise.fill(self.taste_KN, 0.0)
        initialise.fill(self.popularity_K, -2.3)

    def tables(self) -> list[nn.Parameter]:
        """Parameters with a row a cluster."""
        return [self.taste_KN, self.popularity_K]

    def forward(self, inputs_BN: Tensor) -> Tensor:
        """log lambda, [B, K]."""
        return torch.addmm(self.popularity_K, inputs_BN, self.taste_KN.T).clamp(max=MAX_LOG_RATE)


def rates_nll(log_rate_BK: Tensor, counts_BK: Tensor) -> Tensor:
    """- log p(counts | rates) / (1 + number of touches), without its constant: sum_c lambda_c - N_c log lambda_c."""
    total_B = (log_rate_BK.exp() - counts_BK * log_rate_BK).sum(1)
    return total_B / (1 + counts_BK.sum(1))
