"""A night killed at any moment and run again: `make kill-test`. Everything real, from logs to MLflow.

One night is left undisturbed and photographed: its folder (warehouse, MLflow's store and artifacts) is copied before
each stage and at the end. A case puts the photograph of a stage's beginning back, starts `python -m jobs.nightly`,
sends SIGKILL to its process group from outside at a moment of that stage, and runs the same command again. What stands
there then is compared with the undisturbed night. A case costs its stage and those after it; the cheapest come first.

Writes reports/kill.{json,md}; cases that are in it by the same code are not run again. Ends with an error where one
differs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from almmta_spark import config, event_days, manifest, night_log, runner, spark_tables, storage, tables, tracking
from almmta_spark.config import Config
from jobs import nightly
from tests import fault_table, quick_java

DS = "2026-01-15"
USERS = 5000
CONF = "conf/test.yaml"
SETTINGS = (
    "env=kill",
    f"simulator.num_users={USERS}",
    "training.epochs=20",
    "training.batch_size=256",
    "training.variants=[latent]",
    "training.ensemble.repeats=1",
    "attribution.baselines=[last_touch]",
    "gate.must_pass=[]",  # so small a night warns, and would have no champion
)
FOLDER, REPORTS = Path("runs/kill"), Path("reports")
TRIES = 5
MARK = "ALMMTA_KILL_TEST"
"""In the environment of a night's processes: they are found by it."""

POOL = "MLFLOW_SQLALCHEMYSTORE_POOLCLASS"

START, END = "start", "end"
"""Photographs before the night and after it."""
HALF_TIME, HALF_FILES, ALL_FILES, BOUNDARY = "half of its time", "half of its files", "all of its files", "its end"
"""Moments of a stage. Time: of what it took undisturbed. Files: of those it leaves, counted as they appear; with all of
them it has yet to write its manifest. Its end: the manifest is there, and nothing yet of the next stage's."""


@dataclass(frozen=True)
class Case:
    stage: str
    moment: str

    def __str__(self) -> str:
        return "the claim, before the first stage" if self.stage == START else f"{self.stage}: {self.moment}"


CASES = tuple(
    Case(stage, moment)
    for stage in reversed((START, *nightly.STAGES))
    for moment in ((BOUNDARY,) if stage == START else (BOUNDARY, ALL_FILES, HALF_FILES, HALF_TIME))
)


# ---- where nights run -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A folder in which one night runs again and again, with its photographs beside it."""

    folder: Path
    settings: Sequence[str] = SETTINGS

    @property
    def night(self) -> Path:
        return self.folder / "night"

    @property
    def overrides(self) -> list[str]:
        return [f"warehouse={self.night}/warehouse", "report_file=", *self.settings]

    @cached_property
    def conf(self) -> Config:
        return config.load(CONF, self.overrides)

    def photo(self, stage: str) -> Path:
        return self.folder / "photos" / stage

    def put_back(self, stage: str) -> None:
        """The night as it was before a stage. Whatever an earlier run of it has left behind is gone."""
        orphans = self.processes()
        for process in orphans:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(orphans, timeout=10)
        for left in (self.night, self.folder / "tmp"):
            shutil.rmtree(left, ignore_errors=True)
        shutil.copytree(self.photo(stage), self.night)

    def start(self, *python: str, log: str) -> subprocess.Popen[bytes]:
        """A process as a user starts it, in a group of its own. What it says goes to a file; what it leaves beside the
        night to a folder of its own."""
        options = [part for setting in self.overrides for part in ("--set", setting)]
        scratch = self.folder / "tmp"
        scratch.mkdir(parents=True, exist_ok=True)
        own = {MARK: str(self.folder), "TMPDIR": str(scratch), "SPARK_LOCAL_DIRS": str(scratch)}
        own["JAVA_TOOL_OPTIONS"] = f"{quick_java.OPTIONS} -Djava.io.tmpdir={scratch}"
        with (self.folder / log).open("w") as out:
            return subprocess.Popen(
                [sys.executable, *python, "--conf", CONF, "--ds", DS, *options],
                stdout=out,
                stderr=out,
                env={name: value for name, value in os.environ.items() if name != POOL} | own,
                process_group=0,
            )

    def run(self, *python: str, log: str) -> float:
        """A process run to its end, in seconds. RuntimeError with its last lines where it fails."""
        started = time.monotonic()
        if self.start(*python, log=log).wait() != 0:
            raise RuntimeError(f"{' '.join(python)}: {self.last_lines(log)}")
        return time.monotonic() - started

    def last_lines(self, log: str) -> str:
        return "\n".join((self.folder / log).read_text().splitlines()[-30:])

    def processes(self) -> list[psutil.Process]:
        """Of the nights started here, those that live."""
        return [p for p in psutil.process_iter() if _mark(p) == str(self.folder)]


