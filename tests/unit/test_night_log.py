"""Who may write a night, and what its readers see. Real files, no Spark."""

import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from almmta_spark import night_log, storage, tables
from almmta_spark.config import Config, PublishingConfig
from almmta_spark.night_log import Claim, ClaimLost
from jobs import rollback

DS = "2026-01-15"
LEASE = 100.0
TABLES = (tables.ACCEPTED_UPLOADS.name, tables.JOURNEYS.name, tables.ATTRIBUTION.name)


class Clock:
    def __init__(self):
        self.now = datetime(2026, 1, 16, 3, tzinfo=UTC)

    def __call__(self):
        return self.now

    def advance(self, seconds):
        self.now += timedelta(seconds=seconds)


def settings_of(folder, **publishing):
    chosen = PublishingConfig(**{"lease_seconds": LEASE, "wait_minutes": 0.0, **publishing})
    return replace(Config(), warehouse=str(folder), publishing=chosen)


@pytest.fixture
def conf(tmp_path):
    return settings_of(tmp_path / "warehouse")


@pytest.fixture
def clock():
    return Clock()


def write(claim, **versions):
    """What spark_tables.write leaves: a folder, a card, and the draft."""
    for table, version in versions.items():
        folder = Path(claim.conf.warehouse, table, f"ds={claim.ds}", f"version={version}")
        folder.mkdir(parents=True)
        (folder / "part-0.parquet").write_text(version)
        folder.with_name(f"{folder.name}.json").write_text("{}")
        claim.draft[table] = version


def on_disk(conf, table):
    folder = Path(conf.warehouse, table, f"ds={DS}")
    return sorted(p.name.removeprefix("version=") for p in folder.iterdir() if p.is_dir()) if folder.exists() else []


def claimed(conf, clock):
    claim = Claim(None, conf, DS, clock)
    assert claim.attempt()
    return claim


def publish(conf, clock, **versions):
    """One whole run."""
    claim = claimed(conf, clock)
    write(claim, **versions)
    claim.publish()
    claim.release()


# ---- publishing -----------------------------------------------------------------------------------------------------


def test_all_tables_of_a_draft_become_visible_at_once_and_others_stay(conf, clock):
    publish(conf, clock, accepted_uploads="e1", journeys="j1")
    claim = claimed(conf, clock)
    write(claim, journeys="j2")
    write(claim, attribution="a2")
    assert night_log.versions(None, conf, DS) == {"accepted_uploads": "e1", "journeys": "j1"}
    claim.publish()
    assert night_log.versions(None, conf, DS) == {"accepted_uploads": "e1", "journeys": "j2", "attribution": "a2"}


def test_what_is_published_already_is_no_new_edition(conf, clock):
    publish(conf, clock, accepted_uploads="e1")
    claim = claimed(conf, clock)
    claim.draft["accepted_uploads"] = "e1"
    assert claim.publish().number == 2 and not night_log.latest(None, conf, DS).kept


def test_leftovers_go_and_what_a_slow_reader_may_be_on_stays(conf, clock):
    publish(conf, clock, accepted_uploads="e1")
    died = claimed(conf, clock)
    write(died, accepted_uploads="half", journeys="half")
    clock.advance(LEASE + 1)
    publish(conf, clock, accepted_uploads="e2")
    assert on_disk(conf, "accepted_uploads") == ["e1", "e2"] and on_disk(conf, "journeys") == []
    cards = Path(conf.warehouse, "accepted_uploads", f"ds={DS}").glob("*.json")
    assert sorted(p.name for p in cards) == ["version=e1.json", "version=e2.json"]


