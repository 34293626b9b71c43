"""A notebook run as people run it: by a kernel of its own, in the folder where it lies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jupytext
import yaml
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from almmta_spark import config
from almmta_spark.config import Config

Failed = CellExecutionError


def executed(name: str, conf: Config, folder: Path) -> Any:
    """A notebook on the newest night of these settings, with its outputs. Failed where a cell does not run."""
    file = folder / "conf.yaml"
    file.write_text(yaml.safe_dump(config.to_dict(conf)))
    kept = {k: v for k, v in os.environ.items() if k not in ("ALMMTA_DS", "MLFLOW_TRACKING_URI")}
    own = {"ALMMTA_CONF": str(file), "IPYTHONDIR": str(folder), "JUPYTER_RUNTIME_DIR": str(folder)}
    cells = jupytext.read(f"notebooks/{name}.py")
    client = NotebookClient(cells, timeout=600, kernel_name="python3", resources={"metadata": {"path": "notebooks"}})
    return client.execute(env={**kept, **own})
