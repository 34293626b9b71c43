"""The outcome's leak into its own proxies: kappa_j Y in their logits, because the decision to upload shows in them.

Along the loadings kappa cannot be told from the outcome's slope: with kappa = c l uploads look as if they needed a
slope of b + c where it is b (p(m | Y = 1) is that of m shifted by b, where uploads are rare). Anchors, signals known to
have kappa 0, settle c. Without an anchor only what of kappa lies across the loadings is fitted. It shows whether there
is a leak; then any share u of the slope that is seen, b + c, may be the leak's, and each fit draws its own:
c = u (b + c). Fits then differ by what nobody can know.

B journeys, J outcome proxies.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from almmta_spark.example_spec import ExampleSpec
from almmta_spark.model import initialise

NOISE = 40.0
"""Squared size of a kappa, times uploads, below which it is taken for noise (a variance of 10 / uploads, 2 sd)."""
LARGEST_SHARE = 0.9
"""u is drawn uniformly from [0, LARGEST_SHARE]: at 1 nothing would be left of any effect."""


class OutcomeLeak(nn.Module):
    """kappa_J: free where a signal is no anchor; without any anchor its part across the loadings, plus c l."""

    free_J: Tensor

    def __init__(self, spec: ExampleSpec) -> None:
        super().__init__()
        self.signals = spec.outcome_proxies
        size = max(1, len(self.signals))
        self.anchored = any(s.anchor for s in self.signals)
        self.noise = NOISE * (size - 1) / max(1.0, spec.num_training * spec.base_rate)
        self.kappa_J = nn.Parameter(torch.empty(size))
        self.drawn = nn.Parameter(torch.empty(()))
        self.register_buffer("free_J", torch.empty(size), persistent=False)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """kappa = 1 beside anchors, else 0; u is drawn."""
        initialise.fill(self.kappa_J, 1.0 if self.anchored else 0.0)
        with torch.no_grad():
            self.drawn.uniform_(0.0, LARGEST_SHARE, generator=generator)
            self.free_J.copy_(torch.tensor([float(not s.anchor) for s in self.signals] or [0.0]))

    def kappa(self, loading_J: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        """What is fitted of kappa, and what is drawn, each [J]; slope: b of a typical journey.

        The draw is held still, since its gradient would follow what only looks like information. It counts by the share
        leak / (leak + noise) to which there is a leak, in squared sizes across the loadings.
        """
        drawn = self.drawn.detach() + 0.0 * self.drawn
        if self.anchored:
            return self.kappa_J * self.free_J, 0.0 * drawn * self.free_J
        along_J = loading_J.detach()
        across_J = self.kappa_J - along_J * (self.kappa_J @ along_J) / along_J.square().sum().clamp_min(1e-6)
        leak = (across_J.detach().square().sum() - self.noise).clamp_min(0.0)
        share = drawn * leak / (leak + self.noise).clamp_min(1e-30)
        return across_J, share / (1 - share) * slope.detach() * along_J

    def forward(self, outcome_B: Tensor, loading_J: Tensor, slope: Tensor, fitted: bool = True) -> Tensor:
        """kappa_j Y, [B, J]; fitted = False leaves out what the data told of it."""
        fitted_J, drawn_J = self.kappa(loading_J, slope)
        return outcome_B[:, None] * (fitted_J + drawn_J if fitted else drawn_J)
