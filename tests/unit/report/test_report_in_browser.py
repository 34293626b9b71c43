"""The page as a browser lays it out: legible, nothing cut off, on screens and on paper."""

import re

import numpy as np
import pytest
from PIL import Image

from almmta_spark.report import page
from tests import browser
from tests.unit.report.nights import CHECKS, auuc, check, contents, journey, night

pytestmark = [browser.needed, pytest.mark.long]
ADVICE = "A long piece of advice with signals.NAME.anchor and journeys.outcome_window_hours in it. " * 4


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A page with much on it: methods, buckets, checks, nights, a full journey."""
    methods = ("latent", "latent_calibrated", "backdoor", "doubly_robust", "last_touch", "position_based")
    areas = [auuc(m, protocol, b) for m in methods for protocol in ("exact", "observational") for b in range(-1, 5)]
    checks = [*CHECKS, *(check(f"a_check_with_a_long_name/bucket={b}", "warn", advice=ADVICE) for b in range(5))]
    nights = [night(f"2026-01-{day:02d}", areas) for day in range(1, 15)]
    full = journey(*np.linspace(-0.01, 0.03, 12))
    many = contents(*nights, night(areas=areas, checks=checks), journeys=(("A rule", full),) * 4, overlap_picture=None)
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(page.html(many))
    return file


@pytest.mark.parametrize("width", [1280, 1920])
def test_all_text_is_legible_and_in_its_place(path, width, tmp_path):
    found = browser.measured(path, width, tmp_path)
    assert len(found["texts"]) > 300 and found["wide"] == []
    assert min(t["size"] for t in found["texts"]) >= 11
    assert [t for t in found["texts"] if t["contrast"] < 4.5] == []
    assert found["bannerBottom"] < 400  # the verdict is read without scrolling


@pytest.mark.parametrize("width", [1280, 1920])
def test_the_screen_is_not_empty(path, width, tmp_path):
    with Image.open(browser.screenshot(path, width, 1000, tmp_path)) as picture:
        pixels = np.asarray(picture.convert("L"), float)
    assert picture.size == (width, 1000)
    bands = (pixels < 160).reshape(10, -1).mean(1)
    assert (bands > 0.002).all() and pixels.mean() > 200


def test_on_paper_the_verdict_has_a_page_and_the_rest_a_few(path, tmp_path):
    pdf = browser.printed(path, tmp_path)
    pages = len(re.findall(rb"/Type\s*/Page\b", pdf))
    assert 3 <= pages <= 14
