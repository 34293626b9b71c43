"""AUUC by another library, without intervals: python peers.py NAME ROWS REPEATS GB, in an environment of peers.txt.

Prints seconds (the median), memory_gb and auuc_normalised as JSON. Beyond GB of address space: MemoryError.
"""

import json
import resource
import statistics
import sys
import time

import pandas as pd


def causalml(rows: pd.DataFrame) -> float:
    """The mean of the cumulative gain over rows, divided by its end: near auuc / uplift of ours."""
    from causalml.metrics import auuc_score

    return float(auuc_score(rows, outcome_col="outcome", treatment_col="treated")["score"])


def scikit_uplift(rows: pd.DataFrame) -> float:
    """As auuc_normalised of ours."""
    from sklift.metrics import uplift_auc_score

    return float(uplift_auc_score(rows["outcome"], rows["score"], rows["treated"]))


def main() -> None:
    name, folder, repeats, limit_gb = sys.argv[1:]
    found = {"causalml": causalml, "scikit-uplift": scikit_uplift}[name]
    found(pd.DataFrame({"score": [3.0, 2.0, 1.0, 0.0], "treated": [1, 0, 1, 0], "outcome": [1, 0, 0, 1]}))  # imports
    limit = int(float(limit_gb) * 1e9)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    rows = pd.read_parquet(folder, columns=["score", "treated", "outcome"])
    seconds = []
    for _ in range(int(repeats)):
        clock = time.perf_counter()
        value = found(rows)
        seconds.append(time.perf_counter() - clock)
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(
        json.dumps(
            {
                "seconds": round(statistics.median(seconds), 3),
                "runs": [round(s, 3) for s in seconds],
                "memory_gb": round(peak_gb, 3),
                "value": value,
            }
        )
    )


if __name__ == "__main__":
    main()
