"""Checks that need no truth: each a value, where it warns, a verdict and what to do (METHOD.md section 7)."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from almmta_spark.causal.calibration import SUFFIX
from almmta_spark.evaluation.auuc import Row, null_if_nan
from almmta_spark.evaluation.matching import Lift
from almmta_spark.evaluation.overlap import BucketOverlap
from almmta_spark.evaluation.planner import POWER
from almmta_spark.evaluation.predictions import ModelFit
from almmta_spark.evaluation.sensitivity import TOP, Sensitivity
from almmta_spark.evaluation.subsets import Subsets
from almmta_spark.evaluation.withholding import Comparison

PASS, WARN, FAIL = "pass", "warn", "fail"


@dataclass(frozen=True)
class Check:
    """One row of diagnostics. `low` warns below the threshold, else above it; NaN warns.

    warn: read on with this in mind. fail: what the night says is refuted, or its data are not to be trusted. Checks of
    what no log can tell (sensitivity), or that lean on an assumption of their own, never fail.
    """

    name: str
    value: float
    threshold: float
    advice: str
    low: bool = False
    fails: float | None = None
    """Beyond this the verdict is fail."""

    @property
    def verdict(self) -> str:
        if math.isnan(self.value):
            return WARN
        if self.fails is not None and self._beyond(self.fails):
            return FAIL
        return WARN if self._beyond(self.threshold) else PASS

    def _beyond(self, limit: float) -> bool:
        return self.value < limit if self.low else self.value > limit

    def row(self) -> Row:
        """As a row of the table diagnostics; an unknown value is null."""
        return {
            "name": self.name,
            "value": null_if_nan(self.value),
            "threshold": null_if_nan(self.threshold),
            "verdict": self.verdict,
            "advice": self.advice,
        }


def first_sentence(text: str) -> str:
    """Up to the first full stop that a capital follows."""
    return re.split(r"(?<=[.])\s+(?=[A-Z])", text, maxsplit=1)[0]


def overlap_checks(buckets: Mapping[int, BucketOverlap]) -> Iterator[Check]:
    """Per propensity bucket: what weighting costs, and whether the propensities are right on average."""
    for bucket, b in sorted(buckets.items()):
        yield Check(
            f"effective_sample_share/bucket={bucket}",
            b.effective_exposed / b.exposed if b.exposed else float("nan"),
            0.3,
            "Few exposed pairs carry the weighted figures of this bucket: lower propensity.max_weight or propensity."
            "num_buckets, and trust the exact or randomised protocol there.",
            low=True,
        )
        yield Check(
            f"propensity_calibration/bucket={bucket}",
            abs(b.predicted / b.exposed - 1) if b.exposed else float("nan"),
            0.1,
            "Predicted and observed exposure differ by this share: the propensity model misses something the "
            "recommender uses; add covariates to `users`, or lower propensity.l2.",
        )
    pairs = sum(b.pairs for b in buckets.values())
    yield Check(
        "impossible_exposure_share",
        sum(b.impossible for b in buckets.values()) / pairs if pairs else float("nan"),
        0.1,
        "For this share of (journey, cluster) pairs an exposure all but cannot happen, or all but must (propensity."
        "min_propensity): nobody there can be compared. Let the recommender explore, or merge clusters that reach none "
        "but their own users.",
    )
    yield Check(
        "clipped_weight_share",
        sum(b.clipped for b in buckets.values()) / pairs if pairs else float("nan"),
        0.01,
        "Weights stand at propensity.max_weight: raise it if effective_sample_share allows, and read the observational "
        "protocol as biased towards the unweighted contrast.",
    )


NOT_IDENTIFIED = "SIZE NOT IDENTIFIED"
"""How advice begins where effects can be ranked and nothing more."""
LEAK_JOURNEYS = 30_000
"""The likelihood that a leak gains is stated per so many held-out journeys."""


def leak_checks(fits: Mapping[str, ModelFit], anchored: bool) -> Iterator[Check]:
    """Per model with such a term: whether the upload shows in its own proxies; anchored: some signal is known clean."""
    advice = (
        "Uploads show in the outcome proxies themselves; the anchors tell by how much, and effects are free of it."
        if anchored
        else f"{NOT_IDENTIFIED}: uploads show in the outcome proxies themselves, and without a signal that is known "
        "to be clean nobody can tell by how much: effects rank touches, but their size may be far too large. Declare "
        "such a signal (signals.NAME.anchor: true), log one, or run withholdings."
    )
    for method, fit in fits.items():
        if not math.isnan(fit.leak_gain):
            yield Check(f"outcome_leak/{method}", fit.leak_gain * LEAK_JOURNEYS, 10.0, advice)


def model_checks(fits: Mapping[str, ModelFit]) -> Iterator[Check]:
    """Per model: overfit, and whether its mediator's proxies say anything."""
    for method, fit in fits.items():
        noise = 2 * fit.held_out.gain_sd
        yield Check(
            f"overfit/{method}",
            fit.training.gain - fit.held_out.gain,
            0.05 + (0.0 if math.isnan(noise) else noise),
            "McFadden's R2 is higher on training than on held-out journeys by more than noise explains: fewer "
            "training.epochs, more training.weight_decay, or more nights (pool_nights).",
        )
        if not math.isnan(fit.posterior_variance):
            yield Check(
                f"proxy_reliability/{method}",
                fit.posterior_variance,
                0.1,
                "The outcome proxies say little about the mediator, so effects rest on the outcome alone: log more or "
                "better proxies, or pool more nights.",
                low=True,
            )


