"""Manifests: what each stage of a night looked at, what it found there, and what it made (DESIGN guarantee 3).

Whatever a stage reads through its Night is a look: a setting, days of an input table, a night of an output table, a
model, another stage's notes. A stage that would find everything as it did then would make the same again, so it is
skipped (verifying traces, Mokhov, Mitchell & Peyton Jones 2018). A manifest lies in
<warehouse>/_manifests/ds=D/<stage>.json while what the stage made is whole: it goes before the stage runs.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from almmta_spark import __version__, config, pseudonyms, spark_tables, storage, tables
from almmta_spark.config import Config
from almmta_spark.night_log import Drafts
from almmta_spark.storage import Spark

NOTHING = "nothing"
"""What a look finds where there is nothing."""
NO_MATTER = ("warehouse", "report_file", "log_format", "spark", "publishing")
"""Settings that decide where and how a stage runs, and none of its rows."""
Manifest = Mapping[str, Any]


# ---- on storage -----------------------------------------------------------------------------------------------------


def folder(conf: Config, ds: str) -> str:
    """Where a night's manifests are."""
    return storage.join(conf.warehouse, "_manifests", f"ds={ds}")


def url(conf: Config, ds: str, stage: str) -> str:
    """Where the manifest of one stage is."""
    return storage.join(folder(conf, ds), f"{stage}.json")


def read(spark: Spark, conf: Config, ds: str, stage: str) -> Manifest | None:
    """None where the stage has not run to its end."""
    text = storage.read_text(spark, url(conf, ds, stage))
    return None if text is None else cast(Manifest, json.loads(text))


def manifests(spark: Spark, conf: Config, ds: str) -> list[dict[str, Any]]:
    """The night's manifests in the order in which the stages ran."""
    names = [n for n in storage.names(spark, folder(conf, ds)) if n[0] != "."]
    texts = [storage.read_text(spark, storage.join(folder(conf, ds), n)) for n in names]
    return sorted((json.loads(t) for t in texts if t), key=lambda m: str(m["started"]))


# ---- looks ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Where a look looks."""

    spark: Spark
    conf: Config
    drafts: Drafts = field(default_factory=dict)

    def find(self, look: str) -> str:
        """What a look, `kind what ...`, finds now: a fingerprint, or NOTHING."""
        kind, *what = look.split(" ")
        return _KINDS[kind](self, *what)

    def setting(self, key: str) -> str:
        """Digest of a setting, `section.key`, or of a whole section."""
        value: Any = self.conf
        for name in key.split("."):
            value = getattr(value, name, None)
        return config.digest(value)[:16]

    def code(self) -> str:
        """Of the package and the jobs."""
        return code_version()

    def days(self, table: str, *days: str) -> str:
        """Fingerprint of an input table's files on these days."""
        return spark_tables.fingerprint(self.spark, self.conf, tables.BY_NAME[table], days)

    def snapshot(self, table: str, not_after: str) -> str:
        """The same of a snapshot table's newest day that is not after another."""
        days = [d for d in spark_tables.input_days(self.spark, self.conf, tables.BY_NAME[table]) if d <= not_after]
        return self.days(table, days[-1]) if days else NOTHING

    def pseudonyms(self) -> str:
        """Which key ids of people are hashed with, if any."""
        key = pseudonyms.key_of(self.conf)
        return pseudonyms.fingerprint(key) if key else NOTHING

    def night(self, table: str, ds: str) -> str:
        """Fingerprint of a table's version that readers of the night see."""
        found = spark_tables.published(self.spark, self.conf, tables.BY_NAME[table], ds, self.drafts)
        return found.fingerprint if found else NOTHING

    def version(self, table: str, ds: str, version: str) -> str:
        """The same of one version by name, seen by readers or not."""
        found = spark_tables.card(self.spark, self.conf, tables.BY_NAME[table], ds, version)
        return found.fingerprint if found else NOTHING

    def model(self, ds: str, variant: str) -> str:
        """Digest of a trained model."""
        text = storage.read_text(self.spark, storage.join(model_folder(self.conf, ds, variant), "model.json"))
        return str(json.loads(text)["digest"]) if text else NOTHING

    def passed(self, ds: str, variant: str) -> str:
        """Version of the night's own model, where the night's gate let it through."""
        return self._made(ds, "gate", f"passed {ds} {variant}")

    def served(self, ds: str, variant: str) -> str:
        """The model that speaks for the night, as its gate has named it: the night that trained it, and its version."""
        return self._made(ds, "gate", f"served {ds} {variant}")

    def champion(self, ds: str, variant: str) -> str:
        """The newest model of an earlier night that passed its gate and is still there: its night and version."""
        folders = storage.names(self.spark, storage.join(self.conf.warehouse, "_manifests"))
        nights = sorted(n.removeprefix("ds=") for n in folders if n.startswith("ds="))
        for night in reversed(nights[: bisect_left(nights, ds)]):
            version = self.passed(night, variant)
            if version != NOTHING and version == self.model(night, variant):
                return f"{night} {version}"
        return NOTHING

    def _made(self, ds: str, stage: str, look: str) -> str:
        found = read(self.spark, self.conf, ds, stage)
        return str(found["made"].get(look, NOTHING)) if found else NOTHING

    def notes(self, ds: str, stage: str) -> str:
        """Digest of what an earlier stage noted in its manifest."""
        found = read(self.spark, self.conf, ds, stage)
        return config.digest(found["notes"])[:16] if found else NOTHING

    def others(self, ds: str, stage: str) -> str:
        """All manifests but the stage's."""
        found = [m for m in manifests(self.spark, self.conf, ds) if m["stage"] != stage]
        return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]


