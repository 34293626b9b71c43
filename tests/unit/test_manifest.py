"""What a stage looks at, and when it need not run again. Real files, no Spark."""

import json
import os
import pickle
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from almmta_spark import config, manifest, runner, tables
from almmta_spark.config import Config, PairsConfig
from almmta_spark.manifest import Place, changed, plan, traced
from almmta_spark.night_log import Claim, ClaimLost
from tests.nights import written

DS, NEXT = "2026-01-15", "2026-01-16"


def leaves(conf, prefix=""):
    """Every key that holds a value."""
    for name, value in conf.items():
        whole = not isinstance(value, dict) or f"{prefix}{name}" in ("spark", "signals")
        yield from [f"{prefix}{name}"] if whole else leaves(value, f"{prefix}{name}.")


KEYS = sorted(leaves(config.to_dict(Config())))


# ---- settings -------------------------------------------------------------------------------------------------------


@given(st.sets(st.sampled_from(KEYS)))
def test_exactly_the_settings_that_are_read_are_seen_and_have_their_values(wanted):
    plain, seen = Config(), []
    conf = traced(plain, seen.append)
    for key in wanted:
        found, expected = conf, plain
        for name in key.split("."):
            found, expected = getattr(found, name), getattr(expected, name)
        assert found == expected
    assert set(seen) == wanted


def test_a_copy_is_plain_settings_and_all_that_went_into_it_is_seen():
    seen = []
    conf = traced(Config(), seen.append)
    assert isinstance(conf, Config) and replace(conf.pairs, match_threshold=0.5) == PairsConfig(match_threshold=0.5)
    assert set(seen) == {key for key in KEYS if key.startswith("pairs.")} - {"pairs.match_threshold"}
    for whole in (asdict, config.to_dict, lambda c: pickle.loads(pickle.dumps(c))):
        seen.clear()
        copied = whole(conf)
        assert set(seen) == set(KEYS)
        assert copied == whole(Config()) and type(copied) is type(whole(Config()))


# ---- stages ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def conf(tmp_path):
    conf = replace(Config(), warehouse=str(tmp_path / "warehouse"))
    for day in ("2026-01-14", DS):
        exposures(conf, day).mkdir(parents=True)
        (exposures(conf, day) / "a.parquet").write_text("rows")
    return conf


def exposures(conf, day):
    return Path(conf.warehouse, tables.EXPOSURES.name, f"ds={day}")


def ingest(night):
    """Events depend on which files there are, capped at ten: more of them change nothing further on."""
    night.has_input(tables.EXPOSURES, "2026-01-14")
    night.has_input(tables.WITHHOLDINGS, night.ds)
    files = sum(1 for _ in exposures(night.place.conf, "2026-01-14").iterdir())
    night.note(rows={"exposures": min(files, 10)})
    written(night, tables.ACCEPTED_UPLOADS, f"{min(files, 10)} {night.conf.ingest.max_rejected_rate}")


def build_journeys(night):
    events = night.published(tables.ACCEPTED_UPLOADS)
    written(night, tables.JOURNEYS, events.checksum.split()[0], cap=night.conf.journeys.max_touchpoints)


def build_pairs(night):
    night.published(tables.JOURNEYS)
    written(night, tables.MATCHED_PAIRS, str(night.conf.pairs.match_quantile))


def evaluate(night):
    written(night, tables.DIAGNOSTICS, json.dumps(night.notes_of("ingest")))


STAGES = {s.__name__: s for s in (ingest, build_journeys, build_pairs, evaluate)}


def run(conf, ds=DS, stages=STAGES):
    """The stages that ran."""
    with Claim(None, conf, ds) as claim:
        nights = [runner.Night(None, conf, ds, name, claim) for name in stages]
        ran = [n.stage for n in nights if runner.run_if_changed(n, stages[n.stage])]
        claim.publish()
    return ran


def test_a_rerun_skips_everything_and_the_night_stays_as_it_is(conf):
    assert run(conf) == list(STAGES)
    log = Path(conf.warehouse, "_nights", f"ds={DS}")
    before = json.loads(max(log.iterdir()).read_text())["current"]
    assert run(conf) == []
    assert json.loads(max(log.iterdir()).read_text())["current"] == before


@pytest.mark.parametrize(
    ("section", "setting", "expected"),
    [
        ("pairs", {"match_quantile": 0.5}, ["build_pairs"]),
        ("journeys", {"max_touchpoints": 5}, ["build_journeys", "build_pairs"]),
        ("journeys", {"pre_hours": 5.0}, []),
        ("ingest", {"max_rejected_rate": 0.5}, ["ingest", "build_journeys"]),
        ("publishing", {"wait_minutes": 0.0}, []),
    ],
)
def test_a_changed_setting_reruns_what_read_it_and_then_what_finds_other_rows(conf, section, setting, expected):
    run(conf)
    other = replace(conf, **{section: replace(getattr(conf, section), **setting)})
    assert run(other) == expected
    assert run(other) == []


def test_a_late_file_reruns_what_depends_on_it_as_far_as_it_changes_anything(conf):
    run(conf)
    for n in range(9):
        (exposures(conf, "2026-01-14") / f"late-{n}.parquet").write_text("rows")
    assert run(conf) == ["ingest", "build_journeys", "build_pairs", "evaluate"]
    (exposures(conf, "2026-01-14") / "later.parquet").write_text("rows")
    assert run(conf) == ["ingest"]
    exposures(conf, DS).joinpath("a.parquet").write_text("of a day that nothing reads")
    assert run(conf) == []
    Path(conf.warehouse, tables.WITHHOLDINGS.name, f"ds={DS}").mkdir(parents=True)
    assert run(conf) == ["ingest"], "that there was none was a look as well"


