"""One user, from raw rows to attribution rows, as the golden files and the README show it."""

import re
from pathlib import Path

import pytest

from tests.e2e.conftest import DS
from tests.golden import walk

NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
FILES = sorted(p.name for p in walk.FOLDER.glob("*.txt"))


@pytest.fixture(scope="module")
def steps(spark, night):
    return walk.steps(spark, night, DS)


def test_there_is_a_file_for_every_step(steps):
    assert sorted(steps) == FILES


@pytest.mark.parametrize("name", [f for f in FILES if f != walk.MODELLED])
def test_a_step_is_what_its_file_says(steps, name):
    assert steps[name] == (walk.FOLDER / name).read_text()


def test_the_attribution_is_what_its_file_says_up_to_rounding(steps):
    expected = (walk.FOLDER / walk.MODELLED).read_text()
    assert NUMBER.sub("#", steps[walk.MODELLED]).split() == NUMBER.sub("#", expected).split()
    found, wanted = (list(map(float, NUMBER.findall(t))) for t in (steps[walk.MODELLED], expected))
    assert found == pytest.approx(wanted, rel=0.02, abs=2e-4)


def test_the_readme_shows_the_walk():
    readme = Path("README.md").read_text()
    assert all((walk.FOLDER / name).read_text() in readme for name in FILES)
