"""Which nights the nightly job runs."""

from argparse import Namespace

import pytest

from almmta_spark import spark_tables
from jobs.nightly import nights


def asked(ds=None, first=None, last=None):
    return nights(Namespace(ds=ds, first=first, last=last))


def test_a_range_has_every_night_from_first_to_last():
    assert asked(first="2026-01-30", last="2026-02-02") == ["2026-01-30", "2026-01-31", "2026-02-01", "2026-02-02"]
    assert asked(first="2026-01-30", last="2026-01-30") == asked(ds="2026-01-30") == ["2026-01-30"]


@pytest.mark.parametrize("ds", ["2026-1-15", "2026-01-5", "26-01-15", "2026-02-30", "20260115", " 2026-01-15", ""])
def test_a_date_in_another_form_is_refused_with_its_value(ds):
    """An unpadded one would name a folder of its own, and compare wrongly with others."""
    with pytest.raises(ValueError, match=f"of the form YYYY-MM-DD, got '{ds}'"):
        spark_tables.index_ts(ds)


@pytest.mark.parametrize("wrong", [{"ds": "2026-1-15"}, {"first": "2026-1-15", "last": "2026-01-16"}])
def test_the_nightly_job_refuses_it_before_anything_runs(wrong):
    with pytest.raises(ValueError, match="of the form YYYY-MM-DD, got '2026-1-15'"):
        asked(**wrong)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"first": "2026-01-16", "last": "2026-01-15"}, "--from 2026-01-16 must not be after --to 2026-01-15"),
        ({"first": "2026-01-16"}, "--from DATE and --to DATE together"),
        ({"ds": "2026-01-16", "last": "2026-01-16"}, "--from DATE and --to DATE together"),
        ({}, "--from DATE and --to DATE together"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        asked(**options)
