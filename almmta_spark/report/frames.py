"""The review's tables as pandas frames whose columns say their unit, for notebooks."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from almmta_spark.report.contents import Contents
from almmta_spark.report.numbers import short
from almmta_spark.report.trends import Point, trends
from almmta_spark.report.verdict import verdict


def checks(contents: Contents) -> pd.DataFrame:
    """Those that count, the ones that do not pass first and with their advice."""
    found = sorted(verdict(contents).checks, key=lambda c: c.verdict == "pass")
    rows = [
        (c.name, c.verdict, c.value, f"{c.sense} {short(c.threshold)}".strip(), c.advice if c.verdict != "pass" else "")
        for c in found
    ]
    return pd.DataFrame(rows, columns=["check", "verdict", "value", "limit", "what to do"]).set_index("check")


def changes(contents: Contents) -> pd.DataFrame:
    """Every figure that a night is watched by: last night, the night before, and the change as a share of that."""
    rows = {
        f"{t.label}{f' {t.unit} touches' if t.unit else ''}": (_value(t.tonight), _value(t.before), t.change)
        for t in trends(contents)
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["last night", "the night before", "change"])


def _value(point: Point | None) -> float | None:
    return None if point is None else point.value


def accounts(contents: Contents) -> pd.DataFrame:
    """Where each input table's rows went; the last column counts rows of the others again."""
    rows = pd.DataFrame(contents.tonight.accounting).T
    rows["of all, late"] = pd.Series(contents.late, dtype="Int64").reindex(rows.index)
    return rows.rename(columns=lambda name: name.replace("_", " ")).rename_axis("rows of")


def logged(metrics: Mapping[str, float], figure: str, protocol: str) -> pd.DataFrame:
    """A figure by propensity bucket as MLflow holds it, auuc/bucket_03 and its _lower and _upper, per 1,000 touches."""
    of = {name.partition("/")[2]: value for name, value in metrics.items() if name.startswith(f"{figure}/")}
    buckets = sorted(name for name in of if not name.endswith(("_lower", "_upper")))
    unit = f"{figure} per 1,000 touches, {protocol}"
    rows = {b.replace("_", " "): (of[b], of.get(f"{b}_lower"), of.get(f"{b}_upper")) for b in buckets}
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=[unit, "lower", "upper"])
    return frame.rename_axis("propensity bucket")


def truth(contents: Contents) -> pd.DataFrame:
    """Errors against the exact effects, a row a method; without rows where nobody knows them."""
    wide = contents.truth.pivot(index="method", columns="metric", values="value")
    return wide.reindex([m for m in contents.methods if m in wide.index])
