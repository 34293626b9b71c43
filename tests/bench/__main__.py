"""Times the pipeline from raw logs to effects and writes bench.json and bench.md.

Each part runs in a process of its own, one after the other, so that peak memory is the part's own.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from almmta_spark import runner
from tests.bench import etl, learning, match, report
from tests.bench.measure import Record, alone, machine

SIZES = (1_000_000, 10_000_000)
QUICK_SIZES = (50_000,)
RANKS = (1, 2)


def main() -> None:
    args = _arguments()
    runner.set_up_logging()
    work = tempfile.mkdtemp(prefix="almmta-bench-", dir=args.work)
    try:
        measured = run(args.sizes, work, args.warm_up, args.lsh_uploads)
    finally:
        if args.keep:
            runner.log.info("kept: %s", work)
        else:
            shutil.rmtree(work, ignore_errors=True)
    paths = report.write({"command": _command(), **measured}, args.report)
    print(report.page({"command": _command(), **measured}))
    print("written: " + ", ".join(map(str, paths)), file=sys.stderr)


def run(sizes: list[int], work: str, warm_up: int, lsh_uploads: int) -> dict[str, Any]:
    """The whole report but for the command."""
    clock, facts, records = time.monotonic(), machine(), []
    etls, pairs, trained = [], [], []
    for size in sizes:
        label, name = f"{size:,} exposures", f"size-{size}"
        records.append(alone(f"simulate {label}", etl.write_logs, work, name, size))
        etls.append(alone(f"ETL {label}", etl.night, work, name, size, warm_up))
        etls[-1].update(report.etl_ratios(etls[-1]))
        pairs.append(alone(f"pairs {label}", match.compare, work, name, size, lsh_uploads))
        pairs[-1]["exposures"] = etls[-1]["exposures"]
        if size != sizes[0]:
            shutil.rmtree(Path(work, name))
    first: tuple[str, str, int] = (work, f"size-{sizes[0]}", sizes[0])
    loaded = alone("loader", learning.loading, *first)
    for ranks in RANKS:
        trained.append(alone(f"training, {ranks} rank(s)", learning.training, *first, ranks))
    effects = alone("deletion effects", learning.effects, *first)
    parts: list[Record] = [*records, *etls, *pairs, loaded, *trained, effects]
    return {
        "machine": facts,
        "seconds": round(time.monotonic() - clock, 1),
        "etl": etls,
        "growth": report.growth(etls),
        "pairs": pairs,
        "loader": loaded,
        "training": trained,
        "effects": effects,
        "peak_memory_gb": {part["part"]: part["peak_memory_gb"] for part in parts},
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--sizes", type=int, nargs="+", metavar="N", help=f"exposures, ascending (default: {' '.join(map(str, SIZES))})"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, report under runs/bench: to try it out")
    parser.add_argument("--report", metavar="DIR", help="where the report goes (default: reports)")
    parser.add_argument("--work", metavar="DIR", help="where the temporary warehouse goes (default: a temp folder)")
    parser.add_argument("--keep", action="store_true", help="keep the temporary warehouse")
    parser.add_argument("--lsh-uploads", type=int, default=10_000, metavar="N", help="LSH on at most about this many")
    args = parser.parse_args()
    args.sizes = sorted(args.sizes or (QUICK_SIZES if args.quick else SIZES))
    args.report = args.report or ("runs/bench" if args.quick else "reports")
    args.warm_up = min(50_000, args.sizes[0] // 5)
    if args.sizes[0] < 10_000:
        parser.error("--sizes must be >= 10000: fewer exposures leave too few uploads to fit and match on")
    return args


def _command() -> str:
    return " ".join(["python -m tests.bench", *sys.argv[1:]])


if __name__ == "__main__":
    main()
