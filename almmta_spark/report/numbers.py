"""Numbers as people read them: one number of decimals a column, a true minus sign, thousands apart."""

from __future__ import annotations

import math
from collections.abc import Iterable

MINUS = "\N{MINUS SIGN}"
NOTHING = "\N{EN DASH}"


def decimals(values: Iterable[float | None], digits: int = 3, most: int = 4) -> int:
    """Decimals that give the largest of the values that many significant digits; at most `most`."""
    sizes = [abs(v) for v in values if v is not None and math.isfinite(v) and v]
    return min(max(digits - 1 - math.floor(math.log10(max(sizes))), 0), most) if sizes else 0


def number(value: float | None, places: int = 0, sign: bool = False) -> str:
    """1,234.5; NOTHING where there is no value. sign: a plus before what is above 0."""
    if value is None or not math.isfinite(value):
        return NOTHING
    text = f"{abs(value):,.{places}f}"
    if float(text.replace(",", "")) == 0:
        return text
    return (MINUS if value < 0 else "+" if sign else "") + text


def interval(lower: float | None, upper: float | None, places: int = 0) -> str:
    """1.0 to 2.5; empty where there is none."""
    if lower is None or upper is None or not (math.isfinite(lower) and math.isfinite(upper)):
        return ""
    return f"{number(lower, places)} to {number(upper, places)}"


def percent(share: float | None, places: int = 0, sign: bool = False) -> str:
    """A share as per cent, with a sign where it is asked for."""
    return NOTHING if share is None or not math.isfinite(share) else f"{number(100 * share, places, sign)} %"


def short(value: float | None) -> str:
    """A figure of unknown size: three significant digits, or whole thousands."""
    return number(value, decimals([value])) if value is not None else NOTHING