def _mark(process: psutil.Process) -> str | None:
    try:
        return None if process.status() == psutil.STATUS_ZOMBIE else process.environ().get(MARK)
    except psutil.Error:  # gone since, or the kernel's
        return None


def _name(process: psutil.Process) -> str:
    """What it runs, in a word: a module, a script or a program."""
    with contextlib.suppress(psutil.Error):
        program, line = process.name(), process.cmdline()
        if "python" not in program:
            return program
        return line[line.index("-m") + 1] if "-m" in line else next(Path(w).name for w in line[1:] if w[0] != "-")
    return "a process"


PHOTOGRAPHED = """
from jobs import nightly
from tests.kill_runs import photographed
nightly.STAGES.update({name: photographed(name, stage) for name, stage in nightly.STAGES.items()})
nightly.main()
"""


def photographed(name: str, stage: runner.Stage) -> runner.Stage:
    """The stage, which copies the night's folder before it does anything."""

    def run(night: runner.Night) -> None:
        folder = Path(night.place.conf.warehouse).parent
        being_written = shutil.ignore_patterns(".*.json.*")  # the claim is renewed meanwhile
        shutil.copytree(folder, folder.parent / "photos" / name, ignore=being_written)
        stage(night)

    return run


def leave_undisturbed(place: Place) -> None:
    """Logs, one whole night, and its photographs."""
    shutil.rmtree(place.folder, ignore_errors=True)
    place.folder.mkdir(parents=True)
    print("== simulating the logs", flush=True)
    place.run("-m", "jobs.simulate", log="simulate.log")
    shutil.copytree(place.night, place.photo(START))
    print("== the undisturbed night", flush=True)
    place.run("-c", PHOTOGRAPHED, log="undisturbed.log")
    shutil.copytree(place.night, place.photo(END))


# ---- killing --------------------------------------------------------------------------------------------------------


@dataclass
class Watch:
    """One stage of a night that runs, seen from outside: its log, and its files as they appear."""

    place: Place
    stage: str
    log: str
    began: float | None = None
    """When the log said that the stage runs, in seconds of the monotonic clock."""

    def __post_init__(self) -> None:
        self.expected = sorted(_files(self._after) - _files(self.place.photo(self.stage)))
        named = {path.parts[: 2 if path.parts[0] == "warehouse" else 1] for path in self.expected}  # else by runs' ids
        self._folders = sorted(Path(*parts) for parts in named)
        self._before = _files(self.place.night, self._folders)

    @cached_property
    def undisturbed_seconds(self) -> float:
        found = self.place.photo(END) / "warehouse/_manifests" / f"ds={DS}" / f"{self.stage}.json"
        return float(json.loads(found.read_text())["seconds"])

    @property
    def seconds(self) -> float:
        """Since the stage began; 0 before that."""
        if self.began is None and f" {self.stage}: it has not run" in (self.place.folder / self.log).read_text():
            self.began = time.monotonic()
        return 0.0 if self.began is None else time.monotonic() - self.began

    @property
    def num_files(self) -> int:
        """Files of the stage that are there."""
        return len(_files(self.place.night, self._folders) - self._before)

    @property
    def ended(self) -> bool:
        if self.stage == START:
            return any((self.place.night / "warehouse/_nights" / f"ds={DS}").glob("*.json"))
        return Path(manifest.url(self.place.conf, DS, self.stage)).exists()

    def reached(self, moment: str, times_too_late: int) -> bool:
        """times_too_late: so often was the stage killed too late already, so earlier must it be."""
        seconds = self.seconds
        if moment == BOUNDARY:
            return self.ended
        if moment == HALF_TIME or (moment == HALF_FILES and len(self.expected) < 2):
            share = 0.5 if moment == HALF_TIME else 0.25
            return seconds > share * 0.7**times_too_late * self.undisturbed_seconds
        share = 0.5 if moment == HALF_FILES else 1.0
        return self.num_files >= max(1, ceil(share * len(self.expected)) - times_too_late)

    def too_late(self, moment: str) -> bool:
        """Whether the night has gone on beyond the moment that was wanted."""
        if moment != BOUNDARY:
            return self.ended
        released = night_log.latest(None, self.place.conf, DS).owner is None
        return not self.ended or released or len(_files(self.place.night)) > len(_files(self._after))

    @property
    def _after(self) -> Path:
        stages = (START, *nightly.STAGES, END)
        return self.place.photo(stages[stages.index(self.stage) + 1])

    def __str__(self) -> str:
        if self.stage == START:
            return "the night is claimed"
        there = "manifest" if self.ended else "no manifest"
        took = f"{self.seconds:.1f} s ({self.undisturbed_seconds:.1f} s undisturbed)"
        return f"after {took}, {self.num_files} of {len(self.expected)} files, {there}"