def test_a_file_rewritten_to_the_same_size_is_another_file(conf):
    run(conf)
    path = exposures(conf, "2026-01-14") / "a.parquet"
    path.write_text("swor")
    os.utime(path, (1, 1))
    assert run(conf) == ["ingest"]


def test_other_code_and_a_version_that_is_gone_are_reasons_too(conf, monkeypatch):
    run(conf)
    next(Path(conf.warehouse, tables.MATCHED_PAIRS.name).rglob("*.json")).unlink()
    assert run(conf) == ["build_pairs"]
    monkeypatch.setattr(manifest, "code_version", lambda: "other")
    assert run(conf) == list(STAGES)


def test_a_stage_that_died_has_no_manifest_and_runs_again(conf):
    run(conf)

    def dies(night):
        raise KeyboardInterrupt

    other = replace(conf, pairs=replace(conf.pairs, match_quantile=0.5))
    with pytest.raises(KeyboardInterrupt):
        run(other, stages={**STAGES, "build_pairs": dies})
    assert run(conf) == ["build_pairs"]


def test_the_plan_says_what_will_be_done_and_why(conf):
    def said(conf):
        return [what for _, _, what in plan(None, conf, [DS], list(STAGES))]

    assert said(conf) == ["runs, it has not run to its end"] * 4
    run(conf)
    assert said(conf) == ["unchanged, skipped"] * 4
    (exposures(conf, "2026-01-14") / "late.parquet").write_text("rows")
    assert said(conf) == [
        "runs, changed: exposures of 2026-01-14",
        "runs if it finds other rows in accepted_uploads of 2026-01-15",
        "runs if it finds other rows in journeys of 2026-01-15",
        "runs if it finds other rows in the notes of ingest",
    ]
    other = replace(conf, pairs=replace(conf.pairs, match_quantile=0.5, max_pairs_per_upload=2))
    run(conf)
    assert said(other) == [*["unchanged, skipped"] * 2, "runs, changed: pairs.match_quantile", "unchanged, skipped"]


def test_the_plan_of_several_nights_follows_one_into_the_next(conf):
    def of_both(night):
        rows = [found.checksum for day in (DS, NEXT) if (found := night.published(tables.ACCEPTED_UPLOADS, day))]
        written(night, tables.JOURNEYS, " ".join(rows))

    stages = {"ingest": ingest, "build_journeys": of_both}
    for ds in (DS, NEXT):
        run(conf, ds, stages)
    (exposures(conf, "2026-01-14") / "late.parquet").write_text("rows")
    found = {(ds, stage): what for ds, stage, what in plan(None, conf, [DS, NEXT], list(stages))}
    assert found[NEXT, "build_journeys"].startswith("runs if it finds other rows in accepted_uploads of 2026-01-15")


def test_a_file_that_comes_late_into_a_sub_folder_is_seen_and_one_into_a_hidden_folder_is_not(conf):
    look = "days exposures 2026-01-14"
    found = [Place(None, conf).find(look)]
    for folder in ("hour=00", "hour=00/part=1", "_temporary"):
        (exposures(conf, "2026-01-14") / folder).mkdir(parents=True)
        (exposures(conf, "2026-01-14") / folder / "late.parquet").write_text("rows")
        found.append(Place(None, conf).find(look))
    assert len(set(found[:3])) == 3 and found[2] == found[3]


def test_an_optional_table_that_has_some_of_a_nights_days_is_refused_and_not_taken_for_none(conf):
    def has_withholdings():
        return runner.Night(None, conf, DS, "ingest").has_input(tables.WITHHOLDINGS, DS, 48.0)

    assert not has_withholdings()
    Path(conf.warehouse, tables.WITHHOLDINGS.name, "ds=2026-01-13").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"table withholdings: needs ds=2026-01-14 under .* write an empty folder"):
        has_withholdings()
    Path(conf.warehouse, tables.WITHHOLDINGS.name, "ds=2026-01-14").mkdir()
    assert has_withholdings()


@pytest.mark.parametrize("when", ["before", "while"])
def test_a_run_whose_night_was_taken_over_touches_no_manifest_of_the_other(conf, when):
    run(conf)
    theirs = manifest.url(conf, DS, "build_pairs")
    other = replace(conf, pairs=replace(conf.pairs, match_quantile=0.5))
    taken = []

    def take_over():
        newest = max(Path(conf.warehouse, "_nights", f"ds={DS}").glob("*.json"))
        entry = json.loads(newest.read_text())
        entry |= {"number": entry["number"] + 1, "owner": entry["owner"] | {"id": "another"}}
        newest.with_name(f"{entry['number']:08}.json").write_text(json.dumps(entry))
        Path(theirs).write_text("theirs")
        taken.append(True)

    def stage(night):
        if when == "while":
            take_over()
        build_pairs(night)

    with pytest.raises(ClaimLost, match="was taken over"), Claim(None, other, DS) as claim:
        if when == "before":
            take_over()
        runner.run_stage(runner.Night(None, other, DS, "build_pairs", claim), stage)
    assert taken
    assert Path(theirs).read_text() == "theirs"


def test_looks_of_what_is_not_there_find_nothing_and_no_two_kinds_are_confused(conf):
    place = Place(None, conf)
    for look in (
        "night journeys 2026-01-15",
        "model 2026-01-15 latent",
        "notes 2026-01-15 train",
        "version accepted_uploads x y",
    ):
        assert place.find(look) == manifest.NOTHING
    assert place.find("days uploads 2026-01-15") != place.find("days exposures 2026-01-15")
    assert changed({"looked": {"snapshot items 2026-01-15": manifest.NOTHING}, "made": {}}, place) == []