def negative_control_checks(t_values: Mapping[str, float]) -> Iterator[Check]:
    """Per model with a mediator's noise: whether that noise, as the proxies tell it, knows the intent."""
    for method, t in t_values.items():
        yield Check(
            f"negative_control/{method}",
            abs(t),
            3.0,
            "What the outcome proxies say beyond touches and covariates goes with intent proxies from before them "
            f"(t = {t:+.1f}): the intent leaks into the proxies or into the mediator, and effects carry it. Let the "
            "model take the intent out, or drop the proxies that intenders show without having been inspired.",
        )


def mediator_overlap_checks(overlaps: Mapping[str, float]) -> Iterator[Check]:
    """Per model with a mediator: whether the mediators that a deletion asks about are ones that journeys have."""
    for method, value in overlaps.items():
        yield Check(
            f"mediator_overlap/{method}",
            value,
            0.2,
            "In one journey of twenty, taking out its strongest touch moves the mediator this far off what such "
            "journeys show (1: not at all): those effects lean on the model's form. Read them with their intervals, "
            "and let the recommender leave such touches out now and then.",
            low=True,
        )


SLOPE_NOISE = 3.0
"""Of a slope fitted to U uploads that belong to others, over the night's: 1 / sqrt(U) for each of its directions (what
it is fitted on has unit variance, real slopes are near 1), together sqrt(8) for half a dozen covariates and more."""


def placebo_limit(name: str, num_outcomes: float) -> float:
    """Where a placebo warns: 5 %, or, where the outcome is other journeys', as much as chance makes of so many."""
    return max(0.05, SLOPE_NOISE / math.sqrt(num_outcomes)) if name == "placebo_outcome" and num_outcomes else 0.05


INVENTED = 0.5
"""Where a placebo fails: most of what the night claims could as well be claimed of nothing."""


def placebo_checks(claims: Mapping[str, float], num_outcomes: float = math.inf) -> Iterator[Check]:
    """Mean |removal_effect| of the night's own model (the first), and of those fitted where nothing can be found."""
    (_, real), *placebos = claims.items() or [("", float("nan"))]
    for name, invented in placebos:
        yield Check(
            name,
            invented / real if real else float("nan"),
            placebo_limit(name, num_outcomes),
            "Fitted to data in which there is nothing to find, the model still claims this share of the night's mean "
            "|removal_effect|: it invents effects, or has not "
            "been trained to the end: more training.epochs or journeys (pool_nights) first.",
            fails=INVENTED,
        )