def _files(root: Path, folders: Sequence[Path] = (Path(),)) -> set[Path]:
    """Files below a night's folder, or below some folders in it; not those of the night's log, nor what has a hidden or
    a temporary name."""
    found: set[Path] = set()
    for folder in folders:
        if (root / folder).is_file():
            found.add(folder)
        for path, below, names in os.walk(root / folder):
            below[:] = [n for n in below if n[0] != "." and n not in ("_temporary", "_nights", "_manifests")]
            found |= {Path(path, n).relative_to(root) for n in names if n[0] != "."}
    return found


@dataclass(frozen=True)
class Kill:
    at: str
    """What the stage had done by then."""
    note: str


def kill(place: Place, case: Case) -> Kill:
    """A night killed at the moment of a case; where it was killed too late, once more and earlier."""
    notes = []
    for tries in range(TRIES):
        place.put_back(case.stage)
        watch = Watch(place, case.stage, "killed.log")
        night = place.start(*NIGHT, log=watch.log)
        try:
            while night.poll() is None and not watch.reached(case.moment, tries):
                time.sleep(0.001)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(night.pid, signal.SIGKILL)
        if night.wait() > 0:
            raise RuntimeError(f"{case}: the night ended by itself: {place.last_lines(watch.log)}")
        reached = str(watch)
        if not watch.too_late(case.moment):
            break
        notes.append(f"killed too late ({reached})")
    orphans = sorted({_name(process) for process in place.processes()})
    notes += [f"outlived the kill: {', '.join(orphans)}"] if orphans else []
    return Kill(reached, "; ".join(notes))


# ---- comparing ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """All that a night has left and that must not depend on whether it was killed."""

    rows: Mapping[str, pa.Table]
    """Of every table; of event_days by source and day."""
    facts: Mapping[str, Any]
    """Models, manifests, figures and the review; in MLflow the night's metrics and what the aliases point at."""


def outcome(place: Place) -> Outcome:
    """Of the night as it lies in its place."""
    conf = place.conf
    there = {t: spark_tables.path(None, conf, t, DS) for t in tables.OUTPUTS if spark_tables.exists(None, conf, t, DS)}
    rows = {table.name: pq.read_table(path) for table, path in there.items()}
    return Outcome(rows | dict(_event_days(conf)), dict(_facts(place)))


def _event_days(conf: Config) -> Iterator[tuple[str, pa.Table]]:
    for source in (tables.EXPOSURES, tables.SIGNALS):
        for day in spark_tables.input_days(None, conf, source):
            if found := event_days.find(None, conf, source, day):
                folder = spark_tables.folder(conf, tables.EVENT_DAYS, day)
                yield f"event_days of {source.name} {day}", pq.read_table(f"{folder}/version={found.version}")


def _facts(place: Place) -> Iterator[tuple[str, Any]]:
    warehouse = place.night / "warehouse"
    for kind, pattern in (("model", "_models/*/*/weights.pt"), ("figure", "_figures/*/*"), ("review", "_reports/*/*")):
        for path in sorted(warehouse.glob(pattern)):
            yield f"{kind} {path.relative_to(warehouse)}", _digest(path.read_bytes())
    for made in manifest.manifests(None, place.conf, DS):
        yield f"manifest {made['stage']}", meaning(made)
    yield "metrics of the run", tracking.night_run(place.conf, DS).data.metrics
    yield "open runs", _open_runs(place)
    for alias in (tracking.CANDIDATE, tracking.CHAMPION):
        yield f"alias {alias}", _registered(place, alias)


OF_ONE_RUN = {"started", "seconds", "spark", "version", "mlflow", "journeys_per_second", "data_wait_share"}


