"""Integrals over standard normal noise, in float32 whatever the autocast state."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
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
        """No randomness: the argument is a convention."""
        x, w = _nodes(self.num_nodes)
        with torch.no_grad():
            self.x_Q.copy_(torch.from_numpy(x))
            self.w_Q.copy_(torch.from_numpy(w))

    def log_expectation(self, log_f_BQ: Tensor) -> Tensor:
        """log sum_q w_q exp(log_f_q), one value a row."""
        return torch.logsumexp(log_f_BQ + self.w_Q.log(), dim=-1)

    def posterior_mean(self, log_f_BQ: Tensor) -> Tensor:
        """E[x | data] where log_f_q is the data's log-likelihood at node q: sum_q x_q softmax(log w + log f)_q."""
        return torch.softmax(log_f_BQ + self.w_Q.log(), dim=-1) @ self.x_Q

    def expected_sigmoid(self, location: Tensor, scale: Tensor) -> Tensor:
        """E sigmoid(location + scale x), elementwise (shapes broadcast)."""
        return torch.sigmoid(location[..., None] + scale[..., None] * self.x_Q) @ self.w_Q


class GaussHermiteGrid(nn.Module):
    """E f(x, z), x and z independent N(0, 1), as sum_n w_n f(x_n, z_n) over all pairs of two sets of nodes.

    With one z node, z = 0, it is the integral over x alone.
    """

    x_N: Tensor
    z_N: Tensor
    w_N: Tensor
    z_P: Tensor

    def __init__(self, num_x: int, num_z: int) -> None:
        super().__init__()
        self.num_x, self.num_z = num_x, num_z
        for name in ("x_N", "z_N", "w_N"):
            self.register_buffer(name, torch.empty(num_x * num_z), persistent=False)
        self.register_buffer("z_P", torch.empty(num_z), persistent=False)
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """No randomness: the argument is a convention."""
        (x, w_x), (z, w_z) = _nodes(self.num_x), _nodes(self.num_z)
        pairs = {"x_N": np.tile(x, self.num_z), "z_N": np.repeat(z, self.num_x), "w_N": np.outer(w_z, w_x).ravel()}
        with torch.no_grad():
            for name, values in pairs.items():
                getattr(self, name).copy_(torch.from_numpy(values))
            self.z_P.copy_(torch.from_numpy(z))

    def of_z(self, value_BP: Tensor) -> Tensor:
        """Values at the nodes of z as values at all pairs, [B, N]."""
        return value_BP[:, :, None].expand(-1, -1, self.num_x).flatten(1)

    def log_expectation(self, log_f_BN: Tensor) -> Tensor:
        """log sum_n w_n exp(log_f_n), one value a row."""
        return torch.logsumexp(log_f_BN + self.w_N.log(), dim=-1)

    def posterior_means(self, log_f_BN: Tensor) -> tuple[Tensor, Tensor]:
        """E[x | data] and E[z | data] where log_f_n is the data's log-likelihood at pair n."""
        posterior_BN = torch.softmax(log_f_BN + self.w_N.log(), dim=-1)
        return posterior_BN @ self.x_N, posterior_BN @ self.z_N


def _nodes(num: int) -> tuple[NDArray, NDArray]:
    """Nodes and weights (summing to 1) of the probabilists' Hermite polynomials."""
    x, w = np.polynomial.hermite_e.hermegauss(num)
    return x, w / w.sum()
