"""Integrals over standard normal noise, in float32 whatever the autocast state."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


def full_precision(like: Tensor) -> torch.autocast:
    """Context in which autocast is off: bf16 has 8 bits, and a log-likelihood adds hundreds of terms.

    What stays under autocast are the products of encoders and heads; they hand on float32.
    """
    return torch.autocast(like.device.type, enabled=False)


class GaussHermite(nn.Module):
    """E f(x), x ~ N(0, 1), as sum_q w_q f(x_q): exact for polynomials of degree 2Q-1."""

    x_Q: Tensor
    w_Q: Tensor

    def __init__(self, num_nodes: int) -> None:
        super().__init__()
        self.num_nodes = num_nodes
        self.register_buffer("x_Q", torch.empty(num_nodes), persistent=False)
        self.register_buffer("w_Q", torch.empty(num_nodes), persistent=False)
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Nodes and weights of the probabilists' Hermite polynomials (no randomness: the argument is a convention)."""
        x, w = np.polynomial.hermite_e.hermegauss(self.num_nodes)
        with torch.no_grad():
            self.x_Q.copy_(torch.from_numpy(x))
            self.w_Q.copy_(torch.from_numpy(w / w.sum()))

    def log_expectation(self, log_f_BQ: Tensor) -> Tensor:
        """log sum_q w_q exp(log_f_q), one value a row."""
        return torch.logsumexp(log_f_BQ + self.w_Q.log(), dim=-1)

    def posterior_mean(self, log_f_BQ: Tensor) -> Tensor:
        """E[x | data] where log_f_q is the data's log-likelihood at node q: sum_q x_q softmax(log w + log f)_q."""
        return torch.softmax(log_f_BQ + self.w_Q.log(), dim=-1) @ self.x_Q

    def expected_sigmoid(self, location: Tensor, scale: Tensor) -> Tensor:
        """E sigmoid(location + scale x), elementwise (shapes broadcast)."""
        return torch.sigmoid(location[..., None] + scale[..., None] * self.x_Q) @ self.w_Q
