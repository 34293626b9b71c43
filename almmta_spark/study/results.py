"""What nights of the study have left behind: one file of results a night, by which a later run knows what is done.

A night's results hold for the settings and the code that made them. Their digests stand in the file and in its name.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from almmta_spark import config
from almmta_spark.config import Config
from almmta_spark.study.records import Key, Record

NO_PART = (
    *("study", "importers", "java_home.py", "tracking.py", "summary.py"),
    *("truth.py", "figures.py", "nightly.py", "publish.py", "import_kuairand.py"),
)
"""What of the package and of the jobs decides no figure of a simulated night."""


@dataclass(frozen=True)
class NightResults:
    """The figures of one night and who they are of."""

    key: Key
    digest: str
    """Of settings and code, methods apart."""
    code: str
    methods: tuple[str, ...]
    seconds: float
    records: tuple[Record, ...]

    def merged(self, other: NightResults) -> NightResults:
        """These and another's, of the same night: the other's figures where both have one."""
        theirs = {(r.method, r.metric, r.bucket) for r in other.records}
        kept = tuple(r for r in self.records if (r.method, r.metric, r.bucket) not in theirs)
        methods = tuple(dict.fromkeys((*self.methods, *other.methods)))
        seconds = self.seconds + other.seconds
        return replace(other, methods=methods, seconds=seconds, records=(*kept, *other.records))


@dataclass(frozen=True)
class Results:
    """The folder of results; one process writes it."""

    folder: Path

    def find(self, key: Key, digest: str) -> NightResults | None:
        """What is kept of a night in these settings and by this code; None: nothing."""
        path = self._path(key, digest)
        return _load(path) if path.is_file() else None

    def add(self, found: NightResults) -> None:
        """Keeps it, together with what the same night has left before."""
        before = self.find(found.key, found.digest)
        whole = before.merged(found) if before else found
        path = self._path(found.key, found.digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(f".{os.getpid()}")
        beside.write_text(json.dumps(asdict(whole)))
        os.replace(beside, path)

    def all(self) -> Iterator[NightResults]:
        """Everything that is kept."""
        yield from (_load(path) for path in sorted(self.folder.glob("*.json")))

    def _path(self, key: Key, digest: str) -> Path:
        return self.folder / f"{name(key)}-{digest[:12]}.json"


def name(key: Key) -> str:
    """For files and folders."""
    return f"{key.world.replace(':', '_')}-n{key.n}-seed{key.seed}"


def _load(path: Path) -> NightResults:
    raw: dict[str, Any] = json.loads(path.read_text())
    records = tuple(Record(**r) for r in raw.pop("records"))
    return NightResults(**(raw | {"key": Key(**raw["key"]), "methods": tuple(raw["methods"]), "records": records}))


def missing(found: NightResults | None, methods: Iterable[str]) -> list[str]:
    """Those of the methods that the night has no results of."""
    done = set(found.methods) if found else set()
    return [m for m in methods if m not in done]


def night_digest(conf: Config, code: str) -> str:
    """Of all that decides a night's figures, but for which methods it compares and where its tables lie."""
    same = dataclasses.replace(
        conf,
        warehouse="warehouse",
        report_file="",
        spark={},
        training=dataclasses.replace(conf.training, variants=("latent",)),
        attribution=dataclasses.replace(conf.attribution, baselines=()),
    )
    return hashlib.sha256(f"{config.digest(same)} {code}".encode()).hexdigest()


def code_digest(root: Path) -> str:
    """SHA-256 of the code under root (package and jobs) that decides figures, comments and docstrings left out."""
    sha = hashlib.sha256()
    for path in sorted([*(root / "almmta_spark").rglob("*.py"), *(root / "jobs").glob("*.py")]):
        parts = path.relative_to(root).parts
        if parts[1] not in NO_PART:
            sha.update(f"{'/'.join(parts)}\n{_without_words(path.read_text())}".encode())
    return sha.hexdigest()


def _without_words(source: str) -> str:
    """The syntax tree without docstrings: what a comment or a better sentence does not change."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [n for n in body if not _is_text(n)]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _is_text(node: ast.AST) -> bool:
    """A string that stands alone: a docstring, or the sentence under a field."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
