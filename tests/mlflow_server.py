"""A real tracking server on loopback that may be killed and started again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path


class Server:
    """`mlflow server` on a SQLite store in a folder; the port stays the same."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._process = folder, None
        folder.mkdir(parents=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.uri = f"http://127.0.0.1:{free.getsockname()[1]}"

    def start(self) -> None:
        """Returns once it answers."""
        host, port = self.uri.removeprefix("http://").split(":")
        where = ["--host", host, "--port", port, "--workers", "1"]
        store = [
            f"--backend-store-uri=sqlite:///{self.folder}/server.db",
            f"--artifacts-destination={self.folder}/files",
        ]
        with (self.folder / "log").open("a") as log:
            command = [sys.executable, "-m", "mlflow", "server", *where, *store]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        for _ in range(600):
            assert self._process.poll() is None, self._said()
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=5).close()
                return
            except OSError:
                time.sleep(0.2)
        raise AssertionError(self._said())

    def kill(self) -> None:
        """With SIGKILL, its workers too."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _said(self) -> str:
        return (self.folder / "log").read_text()[-2000:]
