"""The registered model: journeys in, deletion effects out. MLflow runs this file as code, so no pickle is stored.

Input columns: covariates (raw X), cluster (of each touch, oldest first), age_hours (of each touch), and where known
user_id: fits of an ensemble that learned from the user are then silent, as in the attribution table; and what else is
known of the touches: item_id, author_id, embedding (a list of floats a touch), without which a touch is worth what its
cluster is. Output: p_outcome and, a value a touch, removal_effect and the ends of its 95 % interval (NaN without an
ensemble). Raises ValueError for a cluster the model was not trained on or lists of unequal length.
"""

from __future__ import annotations

from typing import Any

import mlflow.models
import numpy as np
import pandas as pd
from mlflow.pyfunc.model import PythonModel


class AttributionModel(PythonModel):
    """Loads weights.pt with weights_only=True; the spec beside it standardises raw covariates as training did."""

    def load_context(self, context: Any) -> None:
        """Called by MLflow: reads the model's folder."""
        from almmta_spark.model import saved

        self.model_, self.spec_, self.info_ = saved.load(context.artifacts["model"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Called by MLflow: p_outcome and the touches' removal effects with their intervals, a row a journey."""
        from almmta_spark.inference.deletion import deletion_effects

        seen = "user_id" in model_input
        scores = deletion_effects(self.model_, self.spec_, self._columns(model_input), seen=seen)
        touches = [len(c) for c in model_input["cluster"]]
        per_touch = {
            name: [scores[name][row, :count].tolist() for row, count in enumerate(touches)]
            for name in ("removal_effect", "removal_effect_lower", "removal_effect_upper")
        }
        return pd.DataFrame({"p_outcome": scores["p_outcome"], **per_touch})

    def _columns(self, journeys: pd.DataFrame) -> dict[str, np.ndarray]:
        """The training_examples columns a model needs, from what a caller has."""
        spec, rows = self.spec_, len(journeys)
        raw_BD = np.array(journeys["covariates"].tolist(), dtype=np.float64).reshape(rows, -1)
        mean_D, scale_D = np.array(spec.covariate_mean), np.array(spec.covariate_scale)
        if raw_BD.shape[1] != len(mean_D):
            raise ValueError(f"covariates must hold {len(mean_D)} values, got {raw_BD.shape[1]}")
        standard_BD = np.where(np.isfinite(raw_BD), (raw_BD - mean_D) / scale_D, 0.0)
        index_of = {cluster: index for index, cluster in enumerate(spec.clusters)}
        cluster_BL = np.zeros((rows, spec.max_touchpoints), dtype=np.int64)
        age_BL = np.zeros((rows, spec.max_touchpoints), dtype=np.float32)
        counts = np.zeros(rows, dtype=np.int64)
        for row, (clusters, ages) in enumerate(zip(journeys["cluster"], journeys["age_hours"], strict=True)):
            if len(clusters) != len(ages) or len(clusters) > spec.max_touchpoints:
                raise ValueError(
                    f"cluster and age_hours must have one value a touch, at most {spec.max_touchpoints}, got "
                    f"{len(clusters)} and {len(ages)} in row {row}"
                )
            unknown = set(map(int, clusters)) - set(index_of)
            if unknown:
                raise ValueError(f"cluster {min(unknown)} in row {row} is none of the model's {len(index_of)} clusters")
            counts[row] = len(clusters)
            cluster_BL[row, : len(clusters)] = [index_of[int(c)] for c in clusters]
            age_BL[row, : len(ages)] = ages
        known = self._of_touches(journeys, counts)
        if "user_id" in journeys:
            known["user_id"] = journeys["user_id"].to_numpy(np.int64)
        return known | {
            "journey_id": np.arange(rows),
            "covariates": standard_BD.astype(np.float32),
            "num_touches": counts,
            "cluster_index": cluster_BL,
            "age_hours": age_BL,
            "propensity_bucket": np.zeros_like(cluster_BL),
        }

    def _of_touches(self, journeys: pd.DataFrame, counts: np.ndarray) -> dict[str, np.ndarray]:
        """item_id, author_id and touch_embedding, those that are given."""
        rows, length, width = len(journeys), self.spec_.max_touchpoints, self.spec_.embedding_length
        found: dict[str, np.ndarray] = {}
        for name in ("item_id", "author_id"):
            if name in journeys:
                found[name] = np.zeros((rows, length), dtype=np.int64)
                self._fill(found[name], name, journeys[name], counts)
        if "embedding" in journeys and self.spec_.touch_embeddings:
            content_BLE = np.zeros((rows, length, width), dtype=np.float32)
            self._fill(content_BLE, "embedding", journeys["embedding"], counts)
            found["touch_embedding"] = content_BLE.reshape(rows, -1)
        return found

    @staticmethod
    def _fill(target: np.ndarray, name: str, values: pd.Series, counts: np.ndarray) -> None:
        for row, (given, count) in enumerate(zip(values, counts, strict=True)):
            touches = np.array([np.asarray(one) for one in given], dtype=target.dtype)
            if touches.shape != (count, *target.shape[2:]):
                raise ValueError(
                    f"{name} must have one value of shape {target.shape[2:]} for each of the row's {count} touches, "
                    f"got {touches.shape} in row {row}"
                )
            target[row, :count] = touches


mlflow.models.set_model(AttributionModel())
