"""The training table: fixed-length numeric rows of the pooled nights, in equal row groups for the loader."""

from __future__ import annotations

import dataclasses

from almmta_spark import runner, tables
from almmta_spark.examples.build import build_examples
from almmta_spark.examples.layout import WRITE_OPTIONS
from almmta_spark.examples.spec import build_spec


def run(night: runner.Night) -> None:
    """The pooled nights' journeys, propensities, matched_pairs and the night's item_clusters -> training_examples."""
    pooled = (tables.JOURNEYS, tables.PROPENSITIES, tables.MATCHED_PAIRS)
    nights = night.pooled_nights(*pooled)
    journeys, propensities, pairs = (night.read_nights(table, nights) for table in pooled)
    items = night.read(tables.ITEM_CLUSTERS)
    spec = build_spec(
        journeys, propensities, items, night.meta(tables.ACCEPTED_UPLOADS)["embedding_length"], night.conf
    )
    examples = build_examples(journeys, propensities, pairs, items, spec, night.conf)
    night.write(examples, tables.TRAINING_EXAMPLES, meta={"spec": dataclasses.asdict(spec)}, options=WRITE_OPTIONS)
    night.note(base_rate=spec.base_rate, num_training=spec.num_training, num_validation=spec.num_validation)


if __name__ == "__main__":
    runner.main("build_examples", run, __doc__)
