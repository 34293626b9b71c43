"""Exposure efficiency: what the next x % of exposures would cause, were they given to the groups that a ranking puts
first (causal/reallocation.py), by item, author and cluster.

Every ranking is judged by the night's own model: its own by users that did not rank (its fits take turns), rules and
other models by the same figures, their winners chosen by all users' uploads, which flatters them if anything.
Effects are of the present touches on the users who get them now, so a curve says what shifting some exposures within
that is worth, not what a group would do to everybody, and not beyond twice its exposures.

G groups (bins of groups with all but equal scores), S shares, M members
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from almmta_spark.causal import reallocation
from almmta_spark.config import Config, EnsembleConfig
from almmta_spark.evaluation.auuc import TRUTH_METHOD, Row, null_if_nan
from almmta_spark.evaluation.fixed_point import collect, fixed_sum
from almmta_spark.evaluation.rollups import MEMBERS, member_sums

LEVELS = {"item": "item_id", "author": "author_id", "cluster": "cluster"}
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75)
"""x: shares of the night's exposures."""
PRESENT, POPULARITY = "present_policy", "popularity"
"""Rankings beside the methods: none, every group in proportion; by the number of exposures."""
_SMALLEST, _BINS_PER_FOLD = 1e-5, 128
"""Scores of a group within 1/128 of an e-fold (below 1e-5: within 1e-7) are taken for equal."""


def exposure_efficiency(attribution: DataFrame, truth: DataFrame | None, conf: Config) -> list[Row]:
    """Rows of tables.EXPOSURE_EFFICIENCY of one night. truth: truth_attribution of the night (simulator only).

    Cost: a scan of attribution (two with the methods' names), a shuffle of items' partial sums, M + 2 longs a method
    wide, and one of groups'. Groups are binned by score before they reach the driver: at most some 4,000 rows a ranking
    and level. With truth: a join of the own model's rows with it, beside.
    """
    methods = sorted(row["method"] for row in attribution.select("method").distinct().collect())
    own, plan = conf.training.variants[0], conf.training.ensemble
    if own not in methods:
        raise ValueError(
            f"table attribution: no rows of {own}, the first of training.variants, which judges what exposures are "
            f"worth, got {', '.join(methods) or 'no rows'}: run the attribute job"
        )
    sums = _group_sums(attribution, truth, methods, own, plan)
    found = collect(_binned(sums, methods, plan, truth is not None))
    rows: list[Row] = []
    for level in LEVELS:
        here = {name: values[found["level"] == level] for name, values in found.items()}
        names = dict.fromkeys(here["ranking"].tolist())
        ranked = {n: _Ranked.of({c: v[here["ranking"] == n] for c, v in here.items()}, plan.members) for n in names}
        rows += _rows(level, ranked, own, conf)
    return rows


def _group_sums(
    attribution: DataFrame, truth: DataFrame | None, methods: Sequence[str], own: str, plan: EnsembleConfig
) -> DataFrame:
    """A row a level and group: exposures; total_0, ... the methods' sums; member_0, ... the fits'; ett over `known`."""
    items, of_own = list(LEVELS.values()), F.col("method") == own
    totals = [fixed_sum(F.when(F.col("method") == m, F.col("removal_effect"))) for m in methods]
    sums = attribution.groupBy(*items).agg(
        F.count_if(of_own).alias("exposures"),
        F.max(F.when(of_own, F.size(MEMBERS))).alias("members"),
        fixed_sum(F.when(of_own, F.col("removal_effect"))).alias("effect"),
        *[total.alias(f"total_{i}") for i, total in enumerate(totals)],
        *member_sums(plan, "member", lambda value: F.when(of_own, value)),
    )
    exact = sums.select(*items, F.lit(0.0).alias("ett"), F.lit(0).alias("known"))
    if truth is not None:
        keys = ["user_id", "touch_id"]
        touches = attribution.where(of_own).select(*keys, *items).join(truth.select(*keys, "ett"), keys)
        exact = touches.groupBy(*items).agg(fixed_sum(F.col("ett")).alias("ett"), F.count("ett").alias("known"))
    groups = [F.struct(F.lit(n).alias("level"), F.col(k).cast("bigint").alias("group")) for n, k in LEVELS.items()]
    known = F.coalesce(F.sum("known"), F.lit(0)).alias("known")
    added = ["effect", "ett", *(c for c in sums.columns if c.startswith(("total_", "member_")))]
    return (
        sums.join(exact, items, "left")
        .select("*", F.inline(F.array(*groups)))
        .groupBy("level", "group")
        .agg(
            F.sum("exposures").alias("exposures"),
            F.max("members").alias("members"),
            known,
            *[fixed_sum(F.col(name)).alias(name) for name in added],
        )
    )


