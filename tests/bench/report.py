"""The benchmark's figures as JSON and as a page to read; the arithmetic of ratios and growth."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Record = Mapping[str, Any]

TO_BARE, TO_FORWARD = 3.0, 2.5
"""Aims: ETL over bare operators, all deletions over one forward pass."""
DRIVER_GB = 1.0
"""Aim: the driver's memory while AUUC is measured."""


def etl_ratios(etl: Record) -> dict[str, float]:
    """Seconds of ingest + build_journeys, and of all stages, over those of the night's bare operators.

    etl_to_own_bare: of all stages over the sum of each one's own bare operators.
    """
    seconds = {stage["stage"]: stage["seconds"] for stage in etl["stages"]}
    bare, own = etl["bare"]["seconds"], sum(stage["bare_seconds"] for stage in etl["stages"])
    return {
        "etl_seconds": round(sum(seconds.values()), 3),
        "own_bare_seconds": round(own, 3),
        "etl_to_own_bare": round(sum(seconds.values()) / own, 2),
        "journeys_to_bare": round((seconds["ingest"] + seconds["build_journeys"]) / bare, 2),
        "etl_to_bare": round(sum(seconds.values()) / bare, 2),
    }


def growth(etls: Sequence[Record]) -> list[dict[str, Any]]:
    """Seconds per exposure of each size over those of the size before, by stage; 1: as fast as the rows."""
    found = []
    for small, large in itertools.pairwise(etls):
        before, after = seconds_per_exposure(small), seconds_per_exposure(large)
        ratios = {name: round(after[name] / before[name], 3) for name in before}
        found.append({"from_exposures": small["exposures"], "to_exposures": large["exposures"], "ratio": ratios})
    return found


def seconds_per_exposure(etl: Record) -> dict[str, float]:
    """By stage, of all stages together (`etl`) and of the bare operators (`bare`)."""
    seconds = {stage["stage"]: stage["seconds"] for stage in etl["stages"]}
    every = {**seconds, "etl": sum(seconds.values()), "bare": etl["bare"]["seconds"]}
    return {name: value / etl["exposures"] for name, value in every.items()}


def growth_per_row(small: Record, large: Record) -> float:
    """Of ours, seconds a row of one size over those of the size before; 1: as fast as the rows."""
    before, after = (size["ours"]["seconds"] / size["rows"] for size in (small, large))
    return after / before


def write(report: Record, folder: str | Path) -> list[Path]:
    """bench.json and bench.md."""
    return _written(folder, "bench", report, page(report))


def write_auuc(report: Record, folder: str | Path) -> list[Path]:
    """bench_auuc.json and bench_auuc.md."""
    return _written(folder, "bench_auuc", report, auuc_page(report))


def _written(folder: str | Path, name: str, report: Record, text_of_page: str) -> list[Path]:
    Path(folder).mkdir(parents=True, exist_ok=True)
    written = {f"{name}.json": json.dumps(report, indent=1) + "\n", f"{name}.md": text_of_page}
    for name, text in written.items():
        Path(folder, name).write_text(text)
    return [Path(folder, name) for name in written]


def page(report: Record) -> str:
    """The whole report as Markdown."""
    parts = [_head(report), _etl(report["etl"], report["growth"]), _pairs(report["pairs"]), _loader(report["loader"])]
    parts += [_training(report["training"]), _effects(report["effects"]), _memory(report["peak_memory_gb"])]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def auuc_page(report: Record) -> str:
    """The report of bench_auuc as Markdown."""
    rows = [cells for size in report["sizes"] for cells in _auuc_cells(size)]
    sizes = [size["rows"] for size in report["sizes"]]
    lines = [
        *_head(report, "# AUUC with intervals"),
        "",
        f"Ours: {report['replicates']} replicates by user, from Parquet to figures in a session that has run once,"
        f" tasks in the driver's JVM with a heap of {report['heap']}; its memory is the JVM's and Python's"
        " (proportional set size, sampled). Theirs: no intervals, one process, the function alone on columns in memory;"
        f" its memory is the process's peak. Seconds: the median of {report['repeats']} runs.",
        "The figures are the same one: causalml's is ours divided by its uplift, scikit-uplift's our auuc_normalised.",
        "",
        *_table(["rows", "by", "seconds", "memory, GB", "AUUC", "ours over theirs"], rows),
        "",
    ]
    for (small, large), grown in zip(itertools.pairwise(sizes), report["growth"], strict=True):
        lines.append(f"- ours, seconds a row at {_int(large)} over those at {_int(small)} rows: {grown:.2f}")
    for size in report["sizes"]:
        rows_said, peak = f"at {_int(size['rows'])} rows", size["ours"]["driver_memory_gb"]
        lines.append(f"- the driver's memory {rows_said}: {peak:.2f} GB ({_verdict(peak, DRIVER_GB)})")
        theirs = size["peers"]["causalml"].get("seconds")
        if theirs is not None:
            ratio = size["ours"]["seconds"] / theirs
            lines.append(f"- ours with intervals over causalml without {rows_said}: {ratio:.2f} ({_verdict(ratio, 1)})")
    return "\n".join(lines) + "\n"


