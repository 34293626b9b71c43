"""A saved latent model with weights drawn at random, and the features of a few hundred journeys."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from almmta_spark.config import EnsembleConfig, ModelConfig
from almmta_spark.example_spec import ExampleSpec, Signal
from almmta_spark.inference.udf import FittedModel

SPEC = ExampleSpec(
    clusters=(-3, 5, 40),
    max_touchpoints=4,
    outcome_proxies=(Signal("draft", "count"), Signal("open", "binary")),
    intent_proxies=(),
    covariate_mean=(1.0, 0.0),
    covariate_scale=(2.0, 1.0),
    embedding_length=0,
    num_hard_negatives=0,
    touch_embeddings=False,
    num_buckets=2,
    num_training=100,
    num_validation=10,
    base_rate=0.1,
)


@dataclass(frozen=True)
class Saved:
    folder: Path
    version: str
    spec: ExampleSpec = SPEC

    @property
    def fitted(self) -> FittedModel:
        files = {name: (self.folder / name).read_bytes() for name in ("model.json", "weights.pt")}
        return FittedModel("latent", self.version, self.spec, files, {})


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    torch = pytest.importorskip("torch")
    from almmta_spark.model import build, saved

    conf = ModelConfig(signed=True, quadrature_nodes=5)
    model, drawn = build("latent", SPEC, conf), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=drawn) * 0.4)
        model.encoder.strength_K[0] = -3.0  # journeys of the first cluster alone have negative effects throughout
    folder = tmp_path_factory.mktemp("latent")
    return Saved(folder, saved.save(model, SPEC, conf, "latent", folder, {}))


@pytest.fixture(scope="session")
def saved_ensemble(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """Six members, weights drawn at random."""
    torch = pytest.importorskip("torch")
    from almmta_spark.model import saved
    from almmta_spark.model.ensemble import Ensemble

    plan = EnsembleConfig(variants=("latent",), folds=3, repeats=2)
    model, drawn = Ensemble("latent", SPEC, ModelConfig(), plan, seed=2), torch.Generator().manual_seed(3)
    model.reset_parameters(drawn)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=drawn) * 0.2)
    folder = tmp_path_factory.mktemp("members")
    return Saved(folder, saved.save(model, SPEC, ModelConfig(), "latent", folder, {}))


@pytest.fixture(scope="session")
def feature_rows() -> pa.Table:
    """Columns of examples.features for 301 journeys, lists padded with 0."""
    rng, rows, length = np.random.default_rng(0), 301, SPEC.max_touchpoints
    count_B = rng.integers(1, length + 1, rows).astype(np.int32)
    real_BL = np.arange(length) < count_B[:, None]

    def listed(values_BL: np.ndarray, kind: pa.DataType) -> pa.Array:
        return pa.array(list(values_BL), pa.list_(kind))

    return pa.table(
        {
            "journey_id": rng.permutation(rows).astype(np.int64) - 150,
            "num_touches": count_B,
            "outcome_proxies": listed(rng.integers(0, 2, (rows, 2)).astype(np.float32), pa.float32()),
            "intent_proxies": listed(np.zeros((rows, 1), np.float32), pa.float32()),
            "covariates": listed(rng.normal(size=(rows, 2)).astype(np.float32), pa.float32()),
            "cluster_index": listed(rng.integers(0, 3, (rows, length)) * real_BL, pa.int32()),
            "item_id": listed(rng.integers(1, 99, (rows, length)) * real_BL, pa.int64()),
            "age_hours": listed((rng.uniform(0.1, 24, (rows, length)) * real_BL).astype(np.float32), pa.float32()),
            "propensity_bucket": listed(rng.integers(0, 2, (rows, length)) * real_BL, pa.int32()),
            "touch_weight": listed(real_BL.astype(np.float32), pa.float32()),
        }
    )
