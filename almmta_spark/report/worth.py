"""What further exposures are worth: exposure_efficiency as a sentence, curves and a table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from almmta_spark.evaluation.auuc import TRUTH_METHOD
from almmta_spark.evaluation.efficiency import POPULARITY, PRESENT
from almmta_spark.report import charts, numbers
from almmta_spark.report.contents import Contents
from almmta_spark.report.sections import Cell, cell, point

LEVELS = {"item": "items", "author": "authors", "cluster": "clusters"}
COMPARED = ("last_touch", POPULARITY)
"""Rankings that are drawn beside the night's own; items' table has all of them."""
SHARES = (0.02, 0.1, 0.3)
"""Of the table's columns; the middle one is what the sentence is about."""
SHARE = SHARES[1]
_WORDS = {TRUTH_METHOD: "exact effects"}


def worth(contents: Contents) -> dict[str, Any]:
    """Levels with their curves and rows; no levels where the night has no such table."""
    of = contents.efficiency[contents.efficiency.ranking != PRESENT]
    own = of[of.ranking == contents.method]
    levels = [level for level in LEVELS if (own.level == level).any()]
    return {
        "sentences": [_sentence(of[of.level == level], level, contents.method) for level in levels[:1]],
        "legend": [(charts.mark(i), _name(r)) for i, r in enumerate(_drawn(of, contents.method))],
        "levels": [_level(of[of.level == level], level, contents.method) for level in levels],
        "shares": [numbers.percent(share) for share in SHARES],
        "share": numbers.percent(SHARE),
        "exact": bool(of.true_extra_uploads.notna().any()),
        "cross_fitted": bool(own.cross_fitted.all()),
    }


def _sentence(of: pd.DataFrame, level: str, own: str) -> str:
    """What the night's own ranking makes of SHARE of the exposures, and what others lack of that."""
    rows = _at(of, SHARE)
    if own not in rows.index:
        return ""
    than = [f", {_with_ends(rows.loc[r], 'behind_model')} more than by {_name(r)}" for r in COMPARED if r in rows.index]
    more = _with_ends(rows.loc[own], "extra_uploads")
    return (
        f"A further {numbers.percent(SHARE)} of the night's exposures ({numbers.number(rows.exposures[own])}), given "
        f"to the {LEVELS[level]} with the largest effects, would cause {more} uploads more than under the present "
        f"policy{''.join(than)}."
    )


def _with_ends(row: pd.Series, name: str) -> str:
    found = point(row, name, 1)
    assert found is not None
    places = numbers.decimals([found.value])
    ends = numbers.interval(found.lower, found.upper, places)
    return numbers.number(found.value, places) + (f" ({ends})" if ends else "")


def _level(of: pd.DataFrame, level: str, own: str) -> dict[str, Any]:
    curves = [_curve(of, ranking) for ranking in _drawn(of, own)]
    told = ", ".join(f"{_name(r)} {numbers.number(v)}" for r, v in _at(of, SHARE).extra_uploads.items())
    said = f"Extra uploads against the share of exposures given to the first {LEVELS[level]}; at {SHARE:.0%}: {told}"
    tabled = of if level == next(iter(LEVELS)) else of[of.ranking.isin(_drawn(of, own))]
    return {"name": LEVELS[level], "drawing": charts.curves(curves, said), "rows": _rows(tabled, own)}


def _drawn(of: pd.DataFrame, own: str) -> list[str]:
    return [ranking for ranking in dict.fromkeys((own, *COMPARED)) if (of.ranking == ranking).any()]


def _curve(of: pd.DataFrame, ranking: str) -> charts.Curve:
    """From no exposures, which cause nothing, to the largest share."""
    rows = of[of.ranking == ranking].sort_values("share")
    found = [point(row, "extra_uploads", 1) for _, row in rows.iterrows()]
    return [(0.0, charts.Point(0.0, 0.0, 0.0)), *((x, p) for x, p in zip(rows.share, found, strict=True) if p)]


def _rows(of: pd.DataFrame, own: str) -> list[dict[str, Any]]:
    """A row a ranking: the own first, then what makes more of SHARE first; each column with a scale of its own."""
    at_share = _at(of, SHARE).sort_values("extra_uploads", ascending=False)
    order = sorted(at_share.index, key=lambda ranking: (ranking == TRUTH_METHOD, ranking != own))
    columns = [_column(_at(of, share), "extra_uploads", own) for share in SHARES]
    behind = _column(at_share.drop(index=own, errors="ignore"), "behind_model", own)
    exact = numbers.decimals(at_share.true_extra_uploads)
    return [
        {
            "name": _name(ranking),
            "own": ranking == own,
            "cells": [column.get(ranking) for column in columns],
            "behind": behind.get(ranking),
            "exact": numbers.number(at_share.true_extra_uploads[ranking], exact),
        }
        for ranking in order
    ]


def _column(rows: pd.DataFrame, name: str, own: str) -> dict[str, Cell]:
    points = {str(r): found for r, row in rows.iterrows() if (found := point(row, name, 1)) is not None}
    ends = [v for p in points.values() for v in (p.value, p.lower, p.upper)]
    on, places = charts.scale(ends, 132), numbers.decimals([p.value for p in points.values()])
    return {r: cell(p, on, places, 0 if r == own else 1) for r, p in points.items()}


def _at(of: pd.DataFrame, share: float) -> pd.DataFrame:
    """The rows of one share, by ranking."""
    return of[np.isclose(of.share, share)].set_index("ranking")


def _name(ranking: str) -> str:
    return _WORDS.get(ranking, ranking)
