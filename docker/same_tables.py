"""Compares the published tables of a night in two local warehouses by their row counts and checksums.

python docker/same_tables.py WAREHOUSE OTHER DS; the exit status is 1 where a table differs or is in one only.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

Fingerprint = tuple[int, str]


def fingerprints(warehouse: Path, ds: str) -> dict[str, Fingerprint]:
    """(rows, checksum over rows whatever their order) of every table published for the night."""
    newest = max((warehouse / "_nights" / f"ds={ds}").glob("*.json"), default=None)
    versions = json.loads(newest.read_text())["current"]["tables"] if newest else {}
    cards = {t: json.loads((warehouse / t / f"ds={ds}" / f"version={v}.json").read_text()) for t, v in versions.items()}
    return {table: (card["rows"], card["checksum"]) for table, card in cards.items()}


def differences(one: dict[str, Fingerprint], two: dict[str, Fingerprint]) -> list[str]:
    """Names of the tables that are not the same in both."""
    return sorted(name for name in {*one, *two} if one.get(name) != two.get(name))


def main() -> None:
    one, two = (fingerprints(Path(folder), sys.argv[3]) for folder in sys.argv[1:3])
    if not one:
        sys.exit(f"no table of ds={sys.argv[3]} is published in {sys.argv[1]}: run the night there first")
    different = differences(one, two)
    for name in sorted({*one, *two}):
        rows = [f"{found[name][0]:,} rows" if name in found else "missing" for found in (one, two)]
        print(f"{'DIFFERENT' if name in different else 'same':10} {name:24} {' / '.join(dict.fromkeys(rows))}")
    if different:
        sys.exit(f"{len(different)} of {len({*one, *two})} tables differ")
    print(f"all {len(one)} tables are the same")


if __name__ == "__main__":
    main()
