"""Markov removal effect: by how much the chance to convert falls when every step to a cluster leads nowhere instead.

    p = (I - Q)^-1 r            P(conversion | state), Q steps between states, r steps to conversion
    R_c = (P(conversion) - P(conversion, no state of c ever entered)) / P(conversion)
    credit_c = R_c / sum R x conversions

(Anderl, Becker, von Wangenheim & Schumann 2016, "Mapping the customer journey"). A state of order k is the last k
clusters; journeys without an upload end in the null state, a cluster after itself is a step like any other. A journey
of three uploads is three journeys that convert. With values in place of conversions r is the mean value earned at a
state, p the value a journey earns from there, and R_c the share of it that goes with c. Removal alone is no effect of a
touch: it takes all touches of the cluster out of all journeys, and its sum over clusters is about the number of touches
a journey. What is claimed of a touch is therefore the credit, spread over the cluster's touches (paths.claim).

S states, C the states of one cluster.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from almmta_spark.baselines.paths import worth

Floats = NDArray[np.float64]
State = tuple[int, ...]
START: State = ()
MAX_STATES = 4096
"""States the driver inverts a matrix of (128 MB of doubles): all those of order 1, of order 2 up to 63 clusters."""
MAX_STEPS = 2**19
"""Distinct steps the driver collects (some 300 MB): all those of order 1 up to 700 clusters, of order 2 up to 63."""
_REMEDY = "lower it, or where it is 1 leave markov out of attribution.baselines"


@dataclass(frozen=True)
class Step:
    """A step seen `count` times; to is None at a journey's end, where conversions together earned `value`."""

    origin: State
    to: State | None
    converted: bool
    count: int
    value: float = 0.0


@dataclass(frozen=True)
class Removal:
    """What removing each cluster takes from the chance to convert."""

    p_conversion: float
    """Of a journey from its start; with values, what it earns on average."""
    effect: dict[int, float]
    """R_c of each cluster, in [0, 1]."""

    def credit(self, total: float) -> dict[int, float]:
        """Conversions (or their value) shared out in proportion to R_c; nothing to share where none converted."""
        of_all = sum(self.effect.values())
        return {c: r / of_all * total if of_all else 0.0 for c, r in self.effect.items()}


def step_counts(paths: DataFrame, order: int) -> list[Step]:
    """Steps between states of the last `order` clusters, counted in Spark; a row a distinct step on the driver.

    paths: path array<int>, outcome int (conversions), and where there are values their sum, value double. ValueError
    for more than MAX_STEPS distinct steps, of which no more than that reach the driver: states are up to clusters^order
    (fewer where journeys are short). Cost: one aggregation of a row a touch, combined before its shuffle.
    """
    position, length = F.col("position"), F.size("path")

    def state(touches_so_far: Column) -> Column:
        begin = F.greatest(touches_so_far - F.lit(order), F.lit(0))
        return F.slice("path", begin + 1, touches_so_far - begin)

    ended = (position == length) & (F.col("outcome") > 0)
    steps = worth(paths).withColumn("position", F.explode(F.sequence(F.lit(0), length)))
    found = (
        steps.groupBy(
            state(position).alias("origin"),
            F.when(position < length, state(F.least(position + 1, length))).alias("to"),
            ended.alias("converted"),
        )
        .agg(
            F.sum(F.greatest("outcome", F.lit(1)).cast("bigint")).alias("count"),
            F.sum(F.when(position == length, F.col("value"))).alias("value"),
        )
        .limit(MAX_STEPS + 1)
        .collect()
    )
    if len(found) > MAX_STEPS:
        raise ValueError(
            f"attribution.markov_order must leave at most {MAX_STEPS} distinct steps between states, got more at order "
            f"{order}: {_REMEDY}"
        )
    return [
        Step(
            tuple(row["origin"]),
            None if row["to"] is None else tuple(row["to"]),
            row["converted"],
            row["count"],
            float(row["value"] or 0),
        )
        for row in found
    ]


def removal_effects(steps: Iterable[Step], of_values: bool = False) -> Removal:
    """R_c of every cluster by one matrix inverse: with N = (I - Q)^-1, the paths that avoid the states C of a cluster
    convert with probability p_start - N[start, C] N[C, C]^-1 p_C   (Kemeny & Snell 1960, chapter III).

    of_values: of what conversions earned, not of their number. ValueError for more than MAX_STATES states. Cost: S^3
    operations, S^2 memory.
    """
    seen = list(steps)
    states = sorted({step.origin for step in seen} | {START})
    if len(states) > MAX_STATES:
        raise ValueError(
            f"attribution.markov_order must leave at most {MAX_STATES} states to solve for, got {len(states)}: "
            f"{_REMEDY}"
        )
    index = {state: i for i, state in enumerate(states)}
    q_SS, r_S = np.zeros((len(states), len(states))), np.zeros(len(states))
    total_S = np.zeros(len(states))
    for step in seen:
        total_S[index[step.origin]] += step.count
        if step.to is not None:
            q_SS[index[step.origin], index[step.to]] += step.count
        elif step.converted:
            r_S[index[step.origin]] += step.value if of_values else step.count
    total_S = np.maximum(total_S, 1)
    n_SS = np.linalg.inv(np.eye(len(states)) - q_SS / total_S[:, None])
    p_S = n_SS @ (r_S / total_S)
    start, p_start = index[START], float(p_S[index[START]])
    effect = {}
    for cluster in sorted({state[-1] for state in states if state}):
        of_C = [index[state] for state in states if state and state[-1] == cluster]
        first_entered_C = np.linalg.solve(n_SS[np.ix_(of_C, of_C)].T, n_SS[start, of_C])
        effect[cluster] = float(first_entered_C @ p_S[of_C]) / p_start if p_start else 0.0
    return Removal(p_start, effect)
