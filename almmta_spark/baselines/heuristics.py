"""first_touch, last_touch, linear, time_decay, position_based: fixed rules that hand the realised outcome out over the
journey's touches (Shao & Li 2011, section 1, has them all as what the trade uses).

removal_effect = share x outcome is what these methods claim: the touch caused that part of the upload, and touches of
journeys without an upload caused nothing. They see neither covariates nor confounders.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as F

from almmta_spark.baselines import rows

END_SHARE = 0.4
"""position_based: of the first and of the last touch; those between share what is left (40-20-40)."""


@dataclass(frozen=True)
class Place:
    """Where a touch stands in its journey, whose touches are oldest first."""

    index: Column
    num_touches: Column
    age_hours: Column
    newest_age: Column
    """Age of the journey's last touch."""


def _position_based(place: Place, half_life_hours: float) -> Column:
    at_an_end = (place.index == 0) | (place.index == place.num_touches - 1)
    between = F.lit(1 - 2 * END_SHARE) / F.greatest(place.num_touches - 2, F.lit(1))
    return F.when(at_an_end, F.lit(END_SHARE)).otherwise(between)  # one touch or two: scaled to sum to 1 like all


Weight = Callable[[Place, float], Column]
"""(place, half_life_hours) -> weight >= 0; weights are scaled to sum to 1 over the journey."""

WEIGHTS: dict[str, Weight] = {
    "first_touch": lambda place, half_life: (place.index == 0).cast("double"),
    "last_touch": lambda place, half_life: (place.index == place.num_touches - 1).cast("double"),
    "linear": lambda place, half_life: F.lit(1.0),
    "time_decay": lambda place, half_life: F.pow(F.lit(2.0), (place.newest_age - place.age_hours) / F.lit(half_life)),
    "position_based": _position_based,
}


def claim(method: str, half_life_hours: float, worth: Column | None = None) -> Column:
    """The rule's share of the outcome for each touch of the journey in `touches`. Cost: per row.

    worth: what is shared out in the outcome's place, such as the journey's number of uploads or their value.
    """
    shared = F.col("outcome") if worth is None else worth
    parameters = {"half_life_hours": half_life_hours} if method == "time_decay" else {}
    touches, count = F.col("touches"), F.size("touches")
    newest_age = F.get(touches, count - 1)["age_hours"]

    def weight(touch: Column, index: Column) -> Column:
        return WEIGHTS[method](Place(index, count, touch["age_hours"], newest_age), half_life_hours)

    weights = F.transform(touches, weight)
    total = F.aggregate(weights, F.lit(0.0), lambda sum_, value: sum_ + value)
    return rows.claim(method, parameters, F.transform(weights, lambda value: value / total * shared))