_KINDS: Mapping[str, Callable[..., str]] = {
    kind.__name__: kind
    for kind in (
        *(Place.setting, Place.code, Place.days, Place.snapshot, Place.pseudonyms, Place.night, Place.version),
        *(Place.model, Place.passed, Place.served, Place.champion, Place.notes, Place.others),
    )
}


_INPUT_LOOKS = ("days", "snapshot")
_NIGHT_LOOKS = ("night", "version", "model", "passed", "served", "notes")


def model_folder(conf: Config, ds: str, variant: str = "") -> str:
    """Where a night's models are, or one of them."""
    root = storage.join(conf.warehouse, "_models", f"ds={ds}")
    return storage.join(root, variant) if variant else root


@functools.cache
def code_version() -> str:
    """The package's version, and a digest of its and the jobs' sources."""
    root = Path(__file__).parents[1]
    own = [path for path in (root / "almmta_spark").rglob("*.*") if path.suffix in (".py", ".j2", ".css")]
    files = sorted([*own, *(root / "jobs").glob("*.py")])
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    return f"{__version__}+{digest[:12]}"


def traced(conf: Any, saw: Callable[[str], None], prefix: str = "") -> Any:
    """The settings, as they are to whoever reads them; saw is told the key of each one that is read.

    Copies (dataclasses.replace, pickles for the executors) are plain settings, and all that goes into one counts as
    read.
    """
    kind = type(conf)
    names = [f.name for f in dataclasses.fields(conf)]

    def get(self: Any, name: str) -> Any:
        if name not in names:
            return object.__getattribute__(self, name)
        value = getattr(conf, name)
        if dataclasses.is_dataclass(value):
            return traced(value, saw, f"{prefix}{name}.")
        saw(f"{prefix}{name}")
        return value

    def plain(self: Any, protocol: object) -> Any:
        return kind, tuple(getattr(self, name) for name in names)

    body = {"__getattribute__": get, "__reduce_ex__": plain, "__class__": property(lambda self: kind)}
    return object.__new__(type(f"Traced{kind.__name__}", (kind,), body))


# ---- what has changed -----------------------------------------------------------------------------------------------


