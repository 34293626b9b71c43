"""Every term that is minimised, one function each. All return one value a row: `mean` takes them over the rows, so
that averaging the gradients of equally large ranks is the gradient of the whole batch.

B journeys, N nodes of the noises' grid, or negatives.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from almmta_spark.model.batch import Batch
from almmta_spark.model.quadrature import GaussHermiteGrid

SPARSITY_FLOOR = 0.02
"""Stimulus, in units of the link's S, below which a cluster is as good as silent."""


def mean(loss_B: Tensor, weight_B: Tensor | None) -> Tensor:
    """sum_b w_b loss_b / B, w = 1 where weight_B is None. By B and not by sum w: a row that counts twice, as in a
    bootstrap, then counts twice in every batch and on every rank."""
    return (loss_B if weight_B is None else weight_B * loss_B).mean()


def bernoulli_nll(logit_B: Tensor, outcome_B: Tensor) -> Tensor:
    """- log p(Y) = softplus(logit) - Y logit."""
    return F.softplus(logit_B) - outcome_B * logit_B


def marginal_nll(signals_log_BN: Tensor, outcome_logit_BN: Tensor, outcome_B: Tensor, grid: GaussHermiteGrid) -> Tensor:
    """- log sum_n w_n p(Y', Z | m_n, w_n, Y) p(Y | m_n, w_n, T, X)   (METHOD section 3; exact up to the quadrature)."""
    outcome_log_BN = -bernoulli_nll(outcome_logit_BN, outcome_B[:, None])
    return -grid.log_expectation(signals_log_BN + outcome_log_BN)


def exposure_nll(log_likelihood_B: Tensor, num_touches_B: Tensor) -> Tensor:
    """- log p(T | X) / (1 + number of touches): per observation, so that it does not crowd out the gradient clip."""
    return -log_likelihood_B / (1 + num_touches_B)


def adversary_nll(discriminator_logit_B: Tensor, target_B: Tensor) -> Tensor:
    """- log p(target | mediator): minimised by the discriminator, and through gradient reversal maximised by the
    mediator (Ganin & Lempitsky 2015; ALM-MTA, target Y)."""
    return bernoulli_nll(discriminator_logit_B, target_B)


def info_nce(positive_B: Tensor, negatives_BN: Tensor) -> Tensor:
    """- log exp(s+) / (exp(s+) + sum_n exp(s-_n))   (van den Oord et al. 2018); -inf marks an absent negative."""
    return F.softplus((negatives_BN - positive_B[:, None]).logsumexp(1))


def sparsity_cost(mean_stimulus_K: Tensor, nats: float, num_rows: int) -> Tensor:
    """(nats / rows) sum_c log(1 + |mean g_c| / SPARSITY_FLOOR): what a cluster must gain in likelihood to stay above 0.

    Concave (Candes, Wakin & Boyd 2008), so strong stimuli are hardly shrunk. One value, not one a row: the only cost
    that depends on how rows are divided into batches and ranks, by the spread of the mean g_c over them.
    """
    return torch.log1p(mean_stimulus_K.abs() / SPARSITY_FLOOR).sum() * (nats / max(1, num_rows))


def ridge_cost(values: Tensor, sd: float, num_rows: int) -> Tensor:
    """sum v^2 / (2 sd^2 rows): minus the log density of a N(0, sd) prior, per row. One value, not one a row."""
    return values.square().sum() / (2 * sd**2 * max(1, num_rows))


def total(terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The terms, detached, and their sum as `loss`: what is minimised."""
    return {"loss": torch.stack(list(terms.values())).sum(), **{name: term.detach() for name, term in terms.items()}}


def touch_weight(batch: Batch) -> Tensor:
    """A row's weight: the mean of its touches' clipped, stabilised weights; 1 for a journey without a touch.

    Not the product over touches: that has an effective sample size under 1.3 % (METHOD section 2, fact 4).
    """
    total_B = (batch.weight_BL * batch.mask_BL).sum(1)
    return torch.where(batch.num_touches_B > 0, total_B / batch.num_touches_B.clamp_min(1), torch.ones_like(total_B))


def effective_sample_share(weight_B: Tensor) -> Tensor:
    """(sum w)^2 / (B sum w^2)   (Kish 1965): 1 where all rows weigh the same."""
    return weight_B.sum().square() / (weight_B.numel() * weight_B.square().sum()).clamp_min(1e-30)
