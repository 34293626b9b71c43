"""High-match (consumption, upload) pairs by content, with hard negatives from the same propensity bucket."""

from __future__ import annotations

from almmta_spark import runner, tables
from almmta_spark.pairs.build import build_pairs


def run(night: runner.Night) -> None:
    """journeys, propensities, item_clusters -> matched_pairs; notes the threshold."""
    pairs, chosen = build_pairs(
        night.read(tables.JOURNEYS),
        night.read(tables.PROPENSITIES),
        night.read(tables.ITEM_CLUSTERS),
        night.conf,
    )
    night.note(match_threshold=chosen.threshold, scored_pairs=chosen.num_scored)
    night.write(pairs, tables.MATCHED_PAIRS, meta={"threshold": chosen.threshold, "num_scored": chosen.num_scored})


if __name__ == "__main__":
    runner.main("build_pairs", run, __doc__)
