"""The rows that the reports of disturbed nights share: one a case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def rows(found: Sequence[Mapping[str, Any]], seconds: str) -> list[str]:
    """Markdown: case, when, seconds (the record's key that holds them), whether identical, lost rows, note."""
    lines = []
    for r in found:
        cells = (r["case"], r["killed_at"], f"{r[seconds]:.0f}", "yes" if r["identical"] else "NO")
        lines.append(f"| {' | '.join(cells)} | {r['lost_rows']} | {_one_line(r['note'])} |")
    return lines


def _one_line(note: str) -> str:
    return note.replace("\n", " ").replace("|", "/")
