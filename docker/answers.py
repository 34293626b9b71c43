"""Whether a server answers: python docker/answers.py URL ends with status 0 if it does, within 5 seconds, else with 1.

With a number after it, only where the page is JSON of a master of Spark with as many workers alive.
"""

from __future__ import annotations

import json
import sys
import urllib.request


def answers(url: str, workers: int | None = None) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as page:
            return workers is None or json.load(page)["aliveworkers"] == workers
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(not answers(sys.argv[1], *map(int, sys.argv[2:])))
