"""What each section of the page shows, as words, numbers and drawings that its template lays out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import pandas as pd
from markupsafe import Markup

from almmta_spark.evaluation.diagnostics import FAIL
from almmta_spark.evaluation.grouped import NOT_CAUSAL
from almmta_spark.report import charts, numbers
from almmta_spark.report.contents import ALL_BUCKETS, Contents, Extremes, Journey
from almmta_spark.report.trends import Moved, Point, Trend, trends
from almmta_spark.report.verdict import Verdict
from almmta_spark.tables import PROTOCOLS

GROUPS = {"cluster": "Clusters", "author_id": "Authors", "item_id": "Items"}
PROTOCOL_WORDS = {
    "exact": "against the exact effects, which only the simulator knows.",
    "randomised": "by randomised decisions to withhold a touch.",
    "observational": f"exposed against unexposed journeys, weighted. {NOT_CAUSAL}",
    "observational_doubly_robust": f"the same contrast of what covariates do not explain. {NOT_CAUSAL}",
}
TRUTH_COLUMNS = {
    "within_journey_spearman": "ranking within a journey (Spearman)",
    "relative_rmse": "relative RMSE",
    "magnitude_ratio": "magnitude ratio",
    "interval_coverage": "intervals that hold the truth",
}
_UNKNOWN_OVERLAP = dict.fromkeys(("effective_sample_share", "propensity_calibration"), numbers.NOTHING)


@dataclass(frozen=True)
class Cell:
    """A figure with its interval, written and drawn."""

    text: str
    interval: str
    bar: Markup


def headline_figures(contents: Contents, found: Verdict) -> list[dict[str, str]]:
    """The few numbers that stand beside the verdict: label, value, what it is to be seen against."""
    by_label = {t.label: t for t in trends(contents)}
    caused, uploads = by_label["Uploads caused by touches"], by_label["Uploads that followed"]
    area = next(t for t in by_label.values() if t.label.startswith("AUUC"))
    summed = all(a.verdict != FAIL for a in found.areas if a.name == "size")
    rows = [
        (by_label["Touches attributed"], ""),
        (uploads, "in the outcome window"),
        (caused, _share_of(caused, uploads) if summed else "not to be relied on, see above"),
        (by_label["Effect of a touch"], "uploads per 1,000 touches"),
        (area, _interval_of(area)),
    ]
    return [{"label": t.label, "value": _value(t.tonight, t), "note": note or t.unit} for t, note in rows]


def _share_of(part: Trend, whole: Trend) -> str:
    if part.tonight is None or whole.tonight is None or not whole.tonight.value:
        return ""
    return f"{numbers.percent(part.tonight.value / whole.tonight.value)} of the uploads"


def _interval_of(trend: Trend) -> str:
    point = trend.tonight
    if point is None:
        return "not measured"
    places = numbers.decimals([point.value, point.lower, point.upper])
    return f"{numbers.interval(point.lower, point.upper, places)} {trend.unit}".strip()


def _places(trend: Trend) -> int:
    """Decimals that all of a trend's figures share."""
    return 0 if trend.counted else numbers.decimals([p.value for p in trend.points if p is not None])


def _value(point: Point | None, trend: Trend) -> str:
    return numbers.number(point.value if point else None, _places(trend))


def trend_rows(contents: Contents) -> list[dict[str, Any]]:
    """What was followed over the last nights: a row a figure, with its line drawn."""
    return [_trend_row(t, contents) for t in trends(contents)]


def _trend_row(trend: Trend, contents: Contents) -> dict[str, Any]:
    days = [date.fromisoformat(night.ds).toordinal() for night in contents.nights]
    low, high = (min(trend.earlier), max(trend.earlier)) if trend.earlier else (None, None)
    return {
        "label": trend.label,
        "unit": trend.unit,
        "tonight": _value(trend.tonight, trend),
        "before": _value(trend.before, trend),
        "change": numbers.percent(trend.change, 1, sign=True),
        "range": numbers.interval(low, high, _places(trend)),
        "unusual": trend.unusual,
        "line": charts.sparkline(trend.points, days),
    }


