"""A page in a real headless Chromium: what it looks like, and what the browser measures of it."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
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


def visited(url: str, width: int, height: int, folder: Path, name: str) -> tuple[str, Path]:
    """What a page that draws itself says once it has settled (30 s of its own clock), and its PNG."""
    png = folder / f"{name}-{width}.png"
    settled = ("--virtual-time-budget=30000", f"--screenshot={png}", "--dump-dom")
    dom = _run(folder, f"--window-size={width},{height}", *settled, url)
    text = html.unescape(re.sub(r"<(script|style)\b.*?</\1>|<[^>]+>", " ", dom, flags=re.DOTALL))
    return " ".join(text.split()), png


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
