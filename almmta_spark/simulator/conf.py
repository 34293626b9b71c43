"""The settings of a night in one world, as a conf file: `python -m almmta_spark.simulator.conf random:3` writes it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from almmta_spark import config
from almmta_spark.simulator.worlds import signals_of

BASE = Path("conf/local.yaml")


def slug(world: str) -> str:
    """A name for folders: Hadoop's paths take no colon."""
    return world.replace(":", "-")


def settings(world: str, base: Path = BASE) -> Mapping[str, Any]:
    """What departs from the base file: where things lie, the world, and what its signals are."""
    return {
        "extends": str(base.resolve()),
        "warehouse": f"runs/{slug(world)}/warehouse",
        "report_file": f"runs/{slug(world)}/report.json",
        "simulator": {"world": world},
        "signals": {name: config.to_dict(signal) for name, signal in signals_of(world).items()},
    }


def main() -> None:
    """Writes runs/WORLD/conf.yaml and prints where."""
    try:
        (world,) = sys.argv[1:]
        path = Path("runs") / slug(world) / "conf.yaml"
        text = yaml.safe_dump(dict(settings(world)), sort_keys=False)
    except ValueError as error:
        sys.exit(f"usage: python -m almmta_spark.simulator.conf WORLD\n{error}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    print(path)


if __name__ == "__main__":
    main()
