"""One rank of a training job: torchrun ... -m almmta_spark.training --request request.json."""

from __future__ import annotations

import argparse
from pathlib import Path

from almmta_spark.training.main import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--request", required=True, metavar="FILE", help="a FitRequest as JSON")
    run(Path(parser.parse_args().request).read_text())


if __name__ == "__main__":
    main()
