"""How many randomised decisions a hold-out needs, and what a given number of them can see.

    python -m almmta_spark.evaluation.planner --base-rate .03 --effect .004
    python -m almmta_spark.evaluation.planner --base-rate .03 --predicted .004 --direct .002 --decisions 50000

One formula, the diagnostic withholding_decisions included. An estimate with standard error sd / sqrt(n) from n
decisions is significant at `level` with a chance of `power` where its mean is (z_level + z_power) sd / sqrt(n), so

    n = ((z_level + z_power) sd / effect)^2,   z_level = Phi^-1((1 + level) / 2),   z_power = Phi^-1(power)

(Fleiss, Levin & Paik 2003, chapter 4, without pooling the variances; the other tail's chance is left out).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

POWER = 0.8
"""Chance of seeing what there is that an experiment should have."""


@dataclass(frozen=True)
class HoldOut:
    """Randomised decisions to withhold a touch, and what is known of their outcomes before any is taken."""

    base_rate: float
    """Mean outcome of users who keep the touch; of a binary outcome, the share who upload."""
    p_withheld: float = 0.5
    level: float = 0.95
    """Nominal coverage of the interval that shall exclude 0."""
    design_effect: float = 1.0
    """Variance over that of as many decisions of equal weight and of a user each (design_effect_of)."""
    outcome_sd: float | None = None
    """Of an outcome that is no upload but a count or an amount; None: sqrt(rate (1 - rate)) in each arm."""

    def __post_init__(self) -> None:
        rules = {
            "base_rate": ("in (0, 1), or any with outcome_sd", self.outcome_sd is not None or 0 < self.base_rate < 1),
            "p_withheld": ("in (0, 1)", 0 < self.p_withheld < 1),
            "level": ("in (0, 1)", 0 < self.level < 1),
            "design_effect": (">= 1", self.design_effect >= 1),
            "outcome_sd": ("> 0 or left out", self.outcome_sd is None or self.outcome_sd > 0),
        }
        for name, (rule, holds) in rules.items():
            if not holds:
                raise ValueError(f"{name} must be {rule}, got {getattr(self, name)!r}")

    def sd(self, effect: float, predicted_sd: float = 0.0) -> float:
        """sd of (kept - withheld - predicted), times the root of the number of decisions:

            sd^2 = D [ (v(rate) + predicted_sd^2) / (1 - p) + v(rate - effect) / p ],   v(r) = r (1 - r)

        D is the design effect. Kept touches' predictions vary by predicted_sd; that they vary with the outcome, which
        lowers sd, is left out.
        """
        kept, withheld = (self._variance(rate) for rate in (self.base_rate, self.base_rate - effect))
        share = self.p_withheld
        return math.sqrt(self.design_effect * ((kept + predicted_sd**2) / (1 - share) + withheld / share))

    def _variance(self, rate: float) -> float:
        if self.outcome_sd is not None:
            return self.outcome_sd**2
        if not 0 <= rate <= 1:
            raise ValueError(f"an effect must leave withheld users a rate in [0, 1], got {rate:g}: lower the effect")
        return rate * (1 - rate)


def decisions_for_effect(plan: HoldOut, effect: float, power: float = POWER) -> int:
    """Decisions whose interval of kept - withheld excludes 0, with a chance of `power`, where the mean effect of a
    withheld touch is `effect`."""
    return _whole(needed(effect, plan.sd(effect), plan.level, power))


def decisions_for_direct_path(
    plan: HoldOut, direct: float, predicted: float, predicted_sd: float = 0.0, power: float = POWER
) -> int:
    """Decisions whose interval of the shortfall (kept - withheld - predicted) excludes 0, with a chance of `power`,
    where touches act by `direct` beside the `predicted` mean effect through the mediator; predicted_sd over touches."""
    return _whole(needed(direct, plan.sd(predicted + direct, predicted_sd), plan.level, power))


def power_of(
    plan: HoldOut, decisions: float, effect: float, predicted: float = 0.0, predicted_sd: float = 0.0
) -> float:
    """Chance that the interval of so many decisions excludes 0, where it estimates `effect`: of kept - withheld, or
    with predicted of the shortfall."""
    z = abs(effect) / plan.sd(predicted + effect, predicted_sd) * math.sqrt(decisions)
    return float(ndtr(z - _z(plan.level)))


def needed(effect: float, sd: float, level: float, power: float = POWER) -> float:
    """n = ((z_level + z_power) sd / effect)^2 decisions; 0 where effect is 0 or sd unknown (NaN)."""
    if effect == 0 or not sd >= 0:
        return 0.0
    if not 0.5 <= power < 1:
        raise ValueError(f"power must be in [.5, 1), got {power!r}")
    return ((_z(level) + float(ndtri(power))) * sd / effect) ** 2


def needed_after(decisions: int, half_width: float, effect: float, level: float, power: float = POWER) -> float:
    """The same, where `decisions` of the kind were taken and gave an interval of this half-width: sd = half_width
    sqrt(decisions) / z_level."""
    return needed(effect, half_width * math.sqrt(decisions) / _z(level), level, power)


def design_effect_of(weight: ArrayLike, user: ArrayLike | None = None) -> float:
    """n sum_u (sum_{i of u} w_i)^2 / (sum w)^2: Kish's (1965) effect of unequal weights, and of users with several
    decisions as if those told nothing new (the worst case)."""
    weight_N = np.asarray(weight, float)
    of_N = np.arange(len(weight_N)) if user is None else np.unique(np.asarray(user), return_inverse=True)[1]
    return float(len(weight_N) * np.sum(np.bincount(of_N, weights=weight_N) ** 2) / weight_N.sum() ** 2)


def _z(level: float) -> float:
    return float(ndtri((1 + level) / 2))


def _whole(n: float) -> int:
    if n == 0:
        raise ValueError("the effect to be seen must not be 0: no number of decisions shows that there is nothing")
    return math.ceil(n)


def report(plan: HoldOut, effect: float | None, direct: float | None, args: argparse.Namespace) -> str:
    """The plan's lines: decisions by power, and what the given decisions can see."""
    seen = {}
    if effect is not None:
        seen[f"an effect of {effect:g} a touch"] = (effect, 0.0, 0.0)
    if direct is not None:
        seen[f"a direct path of {direct:g} beside {args.predicted:g}"] = (direct, args.predicted, args.predicted_sd)
    lines = []
    for what, (size, predicted, spread) in seen.items():
        lines.append(f"to see {what}:")
        for power in sorted({0.5, 0.8, 0.9, args.power}):
            n = decisions_for_direct_path(plan, size, predicted, spread, power)
            lines.append(f"  {n:>12,} decisions   power {power:.0%}")
        if args.decisions is not None:
            chance = power_of(plan, args.decisions, size, predicted, spread)
            lines.append(f"  {args.decisions:>12,} decisions   power {chance:.0%}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Prints decisions and power of an experiment: --help says of which."""
    parser = argparse.ArgumentParser("planner", description="Decisions that a withholding experiment needs.")
    parser.add_argument("--base-rate", type=float, required=True, help="share of users with an upload, touch kept")
    parser.add_argument("--effect", type=float, help="mean effect of a touch to be seen")
    parser.add_argument("--direct", type=float, help="effect beside the mediator to be seen")
    parser.add_argument("--predicted", type=float, default=0.0, help="mean removal_effect predicted")
    parser.add_argument("--predicted-sd", type=float, default=0.0, help="its standard deviation over touches")
    parser.add_argument("--p-withheld", type=float, default=0.5)
    parser.add_argument("--design-effect", type=float, default=1.0, help="for unequal weights and repeated users")
    parser.add_argument("--level", type=float, default=0.95)
    parser.add_argument("--power", type=float, default=POWER)
    parser.add_argument("--decisions", type=int, help="what so many can see")
    args = parser.parse_args(argv)
    if args.effect is None and args.direct is None:
        parser.error("give --effect, --direct or both")
    try:
        plan = HoldOut(args.base_rate, args.p_withheld, args.level, args.design_effect)
        print(report(plan, args.effect, args.direct, args))
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
