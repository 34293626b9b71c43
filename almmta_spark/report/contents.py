"""What the page is made from: the night's small tables, those of the nights before, and a few journeys without ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from almmta_spark.tables import PROTOCOLS

ALL_BUCKETS = -1
"""propensity_bucket of auuc_by_bucket's rows over all buckets."""


@dataclass(frozen=True)
class NightFigures:
    """One night's figures; of earlier nights, those that tonight's are compared with."""

    ds: str
    auuc: pd.DataFrame
    """auuc_by_bucket."""
    checks: pd.DataFrame
    """diagnostics."""
    clusters: pd.DataFrame
    """attribution_by_cluster of the night's own method, a row a cluster."""
    accounting: Mapping[str, Mapping[str, int]]
    """Where each input table's rows went, as build_journeys noted it; empty where nothing was noted."""


@dataclass(frozen=True)
class Extremes:
    """Of a roll-up, the night's own method: the groups with the largest lower end, and with the smallest upper end."""

    top: pd.DataFrame
    bottom: pd.DataFrame


@dataclass(frozen=True)
class Touch:
    """One touch of a drawn journey; effect and its interval as probabilities."""

    age_hours: float
    cluster: int
    effect: float
    lower: float | None
    upper: float | None


@dataclass(frozen=True)
class Journey:
    """One user's touches, oldest first; nothing that names the user, the items or the day's minute."""

    uploaded: bool
    p_outcome: float | None
    touches: tuple[Touch, ...]

    @property
    def effect(self) -> float:
        """Sum of the touches' effects."""
        return sum(t.effect for t in self.touches)

    @property
    def largest_share(self) -> float:
        """Of the positive effects, the share of the largest; 0 where none is positive."""
        credit = [max(t.effect, 0.0) for t in self.touches]
        return max(credit) / sum(credit) if sum(credit) else 0.0


@dataclass(frozen=True)
class Gate:
    """What the gate said of the model that the night trained, and whose model speaks."""

    reasons: tuple[str, ...]
    """Against the night's own model; empty: it passed."""
    model_ds: str
    """The night that trained the model that speaks."""
    champion: str | None = None
    """The night that trained the champion."""
    no_champion: str = ""
    """Why there is none."""


@dataclass(frozen=True)
class Contents:
    """Everything the page of one night says, read from its tables; no user, no row of a log."""

    env: str
    method: str
    """The night's own, the first of training.variants."""
    model_version: str
    gate: Gate
    level: float
    """Nominal coverage of every interval."""
    lookback_hours: float
    nights: tuple[NightFigures, ...]
    """Oldest first; the last is the night itself."""
    extremes: Mapping[str, Extremes]
    """By the key of the roll-up: cluster, author_id, item_id."""
    efficiency: pd.DataFrame
    """exposure_efficiency."""
    truth: pd.DataFrame
    """truth_metrics; without rows against the truth where nobody knows it."""
    rejection_reasons: Mapping[str, Mapping[str, int]]
    """Refused rows of each input table, by reason."""
    late: Mapping[str, int]
    """Rows of each input table that came after the night had first been read; empty where nothing was noted."""
    warnings: tuple[str, ...]
    """What stages noted in words: unknown signals, nights that were not pooled."""
    journeys: tuple[tuple[str, Journey], ...]
    """Each with the rule by which it was chosen."""
    overlap_picture: bytes | None
    """evaluate's overlap.png."""

    @property
    def tonight(self) -> NightFigures:
        return self.nights[-1]

    @property
    def before(self) -> NightFigures | None:
        """The newest night before tonight."""
        return self.nights[-2] if len(self.nights) > 1 else None

    @property
    def methods(self) -> list[str]:
        """Of the evaluation, the night's own first."""
        others = sorted(set(self.tonight.auuc.method) - {self.method})
        return [self.method, *others]

    @property
    def protocol(self) -> str:
        """The best by which tonight's own ranking is measured; by weights where none measures it."""
        auuc = self.tonight.auuc
        measured = auuc[(auuc.method == self.method) & (auuc.propensity_bucket == ALL_BUCKETS) & auuc.qini.notna()]
        return next((p for p in PROTOCOLS if (measured.protocol == p).any()), "observational")
