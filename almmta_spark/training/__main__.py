"""One rank of a training job: torchrun [options] -m almmta_spark.training --request request.json.

On several machines with --max-restarts: TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 torchrun ... (distributed.py says why).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from almmta_spark.training.main import run


def main() -> None:
    """Fits what the files ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--request", required=True, metavar="FILE", nargs="+", help="a FitRequest as JSON; several are fitted in turn"
    )
    run(*(Path(path).read_text() for path in parser.parse_args().request))


if __name__ == "__main__":
    main()