def meaning(made: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest without what is of one run alone: times, speeds, Spark's work, versions' names, the run in MLflow."""
    looked = {k: v for k, v in made["looked"].items() if k.split(" ")[0] not in ("notes", "others")}
    whole = {**made, "looked": looked, "made": {_without_version(k): v for k, v in made["made"].items()}}
    return _without(whole, OF_ONE_RUN)


def _without(found: Any, names: set[str]) -> Any:
    if isinstance(found, Mapping):
        return {name: _without(value, names) for name, value in found.items() if name not in names}
    return [_without(value, names) for value in found] if isinstance(found, list) else found


def _without_version(look: str) -> str:
    kind, *what = look.split(" ")
    return " ".join([kind, *what[:2]]) if kind == "version" else look


def _open_runs(place: Place) -> int:
    """Runs in MLflow that seem to go on."""
    tracker = tracking.Tracker.connect(place.conf)
    return len(tracker.client.search_runs([tracker.experiment_id], "attributes.status = 'RUNNING'"))


def _registered(place: Place, alias: str) -> dict[str, str] | None:
    """Tags of the version that an alias points at, and a digest of the weights that it serves; None without one."""
    from mlflow.exceptions import MlflowException

    name = f"{place.conf.tracking.registered_model}_{place.conf.env}"
    client = tracking.Tracker.connect(place.conf).client
    try:
        version = client.get_model_version_by_alias(name, alias)
    except MlflowException:
        return None
    # Not by models:/name@alias: MLflow remembers what that was in an earlier case.
    served = storage.local_path(client.get_logged_model(version.source.rpartition("/")[2]).artifact_location)
    assert served is not None
    return dict(version.tags) | {path.name: _digest(path.read_bytes()) for path in served.rglob("weights.pt")}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def differences(one: Outcome, two: Outcome) -> list[str]:
    """Names of tables and facts that are not the same."""
    names = {*one.rows, *two.rows}
    different = [n for n in names if n not in one.rows or n not in two.rows or not same_rows(one.rows[n], two.rows[n])]
    return sorted(different) + sorted(n for n in {*one.facts, *two.facts} if one.facts.get(n) != two.facts.get(n))


def same_rows(one: pa.Table, two: pa.Table) -> bool:
    """Whether sorted rows are equal to the last bit."""
    return one.schema.equals(two.schema) and (_sorted_bytes(one) == _sorted_bytes(two) or _rows(one) == _rows(two))


def num_lost(one: Outcome, two: Outcome) -> int:
    """Rows of one's tables that two does not have."""
    pairs = [(rows, two.rows.get(name)) for name, rows in one.rows.items()]
    return sum(
        len(rows) if there is None else sum((_rows(rows) - _rows(there)).values())
        for rows, there in pairs
        if there is None or not same_rows(rows, there)
    )


def _sorted_bytes(table: pa.Table) -> bytes:
    """Equal for the same rows where the columns that can be sorted tell all rows apart."""
    by = [(field.name, "ascending") for field in table.schema if not pa.types.is_nested(field.type)]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table.sort_by(by).combine_chunks())
    return hashlib.sha256(sink.getvalue()).digest()


def _rows(table: pa.Table) -> Counter[str]:
    """How often each row is there: repr tells floats apart to the last bit."""
    return Counter(map(repr, table.to_pylist()))


def seen_by_readers(conf: Config) -> str:
    """What a reader saw of the killed night: nothing or all of it, as it should be, or only some tables."""
    seen, all_of = set(night_log.versions(None, conf, DS)), {t.name for t in tables.OUTPUTS}
    return "nothing" if not seen else "all" if seen == all_of else f"only {', '.join(sorted(seen))}"


def leftovers(conf: Config) -> list[str]:
    """Versions in the warehouse that no edition of the night names, and files with hidden names: not those of the log,
    which go with the entries that they were to be."""
    last = night_log.latest(None, conf, DS)
    named = {(table, v) for edition in (last.current, *last.kept) for table, v in edition.tables.items()}
    found = []
    for table in tables.OUTPUTS:
        names = storage.names(None, spark_tables.folder(conf, table, DS))
        versions = {n.removeprefix("version=").removesuffix(".json") for n in names}
        found += [f"{table.name} {v}" for v in sorted(versions) if (table.name, v) not in named]
    hidden = (p for p in Path(conf.warehouse).rglob(".*") if p.suffix != ".crc" and "_nights" not in p.parts)
    return found + sorted(str(p.relative_to(conf.warehouse)) for p in hidden)


# ---- all cases ------------------------------------------------------------------------------------------------------

NIGHT = ("-m", "jobs.nightly")