_WORDS = {
    "setting": "{0}",
    "code": "the code",
    "days": "{0} of {1}",
    "snapshot": "the snapshot of {0}",
    "pseudonyms": "the key of the pseudonyms",
    "night": "{0} of {1}",
    "version": "version {2} of {0}",
    "model": "model {1}",
    "passed": "whether {1} of {0} passed the gate",
    "served": "the model that speaks for {0}",
    "champion": "the champion before {0}",
    "notes": "the notes of {1}",
    "others": "the other stages",
}


def changed(found: Manifest, place: Place) -> list[str]:
    """Looks that would find something else now, what was made and is gone among them; empty: nothing to do again."""
    then: Mapping[str, str] = {**found["looked"], **found["made"]}
    return [look for look, fingerprint in then.items() if place.find(look) != fingerprint]


def late(spark: Spark, conf: Config, ds: str) -> list[str]:
    """Looks at input days and snapshots that would find other files now than when the night ran; empty where it never
    ran. Other settings and other code are no late rows."""
    return _differ(spark, conf, ds, lambda kind, what: kind in _INPUT_LOOKS)


def overtaken(spark: Spark, conf: Config, ds: str) -> list[str]:
    """The same of all that is not the night's own: input, other nights' tables and models, who is the champion."""
    return _differ(
        spark,
        conf,
        ds,
        lambda kind, what: kind in (*_INPUT_LOOKS, "champion") or (kind in _NIGHT_LOOKS and ds not in what),
    )


def _differ(spark: Spark, conf: Config, ds: str, wanted: Callable[[str, Sequence[str]], bool]) -> list[str]:
    """Looks of a night's stages, of the kinds wanted, that would find something else now."""
    place = Place(spark, conf)
    then: dict[str, str] = {}
    for found in manifests(spark, conf, ds):
        then |= {look: found["looked"][look] for look in found["looked"] if wanted(*_parts(look))}
    return [look for look, fingerprint in then.items() if place.find(look) != fingerprint]


def _parts(look: str) -> tuple[str, list[str]]:
    kind, *what = look.split(" ")
    return kind, what


def told(looks: Sequence[str]) -> str:
    """Looks in words, the first three of them."""
    words = [_WORDS[kind].format(*what) for kind, *what in (look.split(" ") for look in looks[:3])]
    return ", ".join(words) + (f" and {len(looks) - 3} more" if len(looks) > 3 else "")


def verdict(found: Manifest | None, place: Place) -> str:
    """Why a stage must run; empty where it need not."""
    if found is None:
        return "it has not run to its end"
    looks = changed(found, place)
    return f"changed: {told(looks)}" if looks else ""


def made_by(found: Manifest) -> Mapping[str, str]:
    """Version of each table that the stage wrote."""
    return {table: out["version"] for table, out in found["outputs"].items()}


def plan(spark: Spark, conf: Config, nights: Sequence[str], stages: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """(night, stage, what will be done and why), in order, as far as it can be told before anything runs."""
    remade: set[str] = set()
    for ds in nights:
        draft: dict[str, str] = {}
        unknown = False
        for stage in stages:
            found = read(spark, conf, ds, stage)
            why = verdict(found, Place(spark, conf, {ds: draft}))
            if found is not None:
                draft |= made_by(found)
            reads = [look for look in (found or {}).get("looked", ()) if look in remade]
            if why:
                yield ds, stage, f"runs, {why}"
            elif reads or unknown:
                yield ds, stage, f"runs if it finds other rows in {told(reads) or 'what the stages before it make'}"
            else:
                yield ds, stage, "unchanged, skipped"
                continue
            unknown |= found is None
            remade |= _makes(found, ds, stage, stages)


def _makes(found: Manifest | None, ds: str, stage: str, stages: Sequence[str]) -> set[str]:
    """Looks at what the stage makes, as far as its last run tells."""
    made = set() if found is None else {f"night {table} {ds}" for table in found["outputs"]} | set(found["made"])
    return made | {f"notes {ds} {stage}"} | {f"others {ds} {other}" for other in stages if other != stage}