def test_replaced_editions_stay_for_keep_nights_and_the_one_before_for_as_long_as_it_is(tmp_path, clock):
    conf = settings_of(tmp_path, keep_nights=2.0)
    for version in ("e1", "e2", "e3"):
        publish(conf, clock, accepted_uploads=version)
    assert on_disk(conf, "accepted_uploads") == ["e1", "e2", "e3"]
    clock.advance(5 * 86400)
    publish(conf, clock, accepted_uploads="e4")
    assert on_disk(conf, "accepted_uploads") == ["e3", "e4"]
    clock.advance(5 * 86400)
    publish(conf, clock, journeys="j5")
    assert on_disk(conf, "accepted_uploads") == ["e4"]


def test_only_the_newest_entries_stay(conf, clock):
    claim = claimed(conf, clock)
    for n in range(3 * night_log.ENTRIES_KEPT):
        write(claim, accepted_uploads=f"e{n}")
        claim.publish()
    assert len(list(Path(night_log.folder(conf, DS)).iterdir())) == night_log.ENTRIES_KEPT


def test_what_a_death_left_beside_the_entries_goes_with_them_and_other_files_are_nobodys(conf, clock):
    folder = Path(night_log.folder(conf, DS))
    folder.mkdir(parents=True)
    others = {".DS_Store", "notes.txt", "00000099.json~"}
    for name in (*others, ".00000001.json.0f3a"):
        (folder / name).write_text("")
    for n in range(night_log.ENTRIES_KEPT):
        publish(conf, clock, accepted_uploads=f"e{n}")
    assert {p.name for p in folder.iterdir() if not p.name.endswith(".json")} == others


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"number": 1, "owner": null, "until": "", "kept": [], "current": 3}']
)
def test_a_broken_entry_is_named_and_not_passed_over(conf, clock, text):
    publish(conf, clock, accepted_uploads="e1")
    (Path(night_log.folder(conf, DS)) / "00000099.json").write_text(text)
    with pytest.raises(ValueError, match=r"00000099\.json must be an entry of a night's log, it is not .*: restore it"):
        night_log.versions(None, conf, DS)


@pytest.mark.parametrize("version", ["../../other", "/etc", "a/b", ".", "", "a b"])
def test_no_entry_leads_out_of_the_warehouse(conf, clock, version):
    publish(conf, clock, accepted_uploads="e1")
    newest = max(Path(night_log.folder(conf, DS)).iterdir())
    newest.with_name("00000099.json").write_text(newest.read_text().replace('"e1"', f'"{version}"'))
    with pytest.raises(ValueError, match=r"00000099\.json .*tables and versions must be letters, digits and _"):
        night_log.versions(None, conf, DS)


# ---- who may write --------------------------------------------------------------------------------------------------


def test_a_second_run_is_refused_with_who_is_in_its_way(conf):
    with Claim(None, conf, DS), pytest.raises(ValueError, match=r"ds=2026-01-15 is being written by process \d+ on .*"):
        Claim(None, conf, DS).__enter__()
    with Claim(None, conf, DS):
        pass


def test_a_second_run_waits_for_the_first_where_it_is_told_to(tmp_path):
    conf = settings_of(tmp_path, wait_minutes=1.0, lease_seconds=1.0)
    ended = []

    def first():
        with Claim(None, conf, DS) as claim:
            started.set()
            write(claim, accepted_uploads="e1")
            time.sleep(1.5)  # longer than the lease: the thread renews it
            claim.publish()
            ended.append(time.monotonic())

    started = threading.Event()
    thread = threading.Thread(target=first)
    thread.start()
    started.wait()
    with Claim(None, conf, DS):
        assert ended and night_log.versions(None, conf, DS) == {"accepted_uploads": "e1"}
    thread.join()


