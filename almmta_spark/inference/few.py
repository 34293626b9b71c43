"""A saved model's effects on journeys few enough for the driver: what studies compare many fits on.

B journeys, L touchpoints, N touches of all journeys, journeys ascending and each one's touches oldest first.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from almmta_spark.example_spec import ExampleSpec
from almmta_spark.examples.features import features
from almmta_spark.inference import udf
from almmta_spark.model import saved

_ROWS = 4096


@dataclass(frozen=True)
class FewJourneys:
    """Rows of journeys and propensities, and the items, of one night. Columns are collected once for each spec."""

    journeys: DataFrame
    propensities: DataFrame
    items: DataFrame
    _columns: dict[str, dict[str, NDArray]] = field(default_factory=dict)

    def effects(self, folder: str) -> NDArray[np.float64]:
        """removal_effect_N of the model in a local folder, by the code that writes the attribution table."""
        from almmta_spark.inference.deletion import deletion_effects

        model, spec, _ = saved.load(folder)
        columns = self._columns_for(spec)
        parts = []
        for start in range(0, len(columns["journey_id"]), _ROWS):
            batch = {name: values[start : start + _ROWS] for name, values in columns.items()}
            effect_BL = deletion_effects(model, spec, batch, seen=True)["removal_effect"]
            parts.append(effect_BL[np.arange(effect_BL.shape[1]) < batch["num_touches"][:, None]])
        return np.concatenate(parts)

    def _columns_for(self, spec: ExampleSpec) -> dict[str, NDArray]:
        key = spec.to_json()
        if key not in self._columns:
            found = udf.columns(features(self.journeys, self.propensities, self.items, spec).toArrow())
            order = np.argsort(found["journey_id"], kind="stable")
            self._columns[key] = {name: values[order] for name, values in found.items()}
        return self._columns[key]
