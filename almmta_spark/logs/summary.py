"""Small facts of a night that later stages need; kept in the meta of `accepted_uploads`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from almmta_spark.logs.accounting import Account


@dataclass(frozen=True)
class IngestSummary:
    """What ingest found, for the stages after it: kept with the table events."""

    accounts: Mapping[str, Account]
    """By input table; `used` is what ingest accepted."""
    embedding_length: int
    """Of items and uploads alike; 0: the night has no contents."""
    covariate_length: int
    clusters: str
    """given, fitted (from the embeddings) or nearest (null for some items: nearest centroid)."""
    signal_rows: Mapping[str, int]
    """Accepted rows of each signal name."""
    unknown_signals: tuple[str, ...]
    """Names that conf does not know: taken as outcome proxies."""
    broadcast_items: bool = True
    """Whether items are few enough to broadcast (ingest.broadcast_rows)."""
    event_days: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Fingerprint of the version of each day, by source and day."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {
            **plain,
            "accounts": {name: counts.to_dict() for name, counts in self.accounts.items()},
            "unknown_signals": list(self.unknown_signals),
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> IngestSummary:
        """The summary that to_dict wrote."""
        accounts = {name: Account.from_dict(counts) for name, counts in raw["accounts"].items()}
        return cls(**{**raw, "accounts": accounts, "unknown_signals": tuple(raw["unknown_signals"])})
