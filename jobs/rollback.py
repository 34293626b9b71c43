"""Back to an earlier edition of a night: all its tables at once, or one of them. Nothing is computed or deleted.

python -m jobs.rollback --conf conf/prod.yaml --ds 2026-01-31              # the edition before
python -m jobs.rollback ... --ds 2026-01-31 --to 5                         # edition 5, which may be a later one
python -m jobs.rollback ... --ds 2026-01-31 --table attribution            # one table's version before

It holds until the night is run again. Models, figures and MLflow stay as they are.
"""

from __future__ import annotations

from almmta_spark import night_log, runner, spark_tables, tables
from almmta_spark.night_log import Claim, ClaimLost


def main() -> None:
    """Makes an earlier edition of a night current: --help says which."""
    runner.set_up_logging()
    parser = runner.parser(__doc__)
    parser.add_argument(
        "--table", default="", choices=[t.name for t in tables.OUTPUTS], metavar="NAME", help="one table"
    )
    parser.add_argument("--to", type=int, default=0, metavar="EDITION", help="its number (default: the one before)")
    args = parser.parse_args()
    try:
        conf = runner.settings(args)
        spark_tables.index_ts(args.ds)
        spark = runner.storage_session(conf, "rollback")
        with Claim(spark, conf, args.ds) as claim:
            claim.roll_back(args.table, args.to)
        show(night_log.latest(spark, conf, args.ds))
    except (ValueError, ClaimLost) as error:
        runner.fail(error)


def show(entry: night_log.Entry) -> None:
    """Prints the night's editions, the current one first."""
    print(f"edition {entry.current.number}: current")
    for edition in entry.kept:
        changed = [n for n, v in sorted(entry.current.tables.items()) if edition.tables.get(n) != v]
        print(
            f"edition {edition.number}: replaced {edition.replaced[:19]}, other {', '.join(changed) or 'tables none'}"
        )


if __name__ == "__main__":
    main()