def sensitivity_checks(found: Sensitivity) -> Iterator[Check]:
    """How strong what no log shows, a cause that mediator and outcome share or a direct path, would have to be."""
    top = f"the best {TOP:.0%} of the exposures (by cluster) worth no more than the average"
    whole = f"half of the {found.uploads:,.0f} uploads that touches are said to have caused"
    act = "Only an experiment (withholdings) sees such a thing"
    confounders = {"total": (whole, found.confounder_total), "top": (top, found.confounder_top)}
    for name, (what, share) in confounders.items():
        value = found.robustness(share)
        yield Check(
            f"hidden_confounder_{name}/{found.method}",
            value,
            0.1,
            f"A hidden cause of both inspiration and uploads that explains {value:.1%} of what else moves each of them "
            f"would leave {what}{_where(name)}: {share:.0%} of the slope in the mediator would be its own. {act}; "
            "where a weak one is enough, log more intent proxies, and trust the order of effects before their size.",
            low=True,
        )
    paths = {"total": (whole, found.direct_total), "top": (top, found.direct_top)}
    for name, (what, odds) in paths.items():
        yield Check(
            f"direct_path_{name}/{found.method}",
            odds,
            0.01,
            f"Touches that, beside inspiring, lowered the odds of an upload by {1 - math.exp(-odds):.1%} each "
            f"would leave {what}{_where(name)}. {act}; see withholding_decisions for its size.",
            low=True,
        )


def _where(name: str) -> str:
    return ", if it acted on those alone" if name == "top" else ""


def subset_checks(found: Subsets) -> Iterator[Check]:
    """Whether fits of a part of the users say what all say together.

    Refuted where one departs by more than the whole sum, or orders clusters no more as all do than it would if no two
    fits had anything in common.
    """
    advice = (
        "Fits with other seeds, each without a part of the users, do not agree on the {}: too few uploads, or fits "
        "that have not settled. Pool more nights (pool_nights), or more training.epochs."
    )
    yield Check(
        f"random_subset_total/{found.method}", found.total, 0.25, advice.format("sum of the effects"), fails=1.0
    )
    ranking, chance = advice.format("order of the clusters"), found.ranking_by_chance
    yield Check(f"random_subset_ranking/{found.method}", found.ranking, 0.8, ranking, low=True, fails=chance)


def clip_check(clip: float, as_it_is: Row, clipped: Row) -> Check:
    """Two rows of auuc_by_bucket, all buckets, observational: by the night's weights, and by those clipped further."""
    ends = as_it_is["auuc_lower"], as_it_is["auuc_upper"]
    moved, half = math.nan, math.nan
    if None not in (*ends, clipped["auuc"]):
        moved, half = abs(clipped["auuc"] - as_it_is["auuc"]), (ends[1] - ends[0]) / 2
    return Check(
        f"clip_sweep/max_weight={clip:g}",
        moved / half if half else math.nan,
        1.0,
        "Clipping the weights here moves the observational AUUC by this many half-widths of its interval: it depends "
        "on few rarely shown pairs and on where they are cut. Trust the exact or randomised protocol, or lower "
        "propensity.num_buckets.",
    )


def match_checks(lifts: Sequence[Lift]) -> Iterator[Check]:
    """Whether what uploads resemble was given more than its share, however closely it must resemble. Warns, never
    fails: that uploads resemble what brought them about is an assumption of its own."""
    for found in lifts:
        half = (found.upper - found.lower) / 2
        yield Check(
            f"match_sweep/best={found.best:g}",
            found.lift,
            1 + (0.0 if math.isnan(half) else half),
            f"Touches that an upload resembles ({found.pairs:,} pairs of a similarity from {found.min_score:.3f} on) "
            f"hold {found.lift:.2f} [{found.lower:.2f}, {found.upper:.2f}] times an equal share of their journey's "
            "credit, which should be more than one at every similarity. Else do not say of a single journey which "
            "touch it was, and try model.upload_content: off, in case uploads here do not follow what was watched.",
            low=True,
        )