def _auuc_cells(size: Record) -> Iterator[list[str]]:
    ours = size["ours"]
    interval = f"{ours['auuc']:.5f} [{ours['auuc_lower']:.5f}, {ours['auuc_upper']:.5f}]"
    same = {"causalml": ours["auuc"] / ours["uplift"], "scikit-uplift": ours["auuc_normalised"]}
    yield [_int(size["rows"]), "ours", f"{ours['seconds']:.1f}", f"{ours['driver_memory_gb']:.2f}", interval, ""]
    for name, peer in size["peers"].items():
        if "error" in peer:
            yield ["", name, peer["error"], "", "", ""]
        else:
            value = f"{peer['value']:.5f} (ours {same[name]:.5f})"
            ratio = f"{ours['seconds'] / peer['seconds']:.2f}"
            yield ["", name, f"{peer['seconds']:.1f}", f"{peer['memory_gb']:.2f}", value, ratio]


def _head(report: Record, title: str = "# Speed and scale") -> list[str]:
    m = report["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in m["versions"].items())
    return [
        title,
        "",
        f"`{report['command']}`, {m['started']}, {report['seconds']:.0f} s in all.",
        f"{m['cores']} cores ({m['processor']}), {m['memory_gb']:.0f} GB, {m['system']}; {versions}.",
        f"Load of the machine before it began: {m['load_before']:.2f}.",
    ]


def _etl(etls: Sequence[Record], grown: Sequence[Record]) -> list[str]:
    lines = [
        "## Logs to training examples",
        "",
        "Bare operators: scan of exposures, signals and uploads, shuffle and sort by user, Parquet out, in the same",
        "session (the faster of a run before and a run after the stages). A stage's own bare operators, run after it:",
        "scan of its inputs, shuffle and sort by its key where it needs one, Parquet out of the rows that it made. A",
        "stage's seconds hold its checks, reading back what it wrote, and publishing it. Rows: of its main input.",
    ]
    for etl in etls:
        rows = [_stage_cells(stage) for stage in [etl["bare"], *etl["stages"]]]
        lines += ["", f"### {_int(etl['exposures'])} exposures, {_int(etl['journeys'])} journeys", ""]
        lines += _table(["stage", "seconds", "rows", "rows/s", "own bare, seconds", "ratio"], rows)
        lines += [
            "",
            f"- ingest + build_journeys over bare operators: {etl['journeys_to_bare']:.2f}"
            f" ({_verdict(etl['journeys_to_bare'], TO_BARE)})",
            f"- all stages ({etl['etl_seconds']:.1f} s) over bare operators: {etl['etl_to_bare']:.2f}"
            f" ({_verdict(etl['etl_to_bare'], TO_BARE)})",
            f"- all stages over their own bare operators ({etl['own_bare_seconds']:.1f} s): "
            f"{etl['etl_to_own_bare']:.2f} ({_verdict(etl['etl_to_own_bare'], TO_BARE)})",
        ]
    for step in grown:
        ratio = ", ".join(f"{name} {value:.2f}" for name, value in step["ratio"].items())
        sizes = f"{_int(step['from_exposures'])} to {_int(step['to_exposures'])} exposures"
        lines += ["", f"Seconds per exposure, {sizes}, as a ratio (at most 1: no faster than the rows): {ratio}."]
    return lines


def _stage_cells(stage: Record) -> list[str]:
    cells = [stage["stage"], f"{stage['seconds']:.1f}", _int(stage["rows"]), _int(stage["rows_per_second"])]
    own = stage.get("bare_seconds")
    return [*cells, "", ""] if own is None else [*cells, f"{own:.1f}", f"{stage['seconds'] / own:.2f}"]


def _pairs(pairs: Sequence[Record]) -> list[str]:
    lines = [
        "## High-match pairs",
        "",
        "A pair is a touch and an upload of one journey whose contents' cosine similarity reaches the night's",
        "threshold. Ours scores every pair inside a journey, exactly. Spark's BucketedRandomProjectionLSH joins all",
        "items with all uploads on the same contents, scaled to length 1, within the distance that is the threshold",
        "(each item once, not every touch of it: its cheapest form); its matches are then joined down to the pairs",
        "inside journeys. Both write the pairs they find.",
    ]
    for found in pairs:
        sample, everywhere = found["sample"], found["all_journeys"]
        whole = "all" if sample["share"] == 1 else f"a hash sample of {sample['share']:.1%} of the"
        lines += [
            "",
            f"### {_int(found['exposures'])} exposures",
            "",
            f"All journeys, ours: {_int(everywhere['scored'])} pairs scored in {everywhere['seconds']:.1f} s"
            f" ({_int(everywhere['scored_per_second'])} pairs/s), {_int(everywhere['found'])} high-match.",
            f"Side by side on {whole} journeys with an upload: {_int(sample['journeys'])} journeys,"
            f" {_int(sample['uploads'])} uploads, {_int(sample['items'])} items with contents of length"
            f" {sample['content_length']};"
            f" threshold {found['ours']['threshold']:.3f}, distance {found['distance']:.3f}.",
            "",
        ]
        rows = [["ours, exact", found["ours"], "1.000", _int(found["ours"]["scored"])]]
        for lsh in found["lsh"]:
            name = f"LSH, {lsh['hash_tables']} tables, bucket {lsh['bucket_length']:.2f}"
            rows.append([name, lsh, f"{lsh['recall']:.3f}", _int(lsh["matches_everywhere"])])
        cells = [
            [name, f"{r['seconds']:.1f}", looked_at, _int(r["found"]), recall, _int(r["found_per_second"])]
            for name, r, recall, looked_at in rows
        ]
        head = ["method", "seconds", "scored (LSH: matches anywhere)", "in-journey pairs found", "recall", "found/s"]
        lines += _table(head, cells)
    return lines


def _loader(found: Record) -> list[str]:
    bare = next(r["rows_per_second"] for r in found["readers"] if r["reader"] == "pyarrow")
    names = {"pyarrow": "bare pyarrow, not decoded"}
    rows = [
        [names.get(r["reader"], r["reader"]), _int(r["rows_per_second"]), f"{r['rows_per_second'] / bare:.2f}"]
        for r in found["readers"]
    ]
    facts = f"{_int(found['rows'])} rows in {found['row_groups']} row groups, {found['columns']} columns, one process."
    return ["## Loader", "", facts, "", *_table(["reader", "rows/s", "of bare"], rows)]


def _training(runs: Sequence[Record]) -> list[str]:
    rows = [
        [str(r["ranks"]), _int(r["journeys_per_second"]), " / ".join(f"{w:.1%}" for w in r["data_wait_share"])]
        for r in runs
    ]
    first = runs[0]
    facts = (
        f"{_int(first['journeys'])} journeys, global batch {first['batch_size']}, loader {first['loader']}; the last "
        f"of {len(first['data_wait_share'])} epochs, on the CPU, ranks share the cores."
    )
    return ["## Training", "", facts, "", *_table(["ranks", "journeys/s", "waiting for data, by epoch"], rows)]


def _effects(found: Record) -> list[str]:
    rows = [
        [
            f"`{row['variant']}`",
            *(_int(row[f"{what}_per_second"]) for what in ("effects", "journeys", "forward_journeys")),
            f"{row['deletions_to_forward']:.2f}",
            "met" if row["deletions_to_forward"] <= TO_FORWARD else "missed",
        ]
        for row in found["variants"]
    ]
    head = ["variant", "effects/s", "journeys/s", "forward journeys/s", "forward passes", f"aim {TO_FORWARD:g}"]
    return [
        "## Deletion effects",
        "",
        f"{_int(found['journeys'])} journeys with {_int(found['effects'])} touches, one thread, batches of"
        f" {_int(found['rows_per_batch'])} journeys. A forward pass is one without gradients; one by one, all deletions"
        f" of a journey would take {found['forwards_one_by_one']:.1f}.",
        "",
        *_table(head, rows),
    ]


def _memory(peaks: Mapping[str, float]) -> list[str]:
    rows = [[part, f"{gb:.2f}"] for part, gb in peaks.items()]
    note = "Proportional set size of each part's processes together (driver, JVM, Python workers, ranks), sampled."
    return ["## Peak memory", "", note, "", *_table(["part", "GB"], rows)]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """First column to the left, figures to the right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return ["| " + " | ".join(row) + " |" for row in [head, rule, *rows]]


def _verdict(value: float, aim: float) -> str:
    return f"aim {aim:g}: {'met' if value <= aim else 'missed'}"


def _int(value: float) -> str:
    return f"{value:,.0f}"