def moved_rows(moved: Sequence[Moved]) -> list[dict[str, Any]]:
    """Clusters whose effect moved most since last night, both nights on one scale."""
    points = [p for m in moved for p in (m.before, m.now)]
    on = charts.scale([v for p in points for v in (p.value, p.lower, p.upper)], 200)
    places = numbers.decimals([p.value for p in points])
    return [
        {"cluster": m.cluster, "before": cell(m.before, on, places, 1), "now": cell(m.now, on, places)} for m in moved
    ]


def area_tables(contents: Contents) -> list[dict[str, Any]]:
    """One a protocol that measures anything."""
    return [_area_table(contents, protocol) for protocol in PROTOCOLS if _measured(contents, protocol)]


def _measured(contents: Contents, protocol: str) -> bool:
    auuc = contents.tonight.auuc
    return bool(auuc[auuc.protocol == protocol].auuc.notna().any())


def _area_table(contents: Contents, protocol: str) -> dict[str, Any]:
    """AUUC per 1,000 touches, a row a method and a column a bucket; a column has one scale, methods differ in shape."""
    auuc = contents.tonight.auuc
    auuc = auuc[auuc.protocol == protocol]
    buckets = sorted(auuc.propensity_bucket.unique())
    columns = {b: auuc[auuc.propensity_bucket == b].set_index("method") for b in buckets}
    series = {m: i for i, m in enumerate(contents.methods)}
    cells = {b: _column_of_areas(of, series, 132) for b, of in columns.items()}
    methods = [m for m in series if (auuc.method == m).any()]
    return {
        "protocol": protocol,
        "words": PROTOCOL_WORDS[protocol],
        "columns": [(_bucket(b), int(columns[b].n.max())) for b in buckets],
        "rows": [(m, m == contents.method, [cells[b].get(m) for b in buckets]) for m in methods],
        "reasons": _undefined(auuc),
    }


def _column_of_areas(of: pd.DataFrame, series: Mapping[str, int], width: float) -> dict[str, Cell]:
    points = {str(m): point(row, "auuc", 1000) for m, row in of.iterrows()}
    known = {m: p for m, p in points.items() if p is not None}
    ends = [v for p in known.values() for v in (p.value, p.lower, p.upper)]
    on, places = charts.scale(ends, width, zero=False), numbers.decimals(ends)
    return {m: cell(p, on, places, series[m]) for m, p in known.items()}


def _undefined(auuc: pd.DataFrame) -> list[str]:
    """Why figures are missing, each reason with its buckets."""
    missing = auuc[auuc.auuc.isna() & auuc.undefined_reason.notna()]
    buckets = missing.groupby("undefined_reason").propensity_bucket.unique()
    return [f"{', '.join(map(_bucket, sorted(of)))} ({reason})" for reason, of in buckets.items()]


def _bucket(bucket: int) -> str:
    return "all" if bucket == ALL_BUCKETS else f"bucket {bucket}"


def groups(contents: Contents) -> list[dict[str, Any]]:
    """Top and bottom of each roll-up."""
    return [_group(key, of) for key, of in contents.extremes.items()]


def _group(key: str, of: Extremes) -> dict[str, Any]:
    """The two ends of a roll-up, on one scale, per 1,000 touches."""
    both = pd.concat([of.top, of.bottom])
    points = [point(row, "removal_effect_mean", 1000) for _, row in both.iterrows()]
    ends = [v for p in points if p is not None for v in (p.value, p.lower, p.upper)]
    on, places = charts.scale(ends, 120), numbers.decimals(ends)
    sums = numbers.decimals(both.removal_effect_sum)
    return {
        "name": GROUPS[key],
        "key": key.removesuffix("_id"),
        "tables": [
            (title, [_group_row(row, key, on, places, sums) for _, row in rows.iterrows()])
            for title, rows in (("Cause most, a touch", of.top), ("Cause least, a touch", of.bottom))
        ],
    }