def _binned(sums: DataFrame, methods: Sequence[str], plan: EnsembleConfig, with_truth: bool) -> DataFrame:
    """The same sums over the groups of a bin of each ranking's score."""
    scores = {m: F.col(f"total_{i}") / F.col("exposures") for i, m in enumerate(methods)}
    scores |= {_of_member(m): F.col(f"member_{m}") / F.col("exposures") for m in range(plan.members)}
    scores |= {POPULARITY: F.col("exposures").cast("double"), PRESENT: F.lit(0.0)}
    if with_truth:
        scores[TRUTH_METHOD] = F.coalesce(F.try_divide("ett", "known"), F.lit(0.0))
    rankings = [F.struct(F.lit(n).alias("ranking"), _bin(s).alias("bin")) for n, s in scores.items()]
    summed = ["effect", "ett", *[f"member_{m}" for m in range(plan.members)]]
    return (
        sums.select("*", F.inline(F.array(*rankings)))
        .groupBy("level", "ranking", "bin")
        .agg(
            F.count(F.lit(1)).alias("groups"),
            F.sum("exposures").alias("exposures"),
            F.sum("known").alias("known"),
            F.max("members").alias("members"),
            *[fixed_sum(F.col(name)).alias(name) for name in summed],
        )
        .orderBy("level", "ranking", "bin")
    )


def _bin(score: Column) -> Column:
    return F.floor(F.asinh(score / F.lit(_SMALLEST)) * F.lit(_BINS_PER_FOLD))


def _of_member(number: int) -> str:
    return f"member_{number}"


@dataclass(frozen=True)
class _Ranked:
    """A level's groups as one ranking sees them, and what the night's own model says of them."""

    score_G: NDArray[np.float64]
    groups_G: NDArray[np.float64]
    exposures_G: NDArray[np.float64]
    effect_G: NDArray[np.float64]
    member_MG: NDArray[np.float64]
    """Empty without an ensemble."""
    ett_G: NDArray[np.float64]
    """Exact effects of the known touches."""
    known_G: NDArray[np.float64]

    @classmethod
    def of(cls, rows: Mapping[str, NDArray], num_members: int) -> _Ranked:
        members = num_members if (rows["members"] == num_members).any() else 0
        score, groups, exposures, effect = (rows[n].astype(float) for n in ("bin", "groups", "exposures", "effect"))
        member_MG = np.array([rows[f"member_{m}"] for m in range(members)]).reshape(members, len(score))
        return cls(score, groups, exposures, effect, member_MG, rows["ett"], rows["known"].astype(float))

    @cached_property
    def _extra(self) -> NDArray[np.float64]:
        return reallocation.extra(
            self.score_G, self.exposures_G, np.vstack([self.effect_G, self.member_MG]), np.array(SHARES)
        )

    @property
    def extra_S(self) -> NDArray[np.float64]:
        return self._extra[0]

    def pseudo_MS(self, num_folds: int) -> NDArray[np.float64]:
        return reallocation.pseudo_values(self.extra_S, self._extra[1:], num_folds)

    def num_groups_S(self) -> NDArray[np.float64]:
        given_S = reallocation.given_to_top(self.score_G, self.exposures_G, self.groups_G[None], SHARES)[0]
        return np.ceil(np.round(given_S, 6))

    def true_extra_S(self) -> NDArray[np.float64]:
        """By the exact effects of the known touches in the place of all; NaN where none is known."""
        exact = np.stack([self.ett_G, self.known_G])
        ett_S, known_S = reallocation.given_to_top(self.score_G, self.exposures_G, exact, SHARES)
        if not self.known_G.sum():
            return np.full(len(SHARES), np.nan)
        mean_S = np.divide(ett_S, known_S, out=np.full(len(SHARES), np.nan), where=known_S > 0)
        return (mean_S - self.ett_G.sum() / self.known_G.sum()) * np.array(SHARES) * self.exposures_G.sum()


def _rows(level: str, ranked: Mapping[str, _Ranked], own: str, conf: Config) -> Iterator[Row]:
    """Of one level: every ranking but the members', at every share."""
    plan, nominal = conf.training.ensemble, conf.evaluation.interval
    members = [ranked[_of_member(m)] for m in range(plan.members)]
    cross_fitted = bool(len(ranked[own].member_MG))
    own_MS = ranked[own].extra_S[None]
    if cross_fitted:
        own_MS = np.stack([one.pseudo_MS(plan.folds)[m] for m, one in enumerate(members)])
    exposures, total = (float(v.sum()) for v in (ranked[own].exposures_G, ranked[own].effect_G))
    for ranking, one in ranked.items():
        if ranking.startswith("member_"):
            continue
        of_MS = one.pseudo_MS(plan.folds) if cross_fitted else one.extra_S[None]
        figures_MS = {"extra_uploads": own_MS if ranking == own else of_MS}
        figures_MS["behind_model"] = own_MS - figures_MS["extra_uploads"]
        half = {
            name: reallocation.half_width(values, plan.folds, nominal, plan.shared_error)
            if cross_fitted
            else np.full(len(SHARES), math.nan)
            for name, values in figures_MS.items()
        }
        groups_S, true_S = one.num_groups_S(), one.true_extra_S()
        for s, share in enumerate(SHARES):
            row: Row = {"level": level, "ranking": ranking, "share": share, "cross_fitted": cross_fitted}
            row |= {"exposures": share * exposures, "num_groups": int(groups_S[s])}
            for name, values in figures_MS.items():
                centre = float(values.mean(axis=0)[s])
                ends = (null_if_nan(centre - half[name][s]), null_if_nan(centre + half[name][s]))
                row |= {name: centre, f"{name}_lower": ends[0], f"{name}_upper": ends[1]}
            row |= {"uploads": share * total + row["extra_uploads"], "true_extra_uploads": null_if_nan(true_S[s])}
            yield row
