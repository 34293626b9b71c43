"""The conf file of a world."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from almmta_spark import config
from almmta_spark.simulator import conf
from almmta_spark.simulator.worlds import signals_of


@pytest.mark.parametrize("world", ["leak_y", "rich", "random:3"])
def test_the_conf_of_a_world_states_its_signals_and_a_folder_of_its_own(world: str, tmp_path: Path) -> None:
    path = tmp_path / "conf.yaml"
    path.write_text(yaml.safe_dump(dict(conf.settings(world))))
    found = config.load(path)
    assert found.simulator.world == world
    assert signals_of(world).items() <= found.signals.items()
    assert found.warehouse == f"runs/{conf.slug(world)}/warehouse"
    assert ":" not in found.warehouse
    assert found.journeys.max_touchpoints == 12  # the base file's
