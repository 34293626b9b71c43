"""A page in a real headless Chromium: what it looks like, and what the browser measures of it."""

from __future__ import annotations

import base64
import html
import itertools
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needed = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
_QUIET = ("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "hide-scrollbars")
_QUIET += ("disable-background-networking", "disable-component-update", "disable-sync", "disable-dev-shm-usage")

# Every text with its size and its contrast, whatever it stands on; what is wider than its place.
_MEASURE = """
const channel = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const numbers = text => text.match(/[0-9.]+/g).map(Number);
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const ground = e => {
  for (; e; e = e.parentElement) {
    const c = numbers(getComputedStyle(e).backgroundColor);
    if (c.length == 3 || c[3] > 0) return c;
  }
  return [255, 255, 255];
};
const texts = [];
for (const e of document.body.querySelectorAll("*")) {
  const text = [...e.childNodes].filter(n => n.nodeType == 3).map(n => n.data.trim()).join("");
  if (!text || !e.getClientRects().length || e.closest("script")) continue;
  const style = getComputedStyle(e), svg = e.closest("svg");
  const scale = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
  const [a, b] = [light(numbers(svg ? style.fill : style.color)), light(ground(e))].sort((x, y) => y - x);
  texts.push({text: text, size: parseFloat(style.fontSize) * scale, contrast: (a + 0.05) / (b + 0.05)});
}
const wide = [document.documentElement, ...document.querySelectorAll(".scroll, td, th")]
  .filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.tagName + " " + e.innerText.slice(0, 60));
const first = document.querySelector(".banner").getBoundingClientRect();
const found = document.createElement("pre");
found.id = "measured";
found.textContent = JSON.stringify({texts: texts, wide: wide, bannerBottom: first.bottom});
document.body.append(found);
"""


def _run(folder: Path, *arguments: str) -> str:
    flags = [f"--{flag}" for flag in (*_QUIET, f"user-data-dir={folder / 'profile'}")]
    assert CHROMIUM is not None
    done = subprocess.run([CHROMIUM, *flags, *arguments], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def screenshot(page: Path, width: int, height: int, folder: Path) -> Path:
    """PNG of the page in a window of that size."""
    png = folder / f"{page.stem}-{width}.png"
    _run(folder, f"--window-size={width},{height}", f"--screenshot={png}", page.as_uri())
    return png


def inked(png: Path, bands: int = 10) -> list[float]:
    """Share of dark pixels in each band of a screenshot, from the top."""
    with Image.open(png) as picture:
        pixels = np.asarray(picture.convert("L"))
    return [float((band < 160).mean()) for band in np.array_split(pixels, bands)]


def printed(page: Path, folder: Path) -> bytes:
    """The page as a PDF."""
    pdf = folder / f"{page.stem}.pdf"
    _run(folder, "--no-pdf-header-footer", f"--print-to-pdf={pdf}", page.as_uri())
    return pdf.read_bytes()


def measured(page: Path, width: int, folder: Path) -> dict[str, Any]:
    """texts (each with its size in pixels and its contrast), wide (what does not fit its place), bannerBottom."""
    text = re.sub(r'<meta http-equiv="Content-Security-Policy".*?>', "", page.read_text())  # it forbids scripts
    copy = folder / f"measured-{width}.html"
    copy.write_text(text.replace("</body>", f"<script>{_MEASURE}</script></body>"))
    dom = _run(folder, f"--window-size={width},900", "--dump-dom", copy.as_uri())
    found = re.search(r'<pre id="measured">(.*?)</pre>', dom, re.DOTALL)
    assert found, dom[-500:]
    measures: dict[str, Any] = json.loads(html.unescape(found[1]))
    return measures


# ---- a page that draws itself: driven over Chromium's own debugging pipe ---------------------------------------------


class Tab:
    """A tab of a running browser. Its scripts run in real time; it is asked until it says what is waited for."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing, self._read, self._numbers = reading, writing, b"", itertools.count(1)
        self._frames: list[str] = []
        self._session = ""
        page = next(t for t in self._ask("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self._session = self._ask("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        self._ask("Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=False, flatten=True)

    def open(self, url: str, *until: str, seconds: float = 90.0) -> str:
        """What the page and the frames in it say, once they say all that is waited for."""
        self._ask("Page.navigate", url="about:blank")
        self._frames.clear()
        self._ask("Page.navigate", url=url)
        end = time.monotonic() + seconds
        while not all(text in (said := self.says()) for text in until):
            assert time.monotonic() < end, f"{url} does not say {until} but {said}"
            time.sleep(0.3)
        time.sleep(0.5)  # what is there is painted
        return self.says()

    def says(self) -> str:
        texts = [self.value("document.body.innerText", session) for session in (self._session, *self._frames)]
        return " ".join(" ".join(text or "" for text in texts).split())

    def value(self, script: str, session: str = "") -> Any:
        """Of a script in the page, or in the frame of a session; None where that is gone."""
        found = self._ask("Runtime.evaluate", session or self._session, expression=script, returnByValue=True)
        return found.get("result", {}).get("value")

    def wait(self, script: str, seconds: float = 90.0) -> Any:
        """The value of a script, once it is true."""
        end = time.monotonic() + seconds
        while not (found := self.value(script)):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.3)
        return found

    def in_frames(self, script: str) -> list[Any]:
        return [self.value(script, session) for session in self._frames]

    def screenshot(self, png: Path) -> Path:
        png.write_bytes(base64.b64decode(self._ask("Page.captureScreenshot", format="png")["data"]))
        return png

    def _ask(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """The answer; empty where the session is no more."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if session or self._session:
            message["sessionId"] = session or self._session
        os.write(self._writing, json.dumps(message).encode() + b"\0")
        while True:
            found = self._next()
            if found.get("id") == number:
                return found.get("result", {})
            of = found.get("params", {})
            if found.get("method") == "Target.attachedToTarget" and of["targetInfo"]["type"] == "iframe":
                self._frames.append(of["sessionId"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            more = os.read(self._reading, 1 << 20)
            assert more, "the browser is gone"
            self._read += more
        message, _, self._read = self._read.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


@contextmanager
def tab(width: int, height: int, folder: Path) -> Iterator[Tab]:
    """A tab of that size in a browser of its own."""
    (their_reading, our_writing), (our_reading, their_writing) = os.pipe(), os.pipe()
    own = ("remote-debugging-pipe", f"window-size={width},{height}", f"user-data-dir={folder / 'profile'}")
    wired = f'exec "$0" "$@" 3<&{their_reading} 4>&{their_writing}'  # the pipe is expected there
    command = ["bash", "-c", wired, str(CHROMIUM), *[f"--{flag}" for flag in (*_QUIET, *own)], "about:blank"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, pass_fds=(their_reading, their_writing), **quiet)
    os.close(their_reading)
    os.close(their_writing)
    try:
        yield Tab(our_reading, our_writing)
    finally:
        process.terminate()
        process.wait(timeout=60)
        os.close(our_writing)
        os.close(our_reading)