def counted(fits: Mapping[str, ModelFit]) -> tuple[int, int]:
    """Journeys and outcomes of the night: those of any model; 0 where there is none."""
    for fit in fits.values():
        parts = fit.training, fit.held_out
        return sum(part.journeys for part in parts), sum(part.outcomes for part in parts)
    return 0, 0


def outcome_checks(fits: Mapping[str, ModelFit]) -> Iterator[Check]:
    """How much there was to learn from."""
    if fits:
        journeys, outcomes = counted(fits)
        yield Check(
            "num_outcomes",
            float(outcomes),
            300.0,
            "Too few journeys end in an upload for stable magnitudes: raise pool_nights.",
            low=True,
        )
        yield Check(
            "base_rate",
            outcomes / journeys if journeys else float("nan"),
            0.001,
            "Uploads are rare: raise pool_nights or journeys.outcome_window_hours.",
            low=True,
        )


def rejected_checks(row_counts: Mapping[str, tuple[int, int]], max_rejected_rate: float) -> Iterator[Check]:
    """Per input table: (rejected, all rows). The night stops beyond the maximum, so half of it warns."""
    for table, (rejected, rows) in sorted(row_counts.items()):
        yield Check(
            f"rejected_rate/{table}",
            rejected / rows if rows else 0.0,
            max_rejected_rate / 2,
            f"Read the reasons in rejected_rows where source = '{table}' and mend the program that writes it.",
            fails=max_rejected_rate,
        )


def coverage_checks(partial: Mapping[str, float]) -> Iterator[Check]:
    """Methods that do not hold every touch, and were left out of the evaluation for it."""
    for method, share in sorted(partial.items()):
        yield Check(
            f"method_coverage/{method}",
            share,
            1.0,
            "This method holds only this share of the touches and is left out: run attribute with the same methods "
            "for every pooled night.",
            low=True,
        )


def withholding_checks(
    comparisons: Mapping[str, Comparison], used_share: float, methods: Collection[str] = ()
) -> Iterator[Check]:
    """The randomised experiment against each model's predictions for the same touches; methods: those of the night.

    Refuted where the interval leaves less than half of what is predicted; more than is predicted is a direct path.
    """
    yield Check(
        "withholding_rows_used",
        used_share,
        0.95,
        "Decisions left out: contradictory rows of one key, a p_withheld outside (0, 1), or an unknown user or item.",
        low=True,
    )
    for method, c in comparisons.items():
        calibrated = f"{method}{SUFFIX}"
        corrected = f" Method {calibrated} is corrected for it." if calibrated in methods else ""
        yield Check(
            f"withholding_shortfall/{method}",
            c.distance,
            0.0,
            f"Kept minus withheld departs from the predicted {c.predicted:.5f} an exposed touch by {c.shortfall:+.5f} "
            f"[{c.lower:+.5f}, {c.upper:+.5f}]; the value is that interval's distance from 0. Beyond 0, touches act on "
            f"uploads in a way the mediator does not see (or the model is wrong).{corrected}",
            fails=abs(c.predicted) / 2 if c.upper < 0 else None,
        )
        known = c.decisions_needed > 0
        enough = known and c.decisions >= c.decisions_needed
        needed = f"about {c.decisions_needed:,.0f}" if known else "more"
        yield Check(
            f"withholding_decisions/{method}",
            float(c.decisions) if known else float("nan"),
            c.decisions_needed if known else float("nan"),
            f"{'Enough' if enough else 'TOO FEW'} randomised decisions ({c.decisions:,}): {needed} are needed to see, "
            f"with a chance of {POWER:.0%}, as much missing as is predicted. Fewer correct effects only where more is "
            "missing: withhold more often or pool more nights (pool_nights).",
            low=True,
        )
