"""The architecture as a test: who may import whom (README, "Layout")."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "almmta_spark"
BASE = {"config", "tables", "example_spec"}  # plain Python, no Spark, no torch
SPARK_BASE = {*BASE, "spark_tables", "storage", "night_log"}
DATA = {"logs", "journeys", "propensity", "pairs", "examples"}
MEASURE = {"causal", "baselines", "evaluation"}

MAY_IMPORT = {
    "config": set(),
    "tables": set(),
    "example_spec": set(),
    "java_home": set(),
    "storage": set(),
    "redaction": set(),
    "spark_metrics": set(),
    "log_lines": {"config", "redaction"},
    "night_log": {"config", "storage", "tables"},
    "pseudonyms": {"config"},
    "spark_tables": {*BASE, "storage", "night_log", "pseudonyms"},
    "arrivals": SPARK_BASE,
    "manifest": {*SPARK_BASE, "pseudonyms"},
    "reruns": {*SPARK_BASE, "manifest"},
    "event_days": {*SPARK_BASE, "manifest", "logs"},
    "runner": {*SPARK_BASE, "manifest", "java_home", "log_lines", "spark_metrics"},
    "tracking": {*SPARK_BASE, "runner", "redaction", "inference"},
    "summary": {*SPARK_BASE, "runner", "redaction", "spark_metrics", "tracking"},
    "notebook": {*SPARK_BASE, "runner"},
    "causal": set(),
    "study": {*BASE, "causal", "evaluation"},
    "simulator": {*BASE, "spark_tables"},
    "importers": {*SPARK_BASE},
    "model": {"config", "example_spec"},
    "training": {"config", "example_spec", "tables", "model"},
    "inference": {*SPARK_BASE, "model", "examples", "causal"},
    "baselines": {*SPARK_BASE, "causal"},
    "evaluation": {*SPARK_BASE, "causal"},
    "report": {"tables", "evaluation"},
    **{name: {*SPARK_BASE, *DATA, "causal"} for name in DATA},
}


def imports(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def unit(path: Path) -> str:
    parts = path.relative_to(ROOT / PACKAGE).parts
    return parts[0].removesuffix(".py")


def own_imports(path: Path) -> Iterator[tuple[str, int]]:
    for name, line in imports(path):
        parts = name.split(".")
        if parts[0] == PACKAGE and len(parts) > 1 and parts[1] != "__version__":
            yield parts[1], line


MODULES = sorted(p for p in (ROOT / PACKAGE).rglob("*.py") if unit(p) != "__init__")


def test_every_part_of_the_package_has_a_place_in_the_architecture():
    assert {unit(p) for p in MODULES} <= set(MAY_IMPORT)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT / PACKAGE)))
def test_imports_follow_the_arrows(path):
    here = unit(path)
    wrong = [(name, line) for name, line in own_imports(path) if name != here and name not in MAY_IMPORT[here]]
    assert not wrong, f"{path.relative_to(ROOT)} may not import {wrong}"


@pytest.mark.parametrize(
    ("parts", "library"),
    [
        (("model", "training"), "pyspark"),
        (("causal",), "pyspark"),
        (("causal",), "torch"),
        (("study",), "pyspark"),
        (("study",), "torch"),
        (("evaluation",), "torch"),
        (("baselines",), "torch"),
        ((*sorted(DATA),), "torch"),
        (("simulator",), "torch"),
    ],
)
def test_a_library_stays_where_it_belongs(parts, library):
    wrong = [
        (str(p.relative_to(ROOT)), line)
        for p in MODULES
        if unit(p) in parts
        for name, line in imports(p)
        if name.split(".")[0] == library
    ]
    assert not wrong


def test_petastorm_is_known_to_the_loader_alone():
    users = {str(p.relative_to(ROOT / PACKAGE)) for p in MODULES if any("petastorm" in n for n, _ in imports(p))}
    assert users <= {"training/loader.py"}


def test_only_one_job_trains_and_only_one_simulates():
    for unit_name, owner in (("training", "train.py"), ("simulator", "simulate.py")):
        users = {p.name for p in (ROOT / "jobs").glob("*.py") if unit_name in {n for n, _ in own_imports(p)}}
        assert users <= {owner}


def public(scope: ast.Module | ast.ClassDef, owner: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    """Functions and classes that others may use, and the classes' methods; properties read as what they are called."""
    for node in scope.body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        if not any(ast.unparse(decorator).endswith("property") for decorator in node.decorator_list):
            yield owner + node.name, node
        if isinstance(node, ast.ClassDef):
            yield from public(node, f"{node.name}.")


def undocumented(source: str) -> list[str]:
    return [name for name, node in public(ast.parse(source)) if ast.get_docstring(node) is None]


SAMPLE = """
def f(): ...
def _g(): ...
def h():
    "Says."
    def nested(): ...
class A:
    @property
    def a(self): ...
    def b(self): ...
    def _c(self): ...
    def __len__(self): ...
"""


def test_what_is_looked_at_for_a_docstring():
    assert undocumented(SAMPLE) == ["f", "A", "A.b"]


@pytest.mark.parametrize(
    "path", [*MODULES, *sorted((ROOT / "jobs").glob("*.py"))], ids=lambda p: str(p.relative_to(ROOT))
)
def test_everything_public_says_what_it_is(path):
    missing = undocumented(path.read_text())
    assert not missing, f"{path.relative_to(ROOT)}: a docstring is missing in {', '.join(missing)}"
