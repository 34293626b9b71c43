"""Train on the GPU and on the CPU, compare the effects: python -m almmta_spark.training.gpu_check.

For a single fit, for a night's ensemble and for larger batches: journeys/s, the share of the time spent waiting for
data, and the agreement of the removal effects; written to reports/gpu.{json,md}. Says that it skipped, with status 0,
where there is no GPU; exits with 1 where the two disagree.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
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
SINGLE = EnsembleConfig(variants=())


@dataclass(frozen=True)
class Case:
    """What is fitted on both devices."""

    batch_size: int
    ensemble: EnsembleConfig = SINGLE

    @property
    def members(self) -> int:
        return self.ensemble.members if self.ensemble.variants else 1


CASES = (Case(1024), Case(1024, EnsembleConfig()), Case(8192, EnsembleConfig()))


@dataclass(frozen=True)
class Comparison:
    """A fit on both devices. Speeds in journeys/s over all epochs, shares of the time spent waiting for data."""

    members: int
    batch_size: int
    gpu_speed: float
    cpu_speed: float
    gpu_waits: float
    cpu_waits: float
    rank_correlation: float
    """Spearman's, of the removal effects of both fits."""
    rms_difference: float
    """Of the effects, relative to the CPU's root mean square."""

    @property
    def gain(self) -> float:
        """The GPU's speed over the CPU's."""
        return self.gpu_speed / self.cpu_speed

    @property
    def agrees(self) -> bool:
        return self.rank_correlation >= REQUIRED_RANK_CORRELATION

    def __str__(self) -> str:
        what = f"{self.members} member{'s' * (self.members > 1)}, batches of {self.batch_size:,}"
        speeds = (
            f"GPU {self.gpu_speed:,.0f} journeys/s, CPU {self.cpu_speed:,.0f} ({self.gpu_speed / self.cpu_speed:.2f})"
        )
        waits = f"{self.gpu_waits:.1%} and {self.cpu_waits:.1%} of the time waiting for data"
        verdict = "agree" if self.agrees else "DISAGREE"
        effects = f"Spearman {self.rank_correlation:.4f}, relative RMS difference {self.rms_difference:.3f}"
        return f"{what}: {speeds}; {waits}; removal effects {verdict}: {effects}"


def main() -> int:
    """Exit status: 0 where GPU and CPU agree or there is no GPU, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=60_000, help="generated journeys (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=6, help="default: %(default)s")
    parser.add_argument("--reports", type=Path, default=Path("reports"), help="default: %(default)s")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("skipped: torch sees no CUDA device here; nothing was checked")
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    found = compare("cpu", "cuda", arguments.rows, TrainingConfig(epochs=arguments.epochs, num_ranks=1), CASES)
    write(found, arguments.reports, vars(arguments))
    return 0 if all(comparison.agrees for comparison in found) else 1


def compare(
    reference: str, device: str, num_rows: int, training: TrainingConfig, cases: Sequence[Case]
) -> list[Comparison]:
    """Train each case on both devices, and print how fast each was and how far their effects agree."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        table = str(Path(folder) / "table")
        spec = sample_table.write(Path(table), num_rows)
        for number, case in enumerate(cases):
            settings = replace(training, batch_size=case.batch_size, ensemble=case.ensemble)
            effects, metrics = [], []
            for place, name in enumerate((reference, device)):
                output = f"{folder}/{number}-{place}"
                result = fit(FitRequest(table, spec, ModelConfig(), settings, "latent", 0, output), name)
                metrics.append(result.metrics)
                effects.append(effects_of(output, table, spec))
            gap = float(np.sqrt(np.mean((effects[0] - effects[1]) ** 2) / np.mean(effects[0] ** 2)))
            speed, waits = ([m[name] for m in metrics] for name in ("journeys_per_second", "data_wait_share"))
            agreement = rank_correlation(*effects)
            found.append(
                Comparison(case.members, case.batch_size, speed[1], speed[0], waits[1], waits[0], agreement, gap)
            )
            print(found[-1], flush=True)
    return found


def write(found: Sequence[Comparison], folder: Path, settings: dict[str, Any]) -> None:
    """gpu.json and gpu.md."""
    machine = {
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cpu_cores": len(os.sched_getaffinity(0)),
        "torch": torch.__version__,
        **{name: settings[name] for name in ("rows", "epochs")},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gpu.json").write_text(json.dumps(machine | {"fits": [asdict(c) for c in found]}, indent=1) + "\n")
    lines = [
        "# Training on a GPU",
        "",
        f"`make gpu`: {machine['gpu']} in bf16 beside {machine['cpu_cores']} CPU cores in float32, torch "
        f"{machine['torch']}; {machine['rows']:,} generated journeys, {machine['epochs']} epochs, one rank.",
        "Members: models fitted side by side. Spearman and relative RMS difference: of the removal effects of both.",
        "",
        "| members | batch | GPU, journeys/s | CPU, journeys/s | gain | waits for data | Spearman | difference |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for c in found:
        cells = (c.members, f"{c.batch_size:,}", f"{c.gpu_speed:,.0f}", f"{c.cpu_speed:,.0f}")
        more = (f"{c.gain:.2f}", f"{c.gpu_waits:.1%} / {c.cpu_waits:.1%}")
        lines.append(f"| {' | '.join(map(str, cells + more))} | {c.rank_correlation:.4f} | {c.rms_difference:.3f} |")
    (folder / "gpu.md").write_text("\n".join([*lines, ""]))


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