def _group_row(row: pd.Series, key: str, on: charts.Scale, places: int, sums: int) -> dict[str, Any]:
    mean = point(row, "removal_effect_mean", 1000)
    return {
        "key": row[key],
        "exposures": numbers.number(row.exposures),
        "sum": numbers.number(row.removal_effect_sum, sums),
        "mean": cell(mean, on, places),
    }


def point(row: pd.Series, name: str, times: float) -> Point | None:
    """A row's figure with its ends, so many times what they are; None where it is null."""
    if pd.isna(row[name]):
        return None
    value, lower, upper = (
        None if pd.isna(row[n]) else times * float(row[n]) for n in (name, f"{name}_lower", f"{name}_upper")
    )
    assert value is not None
    return Point(value, lower, upper)


def cell(point: Point | None, on: charts.Scale, places: int, series: int = 0) -> Cell:
    """A figure written with so many decimals and drawn on a scale, in the colour and shape of its series."""
    text = numbers.number(point.value, places) if point else numbers.NOTHING
    ends = numbers.interval(point.lower, point.upper, places) if point else ""
    return Cell(text, ends, charts.interval_bar(point, on, series))


def overlap(found: Verdict) -> list[dict[str, str]]:
    """What the checks say of each bucket's overlap."""
    by_bucket: dict[str, dict[str, str]] = {}
    for check in found.checks:
        if check.about.startswith("bucket="):
            bucket = by_bucket.setdefault(check.about.removeprefix("bucket="), dict(_UNKNOWN_OVERLAP))
            bucket[check.kind] = numbers.percent(check.value)
    return [{"bucket": b, **figures} for b, figures in sorted(by_bucket.items(), key=lambda item: int(item[0]))]


def accounts(contents: Contents) -> dict[str, Any]:
    """Where every input table's rows went; a column that is 0 throughout stays, so that it can be seen to be."""
    accounting = contents.tonight.accounting
    names = list(dict.fromkeys(name for counts in accounting.values() for name in counts))
    return {
        "columns": [name.replace("_", " ") for name in names],
        "rows": [
            (table, [numbers.number(counts.get(n)) for n in names], numbers.number(contents.late.get(table)))
            for table, counts in accounting.items()
        ],
        "reasons": [
            (table, [(reason.replace("_", " "), numbers.number(n)) for reason, n in sorted(of.items())])
            for table, of in sorted(contents.rejection_reasons.items())
        ],
    }


def journeys(contents: Contents) -> list[dict[str, Any]]:
    """The drawn journeys, each with the rule it was chosen by."""
    return [_journey(rule, journey, contents.lookback_hours) for rule, journey in contents.journeys]


def _journey(rule: str, journey: Journey, hours: float) -> dict[str, Any]:
    points = [charts.in_points(t) for t in journey.touches]
    places = numbers.decimals([p.value for p in points], 2)
    rows = [
        {
            "age": f"{numbers.number(t.age_hours, 1)} h",
            "cluster": t.cluster,
            "effect": numbers.number(p.value, places, sign=True),
            "interval": numbers.interval(p.lower, p.upper, places),
        }
        for t, p in zip(journey.touches, points, strict=True)
    ]
    told = "; ".join(f"{r['age']} before, cluster {r['cluster']}: {r['effect']} points" for r in rows)
    return {
        "rule": rule,
        "uploaded": journey.uploaded,
        "chance": numbers.percent(journey.p_outcome, 1),
        "sum": numbers.number(100 * journey.effect, places, sign=True),
        "rows": rows,
        "drawing": charts.timeline(journey, hours, f"Time line of {len(rows)} touches. {told}"),
    }


def truth(contents: Contents) -> dict[str, Any]:
    """Against the exact effects, a row a method; no rows where nobody knows them."""
    of = contents.truth
    wide = of[of.metric.isin(TRUTH_COLUMNS)].pivot(index="method", columns="metric", values="value")
    names = [name for name in TRUTH_COLUMNS if name in wide]
    ordered = [m for m in contents.methods if m in wide.index]
    return {
        "columns": [TRUTH_COLUMNS[name] for name in names],
        "rows": [(m, m == contents.method, [numbers.number(wide.loc[m, n], 3) for n in names]) for m in ordered],
    }
