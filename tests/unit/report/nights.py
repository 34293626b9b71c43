"""Hand-made contents of a review: figures that a test can foresee."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from almmta_spark import tables
from almmta_spark.report.contents import Contents, Extremes, Gate, Journey, NightFigures, Touch

DS = "2026-01-15"
OWN = "latent"
COUNTS = {"rows_in": 1200, "used": 1000, "rejected": 7, "deduplicated": 93, "outside_window": 100}


def frame(table: tables.Table, rows: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    """Rows with the columns given, the others null."""
    return pd.DataFrame(
        [{name: row.get(name) for name in table.column_names} for row in rows], columns=table.column_names
    )


def auuc(method=OWN, protocol="randomised", bucket=-1, qini=(0.003, 0.001, 0.005), area=(0.006, 0.004, 0.008), **more):
    row = {"propensity_bucket": bucket, "method": method, "protocol": protocol, "n": 500, "num_groups": 9, **more}
    for name, (value, lower, upper) in (("qini", qini), ("auuc", area)):
        row |= {name: value, f"{name}_lower": lower, f"{name}_upper": upper}
    return row


def check(name, verdict="pass", value=0.5, threshold=0.3, advice="Mend it. Then look again."):
    return {"name": name, "value": value, "threshold": threshold, "verdict": verdict, "advice": advice}


CHECKS = (
    check("num_outcomes", value=900.0, threshold=300.0),
    check("withholding_decisions/latent", value=9000.0, threshold=8000.0),
    check("effective_sample_share/bucket=0"),
    check("rejected_rate/exposures", value=0.001, threshold=0.025),
    check("overfit/latent", value=0.01, threshold=0.1),
    check("overfit/backdoor", value=0.01, threshold=0.1),
)


def cluster(key, mean, half=0.001, exposures=1000):
    return {
        "cluster": key,
        "method": OWN,
        "exposures": exposures,
        "removal_effect_sum": mean * exposures,
        "removal_effect_mean": mean,
        "removal_effect_mean_lower": None if half is None else mean - half,
        "removal_effect_mean_upper": None if half is None else mean + half,
        "model_version": "0123456789abcdef",
    }


CLUSTERS = (cluster(3, 0.010), cluster(5, 0.004), cluster(8, 0.0))


def night(ds=DS, areas=None, checks=CHECKS, clusters=CLUSTERS, accounting=None):
    areas = [auuc(), auuc("backdoor"), auuc(bucket=0), auuc("backdoor", bucket=0)] if areas is None else areas
    counts = {name: dict(COUNTS) for name in ("exposures", "uploads", "users")} if accounting is None else accounting
    return NightFigures(
        ds,
        frame(tables.AUUC_BY_BUCKET, areas),
        frame(tables.DIAGNOSTICS, checks),
        frame(tables.ATTRIBUTION_BY_CLUSTER, clusters),
        counts,
    )


def journey(*effects, uploaded=True, p_outcome=0.05):
    """Touches two hours apart, the newest an hour before the night, each with an interval of a point."""
    ages = [1.0 + 2 * k for k in reversed(range(len(effects)))]
    touches = [Touch(age, 3 + k, e, e - 0.005, e + 0.005) for k, (age, e) in enumerate(zip(ages, effects, strict=True))]
    return Journey(uploaded, p_outcome, tuple(touches))


def efficiency(level="item", methods=(OWN, "last_touch", "popularity"), exact=True, intervals=True):
    """Curves that rise as the root of the share; each ranking behind the first by 10 uploads more than the last."""
    rows = []
    for place, ranking in enumerate((*methods, "present_policy")):
        for share in (0.01, 0.02, 0.1, 0.3, 0.75):
            worth = 0.0 if ranking == "present_policy" else (100 - 10 * place) * share**0.5
            row = {"level": level, "ranking": ranking, "share": share, "exposures": 5000 * share, "num_groups": 3}
            row |= {
                "uploads": 14 * share + worth,
                "cross_fitted": intervals,
                "true_extra_uploads": worth if exact else None,
            }
            for name, value in (("extra_uploads", worth), ("behind_model", 100 * share**0.5 - worth)):
                ends = (value - 1, value + 1) if intervals else (None, None)
                row |= {name: value, f"{name}_lower": ends[0], f"{name}_upper": ends[1]}
            rows.append(row)
    return rows


def contents(*nights, **changes):
    nights = nights or (night(),)
    rows = frame(tables.ATTRIBUTION_BY_CLUSTER, CLUSTERS)
    plain = {
        "env": "test",
        "method": OWN,
        "model_version": "0123456789abcdef",
        "gate": Gate((), DS, "2026-01-14"),
        "level": 0.95,
        "lookback_hours": 24.0,
        "nights": tuple(nights),
        "extremes": {"cluster": Extremes(rows.head(2), rows.tail(1))},
        "efficiency": frame(tables.EXPOSURE_EFFICIENCY, efficiency()),
        "truth": frame(tables.TRUTH_METRICS, []),
        "rejection_reasons": {"exposures": {"unknown_item": 7}},
        "late": {"exposures": 0, "uploads": 0, "users": 0},
        "warnings": (),
        "journeys": (("A rule", journey(0.02, 0.01, -0.004)),),
        "overlap_picture": b"\x89PNG",
    }
    return Contents(**{**plain, **changes})
