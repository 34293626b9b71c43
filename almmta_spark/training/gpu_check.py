"""Train on the GPU and on the CPU, compare the effects: python -m almmta_spark.training.gpu_check.

Prints journeys/s and the share of time spent waiting for data on both, and the agreement of the removal effects. Says
that it skipped, and exits with 0, where there is no GPU; exits with 1 where the two disagree.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from almmta_spark.config import EnsembleConfig, ModelConfig, TrainingConfig
from almmta_spark.example_spec import ExampleSpec
from almmta_spark.model import saved
from almmta_spark.model.batch import Batch
from almmta_spark.training import loader, sample_table
from almmta_spark.training.main import fit
from almmta_spark.training.request import FitRequest

REQUIRED_RANK_CORRELATION = 0.97


def main() -> int:
    """Exit status: 0 where GPU and CPU agree or there is no GPU, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=60_000, help="generated journeys (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=14, help="default: %(default)s")
    parser.add_argument("--batch-size", type=int, default=1024, help="default: %(default)s")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("skipped: torch sees no CUDA device here; nothing was checked")
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    alone = EnsembleConfig(variants=())
    training = TrainingConfig(epochs=arguments.epochs, batch_size=arguments.batch_size, num_ranks=1, ensemble=alone)
    return 0 if compare("cpu", "cuda", arguments.rows, training) >= REQUIRED_RANK_CORRELATION else 1


def compare(reference: str, device: str, num_rows: int, training: TrainingConfig) -> float:
    """Train on both devices, print how fast each was; the rank correlation of their removal effects."""
    effects = []
    with tempfile.TemporaryDirectory() as folder:
        table = str(Path(folder) / "table")
        spec = sample_table.write(Path(table), num_rows)
        for number, name in enumerate((reference, device)):
            output = str(Path(folder) / f"{number}-{name}")
            result = fit(FitRequest(table, spec, ModelConfig(), training, "latent", 0, output), name)
            speed, waiting = result.metrics["journeys_per_second"], result.metrics["data_wait_share"]
            label = f"{torch.cuda.get_device_name()}, bf16" if name == "cuda" else "CPU, float32"
            print(f"{label}: {speed:,.0f} journeys/s, {waiting:.1%} of the time waiting for data")
            effects.append(effects_of(output, table, spec))
    agreement = rank_correlation(*effects)
    gap = float(np.sqrt(np.mean((effects[0] - effects[1]) ** 2) / np.mean(effects[0] ** 2)))
    verdict = "agree" if agreement >= REQUIRED_RANK_CORRELATION else "DISAGREE"
    print(f"removal effects of both {verdict}: Spearman {agreement:.4f}, relative RMS difference {gap:.3f}")
    return agreement


def effects_of(output_dir: str, table: str, spec: ExampleSpec, max_rows: int = 20_000) -> np.ndarray:
    """Removal effects of the first journeys' real touches under a saved model, on the CPU, as one array."""
    model: Any = saved.load(output_dir)[0]
    opened = loader.open_table(table, spec)
    found: list[np.ndarray] = []
    rows = 0
    for columns in loader.read_arrow(opened, opened.row_groups, loader.columns_needed(spec)):
        batch = Batch.from_columns(columns, spec)
        effects_BL = model.effects(batch).removal_effect_BL
        found.append(effects_BL[batch.mask_BL > 0].numpy())
        rows += batch.size
        if rows >= max_rows:
            break
    return np.concatenate(found)


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rho of values without ties."""
    rank_a, rank_b = (np.argsort(np.argsort(values)).astype(float) for values in (a, b))
    return float(np.corrcoef(rank_a, rank_b)[0, 1])


if __name__ == "__main__":
    sys.exit(main())
