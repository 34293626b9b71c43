"""Rows in = used + rejected + deduplicated + outside the window + capped + of users without a journey, per table."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from almmta_spark.logs.rules import OUTSIDE_WINDOW, USED


@dataclass(frozen=True)
class Account:
    """Where the rows of one input table went."""

    rows_in: int
    used: int
    """After ingest: accepted so far. After the journeys: what a journey, or a later stage, works with."""
    rejected: Mapping[str, int] = field(default_factory=dict)
    """Rows by reason."""
    deduplicated: int = 0
    outside_window: int = 0
    capped: int = 0
    without_journey: int = 0

    @property
    def num_rejected(self) -> int:
        return sum(self.rejected.values())

    def check(self, table: str) -> Account:
        """Itself; AssertionError where the rows do not add up."""
        parts = (
            self.used,
            self.num_rejected,
            self.deduplicated,
            self.outside_window,
            self.capped,
            self.without_journey,
        )
        assert sum(parts) == self.rows_in and min(parts) >= 0, f"rows of {table} do not add up: {self}"
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, `rejected` with its total and its reasons."""
        counts = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {**counts, "rejected": self.num_rejected, "reasons": dict(sorted(self.rejected.items()))}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Account:
        """The account that to_dict wrote."""
        return cls(**{**{k: v for k, v in raw.items() if k != "reasons"}, "rejected": dict(raw["reasons"])})


def account(statuses: Mapping[str, int], deduplicated: int = 0, conflicting: int = 0) -> Account:
    """From the rows of each status, and the repeated and contradictory ones among those with status USED."""
    rejected = {status: n for status, n in statuses.items() if status not in (USED, OUTSIDE_WINDOW) and n}
    if conflicting:
        rejected[CONFLICTING] = conflicting
    return Account(
        rows_in=sum(statuses.values()),
        used=statuses.get(USED, 0) - deduplicated - conflicting,
        rejected=rejected,
        deduplicated=deduplicated,
        outside_window=statuses.get(OUTSIDE_WINDOW, 0),
    )


CONFLICTING = "conflicting_duplicates"
"""Rows of one key that contradict each other: nobody can say which is right, so none is used."""


def refuse_too_many_rejections(accounts: Mapping[str, Account], max_rate: float) -> None:
    """ValueError where a table's rejected share exceeds max_rate, with the reasons that account for most of it."""
    for table, counts in accounts.items():
        if counts.num_rejected <= max_rate * counts.rows_in:
            continue
        top = sorted(counts.rejected.items(), key=lambda item: (-item[1], item[0]))[:3]
        raise ValueError(
            f"table {table}: {counts.num_rejected} of {counts.rows_in} rows rejected "
            f"({counts.num_rejected / counts.rows_in:.1%}), ingest.max_rejected_rate allows {max_rate:.1%}; "
            f"most of them {', '.join(f'{reason} ({n})' for reason, n in top)}: repair the table, or raise the rate if "
            "these rows are expected"
        )