def main(
    cases: Sequence[Case] = CASES,
    settings: Sequence[str] = SETTINGS,
    folder: Path = FOLDER,
    reports: Path = REPORTS,
) -> list[str]:
    """Runs the cases that have not been run by this code, and writes the reports; the cases that differ."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.environ[POOL] = "NullPool"  # the store's file is another one after each case
    place = Place(folder.resolve(), settings)
    code = _digest(f"{manifest.code_version()} {list(settings)}".encode())
    stamp = place.folder / "code"
    if not stamp.exists() or stamp.read_text() != code:
        leave_undisturbed(place)
        stamp.write_text(code)
    place.put_back(END)
    reference = outcome(place)
    reports.mkdir(parents=True, exist_ok=True)
    written = reports / "kill.json"
    found = [r for r in (json.loads(written.read_text()) if written.exists() else []) if r["code"] == code]
    done = {r["case"] for r in found}
    left = [case for case in cases if str(case) not in done]
    began = time.monotonic()
    for number, case in enumerate(left):
        found.append({**run(place, case, reference), "code": code})
        written.write_text(json.dumps(found, indent=1) + "\n")
        (reports / "kill.md").write_text(page(found, reference, len(cases)))
        said = "identical" if found[-1]["identical"] else f"DIFFERS ({found[-1]['note']})"
        minutes = minutes_left(place, left, number + 1, time.monotonic() - began)
        print(f"{len(found):3}/{len(cases)}  {case}: {said}; about {minutes:.0f} min left", flush=True)
    return [f"{r['case']}: {r['note']}" for r in found if not r["identical"]]


def run(place: Place, case: Case, reference: Outcome) -> dict[str, Any]:
    """One case: killed, run again, compared."""
    killed = kill(place, case)
    seen = seen_by_readers(place.conf)
    wrong, lost, seconds = [f"readers saw {seen}"] if seen not in ("nothing", "all") else [], 0, 0.0
    try:
        seconds = place.run(*NIGHT, log="rerun.log")
    except RuntimeError as error:
        kept = shutil.copy(place.folder / "rerun.log", place.folder / f"failed {case}.log")
        wrong.append(f"the rerun failed (all of it: {kept}): {error}")
    else:
        now = outcome(place)
        wrong += differences(reference, now) + [f"left over: {left}" for left in leftovers(place.conf)]
        wrong += not_resumed(case, (place.folder / "rerun.log").read_text())
        lost = num_lost(reference, now)
    return {
        "case": str(case),
        "killed_at": killed.at,
        "rerun_seconds": round(seconds, 1),
        "identical": not wrong,
        "lost_rows": lost,
        "note": "; ".join([f"readers saw {seen} after the kill", *filter(None, [killed.note]), *wrong]),
    }


def not_resumed(case: Case, log: str) -> list[str]:
    """Stages that were whole when the night was killed, and ran again all the same."""
    stages = [START, *nightly.STAGES]
    whole = stages[1 : stages.index(case.stage) + (case.moment == BOUNDARY)]
    return [f"{stage} ran again" for stage in whole if f" {stage}: unchanged, skipped" not in log]


def minutes_left(place: Place, cases: Sequence[Case], num_done: int, seconds: float) -> float:
    """By the undisturbed seconds of the stages that each case runs, at the pace so far."""
    stages = list(nightly.STAGES)
    took = {stage: Watch(place, stage, "killed.log").undisturbed_seconds for stage in stages}

    def cost(case: Case) -> float:
        return 20 + sum(took[s] for s in stages[stages.index(case.stage) if case.stage in stages else 0 :])

    return seconds / sum(map(cost, cases[:num_done])) * sum(map(cost, cases[num_done:])) / 60


def page(found: Sequence[Mapping[str, Any]], reference: Outcome, num_cases: int) -> str:
    """reports/kill.md."""
    rows = sum(map(len, reference.rows.values()))
    same, lost = sum(r["identical"] for r in found), sum(r["lost_rows"] for r in found)
    run_so_far = f"All {num_cases} cases" if len(found) == num_cases else f"{len(found)} of {num_cases} cases"
    lines = [
        "# A night killed and run again",
        "",
        f"`make kill-test`: a night of {USERS:,} users, every part real, is killed with SIGKILL (the driver's process",
        "group) at every boundary of its stages and at three moments inside each, and run again by the same command.",
        f"Compared with an undisturbed night: {len(reference.rows)} tables of {rows:,} rows (sorted rows, to the last",
        "bit), models, manifests, figures, the review, and in MLflow the metrics and what `candidate` and `champion`",
        "point at. Files are counted as they appear, of those that the stage leaves; a stage that leaves one is killed",
        f"at a quarter of its time in place of half of its files. {run_so_far} have run: {same} identical, "
        f"{len(found) - same} different, {lost:,} rows lost.",
        "",
        "| killed at | what the stage had done | rerun, seconds | identical | lost rows | note |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    return "\n".join([*lines, *fault_table.rows(found, "rerun_seconds"), ""])


if __name__ == "__main__":
    runner.set_up_logging()
    sys.exit("\n".join(main()) or None)
