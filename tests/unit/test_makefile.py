"""`make env` with a Python that is not 3.11: said before anything is made, and mended by another Python."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]

FAKE = """#!/bin/sh
case "$1" in
  -c) exit {wrong} ;;
  -m) [ "$2" = venv ] && mkdir -p "$4/bin" && cp "$0" "$4/bin/python" && cp /bin/true "$4/bin/pip" ;;
esac
"""


def python(path: Path, wrong: int) -> Path:
    """What make sees of a Python: whether its version is the wrong one, and a venv it makes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(FAKE.format(wrong=wrong))
    path.chmod(0o755)
    return path


def make_env(python: Path, venv: Path) -> subprocess.CompletedProcess[str]:
    command = ["make", "env", f"PYTHON={python}", f"VENV={venv}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_mlflows_pages_are_served_on_loopback_alone():
    command = ["make", "--dry-run", "ui", "VENV=nowhere"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    (ui,) = [line for line in done.stdout.splitlines() if "mlflow ui" in line]
    assert "--host 127.0.0.1 " in ui


def test_the_audit_fails_where_a_pin_could_not_be_looked_up():
    command = ["make", "--dry-run", "audit", "VENV=nowhere"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    (audit,) = [line for line in done.stdout.splitlines() if "bin/pip-audit" in line]
    assert "--strict" in audit and "conf/constraints.txt" in audit


def test_another_python_is_refused_before_anything_is_made(tmp_path):
    done = make_env(python(tmp_path / "python3.13", wrong=1), tmp_path / "venv")
    assert done.returncode != 0
    assert "make PYTHON=/path/to/python3.11" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_a_folder_that_another_python_left_is_made_anew(tmp_path):
    python(tmp_path / "venv/bin/python", wrong=1)
    done = make_env(python(tmp_path / "python3.11", wrong=0), tmp_path / "venv")
    assert done.returncode == 0, done.stderr
    assert "exit 0" in (tmp_path / "venv/bin/python").read_text()
    assert (tmp_path / "venv/.installed").exists()