def test_an_expired_claim_is_taken_over_exactly_once(conf, clock):
    for _ in range(20):
        assert Claim(None, conf, DS, clock).attempt()
        clock.advance(LEASE + 1)
        start, won = threading.Barrier(8), []

        def race(claim, start=start, won=won):
            start.wait()
            if claim.attempt():
                won.append(claim)

        threads = [threading.Thread(target=race, args=(Claim(None, conf, DS, clock),)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        won[0].release()


def test_a_writer_that_slept_through_its_lease_publishes_nothing(conf, clock):
    publish(conf, clock, accepted_uploads="e1")
    slept = claimed(conf, clock)
    write(slept, accepted_uploads="slept")
    clock.advance(LEASE + 1)
    publish(conf, clock, accepted_uploads="e2")
    for step in (slept.renew, slept.publish, slept.release):
        with pytest.raises(ClaimLost, match="taken over"):
            step()
    assert night_log.versions(None, conf, DS) == {"accepted_uploads": "e2"}


def test_nor_does_one_whose_next_number_has_been_cleared_away_since(conf, clock):
    slept = claimed(conf, clock)
    write(slept, accepted_uploads="slept")
    clock.advance(LEASE + 1)
    for n in range(night_log.ENTRIES_KEPT):
        publish(conf, clock, accepted_uploads=f"e{n}")
    assert not Path(night_log.folder(conf, DS), "00000002.json").exists()
    before = night_log.latest(None, conf, DS)
    with pytest.raises(ClaimLost):
        slept.publish()
    assert night_log.latest(None, conf, DS) == before


def test_what_the_next_owner_writes_stays_when_the_last_one_sleeps_while_it_clears_away(conf, clock, monkeypatch):
    for version in ("e1", "e2"):
        publish(conf, clock, accepted_uploads=version)
    conf = settings_of(conf.warehouse, keep_nights=0.0)
    slept, delete, next_owner = claimed(conf, clock), storage.delete, []

    def sleeps(spark, url):
        if not next_owner:
            clock.advance(LEASE + 1)
            next_owner.append(claimed(conf, clock))
            write(next_owner[0], accepted_uploads="e4", journeys="j4")
        delete(spark, url)

    write(slept, accepted_uploads="e3")
    monkeypatch.setattr(storage, "delete", sleeps)
    slept.publish()
    assert (
        next_owner and on_disk(conf, "accepted_uploads") == ["e2", "e3", "e4"] and on_disk(conf, "journeys") == ["j4"]
    )
    assert next_owner[0].publish().tables == {"accepted_uploads": "e4", "journeys": "j4"}


def test_a_claim_of_a_process_that_was_killed_here_does_not_wait_for_its_lease(conf):
    script = f"""
import os
from dataclasses import replace
from almmta_spark.config import Config
from almmta_spark.night_log import Claim
assert Claim(None, replace(Config(), warehouse={conf.warehouse!r}), "{DS}").attempt()
os._exit(9)
"""
    child = subprocess.Popen([sys.executable, "-c", script])
    while night_log._started(child.pid):  # until it has ended, which its parent need not have noticed
        time.sleep(0.05)
    assert night_log.latest(None, conf, DS).owner.pid == child.pid
    assert Claim(None, conf, DS).attempt()
    assert child.wait() == 9


def test_a_process_with_the_number_of_a_dead_one_is_not_the_owner_and_one_elsewhere_may_well_live(conf, clock):
    assert Claim(None, conf, DS, clock).attempt()
    entry = night_log.latest(None, conf, DS)
    for change, claimed_still in (({}, True), ({"started": 1}, False), ({"started": 1, "place": "other"}, True)):
        other = replace(entry, owner=replace(entry.owner, **change))
        assert other.is_claimed(clock.now) == claimed_still


@pytest.mark.parametrize("ahead", [2, LEASE - 1])
def test_a_living_owner_whose_clock_is_ahead_or_whose_lease_is_longer_keeps_the_night(conf, clock, ahead):
    first = Claim(None, conf, DS, clock)
    assert first.attempt()
    clock.advance(-ahead)
    shorter = replace(conf, publishing=replace(conf.publishing, lease_seconds=1.0))
    assert not Claim(None, conf, DS, clock).attempt() and not Claim(None, shorter, DS, clock).attempt()
    first.renew()


def test_an_entry_of_earlier_code_says_no_lease_and_has_the_usual_one(conf, clock):
    assert Claim(None, conf, DS, clock).attempt()
    entry = night_log.latest(None, conf, DS)
    text = json.loads(entry.to_json())
    del text["lease_seconds"]
    assert night_log.Entry.from_json(json.dumps(text)).lease_seconds == Config().publishing.lease_seconds


def test_a_claim_that_a_clock_set_back_would_make_last_for_long_has_expired(conf, clock):
    assert Claim(None, conf, DS, clock).attempt()
    clock.advance(-3600)
    assert Claim(None, conf, DS, clock).attempt()


# ---- going back -----------------------------------------------------------------------------------------------------


@pytest.fixture
def three(conf, clock):
    for n in (1, 2, 3):
        publish(conf, clock, accepted_uploads=f"e{n}", journeys=f"j{n}")
    return conf


def roll_back(conf, clock, *how):
    claim = claimed(conf, clock)
    claim.roll_back(*how)
    claim.release()
    return night_log.versions(None, conf, DS)


def test_a_night_goes_back_with_all_its_tables_again_and_again_and_forward_by_number(three, clock):
    newest = night_log.latest(None, three, DS).current.number
    assert roll_back(three, clock) == {"accepted_uploads": "e2", "journeys": "j2"}
    assert roll_back(three, clock) == {"accepted_uploads": "e1", "journeys": "j1"}
    with pytest.raises(ValueError, match=r"ds=2026-01-15: an earlier edition must be among those that are kept"):
        claimed(three, clock).roll_back()
    assert on_disk(three, "accepted_uploads") == ["e1", "e2", "e3"]
    clock.advance(LEASE + 1)
    assert roll_back(three, clock, "", newest) == {"accepted_uploads": "e3", "journeys": "j3"}


def test_one_table_goes_back_again_and_again_and_the_others_stay(three, clock):
    assert roll_back(three, clock, "journeys") == {"accepted_uploads": "e3", "journeys": "j2"}
    assert roll_back(three, clock, "journeys") == {"accepted_uploads": "e3", "journeys": "j1"}
    with pytest.raises(ValueError, match="an earlier edition with table journeys"):
        roll_back(three, clock, "journeys")


def test_the_job_goes_back_by_one_command_and_says_where_to(three, monkeypatch, capsys):
    command = ["rollback", "--conf", "conf/test.yaml", "--ds", DS, "--set", f"warehouse={three.warehouse}"]
    monkeypatch.setattr(sys, "argv", command)
    rollback.main()
    assert night_log.versions(None, three, DS) == {"accepted_uploads": "e2", "journeys": "j2"}
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("current") and "other accepted_uploads, journeys" in said[1]
    monkeypatch.setattr(sys, "argv", [*command, "--to", "77"])
    with pytest.raises(SystemExit):
        rollback.main()


# ---- any order of steps, and a death at any of them -----------------------------------------------------------------


class Dead(BaseException):
    """The process is no more."""


class Interleavings(RuleBasedStateMachine):
    """Three runs, readers and a clock, against what must hold: the model is a few variables."""

    @initialize()
    def begin(self):
        self.root = tempfile.mkdtemp()
        self.conf, self.clock = settings_of(self.root, keep_nights=0.01), Clock()
        self.runs: dict[int, Claim] = {}
        self.owner: int | None = None
        self.until = self.clock.now
        self.visible: dict[str, str] = {}
        self.before: dict[str, str] = {}
        self.written = 0

    def teardown(self):
        shutil.rmtree(self.root, ignore_errors=True)

    who = st.integers(0, 2)

    def attempted(self, run):
        free = self.owner is None or self.clock.now >= self.until
        claim = Claim(None, self.conf, DS, self.clock)
        got = claim.attempt()
        assert got == free
        if got:
            self.runs[run], self.owner = claim, run
            self.until = self.clock.now + timedelta(seconds=LEASE)

    @rule(run=who)
    def claim(self, run):
        self.runs.pop(run, None)
        if self.owner == run:  # the run was restarted: its earlier process is gone without a word
            self.owner = -1
        self.attempted(run)

    @rule(run=who, table=st.sampled_from(TABLES))
    def write(self, run, table):
        if run in self.runs:
            self.written += 1
            write(self.runs[run], **{table: f"v{self.written}"})

    @rule(run=who, step=st.sampled_from(("renew", "publish", "release", "roll_back")))
    def step(self, run, step):
        if run not in self.runs:
            return
        claim = self.runs[run]
        if self.owner != run:
            with pytest.raises((ClaimLost, ValueError)):
                getattr(claim, step)()
            del self.runs[run]
        else:
            self.own_step(run, claim, step)

    def own_step(self, run, claim, step):
        if step == "renew":
            claim.renew()
            self.until = self.clock.now + timedelta(seconds=LEASE)
        elif step == "publish":
            self.now_visible({**self.visible, **claim.draft})
            claim.publish()
            self.until = self.clock.now + timedelta(seconds=LEASE)
        elif step == "release":
            claim.release()
            self.owner = None
            del self.runs[run]
        elif any(e.number < claim._entry.current.number for e in claim._entry.kept):
            claim.roll_back()
            self.now_visible(dict(claim._entry.current.tables))

    def now_visible(self, versions):
        if versions != self.visible:
            self.before, self.visible = self.visible, versions

    @rule(at=st.sampled_from(("before", "after", "clearing")), nth=st.integers(0, 3))
    @precondition(lambda self: self.owner is not None and self.owner in self.runs)
    def die_while_publishing(self, at, nth):
        """Before the entry is there, after it, or between two deletions of what is cleared away."""
        claim = self.runs.pop(self.owner)
        with pytest.MonkeyPatch.context() as patch, suppress(Dead):
            die_at(patch, at, nth)
            claim.publish()
        if at != "before":
            self.now_visible({**self.visible, **claim.draft})
            self.until = self.clock.now + timedelta(seconds=LEASE)
        self.owner = -1  # nobody, until the lease has run out

    @rule(seconds=st.sampled_from((1.0, LEASE / 2, LEASE + 1, 3600.0, 86400.0)))
    def time_passes(self, seconds):
        self.clock.advance(seconds)

    @invariant()
    def readers_see_one_edition_whole(self):
        assert dict(night_log.versions(None, self.conf, DS)) == self.visible

    @invariant()
    def what_readers_may_be_on_is_there(self):
        for versions in (self.visible, self.before):
            for table, version in versions.items():
                folder = Path(self.conf.warehouse, table, f"ds={DS}", f"version={version}")
                assert (folder / "part-0.parquet").read_text() == version
                assert folder.with_name(f"{folder.name}.json").exists()

    @invariant()
    def what_the_owner_is_writing_is_there(self):
        if self.owner in self.runs:
            for table, version in self.runs[self.owner].draft.items():
                assert version in on_disk(self.conf, table)

    @invariant()
    def every_edition_to_go_back_to_is_whole(self):
        for edition in night_log.latest(None, self.conf, DS).kept:
            assert all(version in on_disk(self.conf, table) for table, version in edition.tables.items())


def die_at(patch, at, nth):
    put, delete = storage.put_new, storage.delete
    left = [nth]

    def dies_before(*args):
        raise Dead

    def dies_after(*args):
        put(*args)
        raise Dead

    def dies_clearing(*args):
        if not left[0]:
            raise Dead
        left[0] -= 1
        delete(*args)

    if at == "clearing":
        patch.setattr(storage, "delete", dies_clearing)
    else:
        patch.setattr(storage, "put_new", dies_before if at == "before" else dies_after)


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
