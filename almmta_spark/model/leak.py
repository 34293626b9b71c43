"""The outcome's leak into its own proxies: kappa_j Y in their logits, because the decision to upload shows in them.

Along the loadings kappa cannot be told from the outcome's slope: Y adding c to the mediator's scale, kappa = c l, looks
like uploads that need b + c where they need b (p(m | Y = 1) is that of m shifted by b where uploads are rare). Anchors,
signals known to have kappa 0, settle c. Without an anchor only what is left of kappa across the loadings is fitted. It
shows whether there is a leak; then c is drawn, for each fit anew, so that fits differ by what nobody can know.

B journeys, J outcome proxies.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from almmta_spark.example_spec import ExampleSpec
from almmta_spark.model import initialise

SPREAD = 3.0
"""Standard deviation of c without an anchor, in sizes of the leak across the loadings: signals that all leak alike look
clean, so what differs between them is the smaller part."""
NOISE = 40.0
"""Squared size of a kappa, times uploads, below which it is taken for noise (a variance of 10 / uploads, 2 sd)."""


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
        """kappa = 1 beside anchors, else 0; the draw is half normal: an upload does not make its own acts rarer."""
        initialise.fill(self.kappa_J, 1.0 if self.anchored else 0.0)
        initialise.normal(self.drawn, 1.0, generator)
        with torch.no_grad():
            self.drawn.abs_()
            self.free_J.copy_(torch.tensor([float(not s.anchor) for s in self.signals] or [0.0]))

    def kappa(self, loading_J: Tensor) -> Tensor:
        """[J]. The draw is held still: its gradient would follow what only looks like information."""
        drawn = self.drawn.detach() + 0.0 * self.drawn
        if self.anchored:
            return self.kappa_J * self.free_J + 0.0 * drawn
        along_J = loading_J.detach()
        squared = along_J.square().sum().clamp_min(1e-6)
        across_J = self.kappa_J - along_J * (self.kappa_J @ along_J) / squared
        leak = (across_J.detach().square().sum() - self.noise).clamp_min(0.0)
        return across_J + SPREAD * (leak / squared).sqrt() * drawn * along_J

    def forward(self, outcome_B: Tensor, loading_J: Tensor) -> Tensor:
        return outcome_B[:, None] * self.kappa(loading_J)
