"""No name, id or setting is ever spliced into SQL: text of it is constant but for the statements of spark_tables.py."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TAKES_SQL = {"sql", "expr", "selectExpr", "where", "filter"}
STATEMENTS = ROOT / "almmta_spark" / "spark_tables.py"
"""Writes of its own names, of columns as tables.py declares them, and of quoted text (spark_tables._sql)."""
FILES = [p for folder in ("almmta_spark", "jobs") for p in sorted((ROOT / folder).rglob("*.py")) if p != STATEMENTS]


def spliced(source: str) -> list[int]:
    """Lines on which SQL is put together out of text."""
    return [
        call.lineno
        for call in ast.walk(ast.parse(source))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in TAKES_SQL
        for argument in call.args
        if any(
            isinstance(part, ast.JoinedStr)
            or (isinstance(part, ast.BinOp) and isinstance(part.op, ast.Mod | ast.Add) and has_text(part))
            for part in ast.walk(argument)
        )
    ]


def has_text(part: ast.BinOp) -> bool:
    return any(isinstance(side, ast.Constant) and isinstance(side.value, str) for side in (part.left, part.right))


def test_what_is_looked_for():
    assert spliced('df.where(f"a = {b}")\ndf.where("a = 1")\nF.expr("a = \'%s\'" % b)\nspark.sql("DROP " + b)') == [
        1,
        3,
        4,
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_sql_is_constant_text(path):
    assert not spliced(path.read_text())
