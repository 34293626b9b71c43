"""What items a world's clusters have: how many, with what content, and how strong each is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from almmta_spark.simulator import hashing
from almmta_spark.simulator.hashing import Floats, Ints

# K clusters, I items (cluster-major), E content, R random features


@dataclass(frozen=True)
class Source:
    """Where the constants of a world come from: its seed and a name for its streams."""

    seed: int
    name: str

    def normals(self, what: str, rows: int, columns: int) -> Floats:
        """[rows, columns] standard normals, the same for the same `what`."""
        return hashing.normals(self.seed, f"{self.name}/{what}", 0, np.arange(rows), columns)

    def uniforms(self, what: str, rows: int, columns: int) -> Floats:
        """[rows, columns] uniforms in (0, 1), the same for the same `what`."""
        return hashing.uniforms(self.seed, f"{self.name}/{what}", 0, np.arange(rows), columns)


@dataclass(frozen=True)
class Catalogue:
    """Items of a world: cluster by cluster, with content and strength."""

    num_items_K: Ints
    content_IE: Floats
    strength_I: Floats
    strength_K: Floats
    """Mean strength of the cluster's items as they are served; exactly 0 where no item has any."""


class ItemLaw(Protocol):
    """How a world's items come about, and how often each is served."""

    @property
    def popularity_power(self) -> float:
        """A uniform u serves item floor(size * u ** power) of its cluster: 1 flat, more for a few that many see."""

    def catalogue(self, source: Source, content_KE: Floats, sign_K: Floats, per_cluster: int) -> Catalogue:
        """sign_K: -1 for clusters that discourage. per_cluster: items of a cluster where the law does not say."""


@dataclass(frozen=True)
class EqualItems:
    """Items as strong as their cluster: s_k = max(0, N(.3, .8)), or -|N(.3, .8)|."""

    content_noise: float = 0.1
    """Standard deviation of an item's content around its cluster's, per dimension."""
    popularity_power: float = 1.0

    def catalogue(self, source: Source, content_KE: Floats, sign_K: Floats, per_cluster: int) -> Catalogue:
        """As many items in each cluster, all of its strength, with its content plus noise."""
        num_clusters, width = content_KE.shape
        strength_K = signed_strength(0.3 + 0.8 * source.normals("strength", num_clusters, 1)[:, 0], sign_K)
        noise_IE = source.normals("items", num_clusters * per_cluster, width)
        return Catalogue(
            num_items_K=np.full(num_clusters, per_cluster),
            content_IE=np.repeat(content_KE, per_cluster, axis=0) + self.content_noise * noise_IE,
            strength_I=np.repeat(strength_K, per_cluster),
            strength_K=strength_K,
        )


@dataclass(frozen=True)
class VariedItems:
    """Items with strengths of their own, most of which a smooth function f of their content tells.

    s_i = +-(.3 + .8 (sqrt(1 - share) N_cluster + sqrt(share) f(content_i))) exp(noise N_i - noise^2 / 2), cut at 0
    f: eight random sine waves over the content, of mean 0 and variance 1 over the items
    """

    most_items: int = 500
    """Clusters have 1 to this many items, uniform in the logarithm."""
    content_noise: float = 0.25
    popularity_power: float = 2.0
    content_share: float = 0.6
    """Share of the variance (before noise and cut) that content tells and the cluster does not."""
    strength_noise: float = 0.28
    """What nothing but the item tells."""

    def catalogue(self, source: Source, content_KE: Floats, sign_K: Floats, per_cluster: int) -> Catalogue:
        """From 1 to most_items a cluster, each with a strength that its content tells in part."""
        num_clusters, width = content_KE.shape
        spread_K = source.uniforms("num_items", num_clusters, 1)[:, 0]
        num_K = np.floor((self.most_items + 1) ** spread_K).astype(np.int64)
        cluster_I = np.repeat(np.arange(num_clusters), num_K)
        content_IE = content_KE[cluster_I] + self.content_noise * source.normals("items", len(cluster_I), width)
        of_cluster_I = source.normals("strength", num_clusters, 1)[cluster_I, 0]
        told_I = np.sqrt(1 - self.content_share) * of_cluster_I
        told_I = told_I + np.sqrt(self.content_share) * _smooth(source, content_IE)
        own_I = self.strength_noise * source.normals("item_strength", len(cluster_I), 1)[:, 0]
        factor_I = np.exp(own_I - self.strength_noise**2 / 2)
        strength_I = signed_strength(0.3 + 0.8 * told_I, sign_K[cluster_I]) * factor_I
        served_I = _served(num_K, self.popularity_power)
        strength_K = np.bincount(cluster_I, weights=served_I * strength_I)
        return Catalogue(num_K, content_IE, strength_I, strength_K.astype(np.float64))


def signed_strength(drawn: Floats, sign: Floats) -> Floats:
    """max(0, drawn), or -|drawn| where the sign is negative."""
    return np.where(sign < 0, -np.abs(drawn), np.maximum(0.0, drawn))


def _smooth(source: Source, content_IE: Floats) -> Floats:
    """(I,) f of each content."""
    waves = 8
    direction_RE = 1.5 * source.normals("wave_direction", waves, content_IE.shape[1])
    phase_R = 2 * np.pi * source.uniforms("wave_phase", waves, 1)[:, 0]
    weight_R = source.normals("wave_weight", waves, 1)[:, 0]
    angle_IR = content_IE @ direction_RE.T + phase_R
    value_I = np.sin(angle_IR) @ weight_R
    return np.asarray((value_I - value_I.mean()) / value_I.std())


def _served(num_K: Ints, power: float) -> Floats:
    """(I,) probability of an item among those of its cluster: rank r of n has ((r + 1) / n)^(1/p) - (r / n)^(1/p)."""
    rank_I = np.concatenate([np.arange(n) for n in num_K])
    size_I = np.repeat(num_K, num_K)
    return np.asarray(((rank_I + 1) / size_I) ** (1 / power) - (rank_I / size_I) ** (1 / power))
