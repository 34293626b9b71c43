"""The notebooks as files: pairs in step, nothing defined in them, nothing left in them; and the night they open."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path

import jupytext
import pytest
import yaml

from almmta_spark import config, notebook, runner, spark_tables, tables
from almmta_spark.config import Config

FOLDER = Path("notebooks")
SCRIPTS = sorted(FOLDER.glob("*.py"))
MAGIC = re.compile(r"^%.*$", re.MULTILINE)
every = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)


def test_every_notebook_has_its_script():
    assert [p.stem for p in SCRIPTS] == ["kuairand", "nightly_review", "the_method"]
    assert [p.stem for p in sorted(FOLDER.glob("*.ipynb"))] == [p.stem for p in SCRIPTS]


@every
def test_a_notebook_and_its_script_are_in_step(script):
    """Where they are not: jupytext --sync notebooks/*.py"""
    page, text = jupytext.read(script.with_suffix(".ipynb")), jupytext.read(script)
    assert [(c.cell_type, c.source) for c in page.cells] == [(c.cell_type, c.source) for c in text.cells]
    assert page.metadata.jupytext.formats == text.metadata.jupytext.formats == "ipynb,py:percent"


@every
def test_a_notebook_is_kept_without_what_it_showed(script):
    code = [c for c in jupytext.read(script.with_suffix(".ipynb")).cells if c.cell_type == "code"]
    assert code and all(not c.outputs and c.execution_count is None for c in code)


@every
def test_a_notebook_defines_nothing(script):
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    for cell in jupytext.read(script).cells:
        if cell.cell_type == "code":
            found = [node for node in ast.walk(ast.parse(MAGIC.sub("", cell.source))) if isinstance(node, definitions)]
            assert not found, cell.source


@every
def test_a_notebook_has_more_pictures_and_tables_than_words(script):
    cells = jupytext.read(script).cells
    markdown = [re.sub(r"^\|.*$", "", c.source, flags=re.MULTILINE) for c in cells if c.cell_type == "markdown"]
    words = [len(text.split()) for text in markdown]
    assert max(words) < 80 and sum(words) < 60 * sum(c.cell_type == "code" for c in cells)


# ---- the night that they open ----------------------------------------------------------------------------------------


@pytest.fixture
def conf(tmp_path) -> Config:
    return replace(Config(), warehouse=str(tmp_path / "warehouse"))


def test_without_a_night_a_notebook_says_what_to_run(conf, tmp_path, monkeypatch):
    file = tmp_path / "conf.yaml"
    file.write_text(yaml.safe_dump(config.to_dict(conf)))
    monkeypatch.setenv("ALMMTA_CONF", str(file))
    monkeypatch.setattr(runner, "session", None)  # must not be asked for
    with pytest.raises(ValueError, match=r"no night is published in .*warehouse, .*: make kuairand DATA=folder"):
        notebook.night("conf/kuairand.yaml", made_by="make kuairand DATA=folder")


def test_a_notebook_opens_the_newest_night_that_is_published(spark, conf):
    checks = spark.createDataFrame([("a", 1.0, 0.5, "pass", "")], tables.DIAGNOSTICS.ddl)
    for ds in ("2026-01-14", "2026-01-15"):
        spark_tables.write(checks, conf, tables.DIAGNOSTICS, ds)
    Path(spark_tables.folder(conf, tables.DIAGNOSTICS, "2026-01-16")).mkdir()  # a run that never published
    assert notebook._newest(None, conf, "") == "2026-01-15"
