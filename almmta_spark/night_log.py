"""The log of a night: who may write it, and which version of each of its tables readers see.

Numbered entries <warehouse>/_nights/ds=D/00000007.json, of which the newest holds. An entry is created under the next
number, which one writer alone can do (storage.put_new). Claiming a night, renewing the claim, publishing an edition,
going back to an earlier one and giving the claim up are one such step each. So all tables of a night become visible at
once, and a writer whose claim was taken over can do nothing more: its next number is taken (compare-and-set, as
the logs of Delta Lake, Armbrust et al. 2020).
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType

from almmta_spark import storage, tables
from almmta_spark.config import Config, PublishingConfig
from almmta_spark.storage import Spark

log = logging.getLogger("almmta")

ENTRIES_KEPT = 16
"""Newest entries that stay: a reader has listed the folder some time before it opens what it found."""
Versions = Mapping[str, str]
"""Version of each table, by its name."""
Drafts = Mapping[str, Versions]
"""Versions that are written and verified but not published, by night: what a run sees of its own work."""
NO_DRAFTS: Drafts = {}
_ENTRY = re.compile(r"\.?(\d{8,})\.json(\.\w+)?")
"""An entry, or with a dot what a death while creating it left; other names are nobody's."""
_NAME = re.compile(r"\w+")


class ClaimLost(RuntimeError):
    """Another run has taken the night over."""


@dataclass(frozen=True)
class Edition:
    """One version of each table of a night, which belong together."""

    number: int = 0
    """Of the entry that first published it; 0: nothing is published."""
    tables: Versions = field(default_factory=dict)
    replaced: str = ""
    """When another one took its place (ISO 8601, UTC)."""

    def __post_init__(self) -> None:
        wrong = [name for pair in self.tables.items() for name in pair if not _NAME.fullmatch(str(name))]
        if wrong:  # names of folders: none may lead out of the warehouse
            raise ValueError(f"tables and versions must be letters, digits and _, got {wrong[0]!r}")


@dataclass(frozen=True)
class Owner:
    """A process that holds a claim."""

    id: str
    host: str
    place: str
    """Kernel and process namespace: where it is the same, pid means the same."""
    pid: int
    started: int
    """When the process began, in the kernel's ticks since it booted: numbers of processes are used again, and clocks
    are set."""

    @classmethod
    def here(cls) -> Owner:
        """This process."""
        return cls(uuid.uuid4().hex, socket.gethostname(), _place(), os.getpid(), _started(os.getpid()))

    def is_known_dead(self) -> bool:
        """Whether its process is one that we could see, and do not."""
        return bool(self.place) and self.place == _place() and self.started != _started(self.pid)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@dataclass(frozen=True)
class Entry:
    """One numbered file of a night's log: who may write, what readers see, and what else is kept."""

    number: int = 0
    owner: Owner | None = None
    until: str = ""
    """When the claim expires unless it is renewed (ISO 8601, UTC)."""
    lease_seconds: float = 0.0
    """How long before that it was renewed."""
    current: Edition = field(default_factory=Edition)
    kept: tuple[Edition, ...] = ()
    """Editions to go back to, newest first by when they were replaced."""

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Entry:
        """The entry that to_json wrote."""
        raw = json.loads(text)
        owner = None if raw["owner"] is None else Owner(**raw["owner"])
        kept = tuple(Edition(**edition) for edition in raw["kept"])
        lease = float(raw.get("lease_seconds", PublishingConfig().lease_seconds))  # entries of earlier code have none
        return cls(raw["number"], owner, raw["until"], lease, Edition(**raw["current"]), kept)

    def is_claimed(self, now: datetime) -> bool:
        """Whether somebody alive owns the night. Clocks may differ by a lease of its owner's; a claim that lasts for
        longer than that explains was made before the clock was set back."""
        if self.owner is None or self.owner.is_known_dead():
            return False
        left = datetime.fromisoformat(self.until) - now
        return timedelta(0) < left < 2 * timedelta(seconds=self.lease_seconds)


# ---- reading --------------------------------------------------------------------------------------------------------


def folder(conf: Config, ds: str) -> str:
    """Where a night's log is."""
    return storage.join(conf.warehouse, "_nights", f"ds={ds}")


def latest(spark: Spark, conf: Config, ds: str) -> Entry:
    """What holds for the night: one listing and one small file. An empty entry where the night was never written."""
    while True:
        numbers = _numbers(spark, conf, ds)
        if not numbers:
            return Entry()
        text = storage.read_text(spark, _url(conf, ds, numbers[-1]))
        if text is not None:  # else it was so old by now that it has been cleared away: look again
            return _parsed(text, _url(conf, ds, numbers[-1]))


def versions(spark: Spark, conf: Config, ds: str) -> Versions:
    """The edition that readers see: a version of each table that the night has."""
    return latest(spark, conf, ds).current.tables


def _parsed(text: str, url: str) -> Entry:
    try:
        return Entry.from_json(text)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{url} must be an entry of a night's log, it is not ({error}): restore it, or delete it to go back to the "
            "entry before"
        ) from error


# ---- writing --------------------------------------------------------------------------------------------------------


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Claim:
    """The right to write a night, held from `with` to the end of its block and renewed beside it by a thread."""

    def __init__(self, spark: Spark, conf: Config, ds: str, now: Callable[[], datetime] = _utc_now) -> None:
        self.spark, self.conf, self.ds, self._now = spark, conf, ds, now
        self.owner = Owner.here()
        self.draft: dict[str, str] = {}
        """Versions that this run has written and verified: the next edition, once published."""
        self._entry = Entry()
        self._mutex = threading.Lock()
        self._done = threading.Event()
        self._renewing = threading.Thread(target=self._renew_until_done, daemon=True)

    def __enter__(self) -> Claim:
        self._wait_for_turn()
        self._renewing.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._done.set()
        self._renewing.join()
        try:
            self.release()
        except Exception as failed:
            if kind is None:
                raise
            if not isinstance(failed, ClaimLost):  # that the block has said, or worse; what ended it is what counts
                log.warning("night %s: the claim could not be given up (%s), it will expire", self.ds, failed)

    def attempt(self) -> bool:
        """Claims the night now; False where somebody alive owns it, or was quicker."""
        self._entry = latest(self.spark, self.conf, self.ds)
        if self._entry.is_claimed(self._now()):
            return False
        if self._entry.owner is not None:
            log.info("night %s: taken over from %s, which is gone", self.ds, self._entry.owner)
        try:
            self._append(lambda last: self._renewed(replace(last, owner=self.owner)))
        except ClaimLost:
            return False
        return True

    def renew(self) -> None:
        """Puts the end of the claim off. ClaimLost where another run has taken the night over."""
        self._append(self._renewed)

    def release(self) -> None:
        """Gives the claim up."""
        self._append(lambda last: replace(last, owner=None, until="", lease_seconds=0.0))

    def publish(self) -> Edition:
        """Makes the draft visible, all its tables at once, in place of their earlier versions; then clears away what
        nobody may read any more. Tables that the draft does not hold stay as they are.

        ClaimLost, and nothing published or cleared, where another run has taken the night over.
        """
        # Listed before the step that shows that the night is ours: whoever takes it over writes under new names later.
        written = self._versions_on_storage()
        self._append(self._with_draft)
        editions = (self._entry.current, *self._entry.kept)
        named = {(table, v) for of in (self.draft, *(e.tables for e in editions)) for table, v in of.items()}
        for url, version in sorted(written, key=lambda w: not w[0].endswith(".json")):  # whatever has a card is whole
            if version not in named:
                storage.delete(self.spark, url)
        self._clear_entries()
        return self._entry.current

    def roll_back(self, table: str = "", to: int = 0) -> Edition:
        """Makes an earlier edition current, or one table's earlier version in the edition that is: the one before,
        again and again, or edition `to`. ValueError where none is kept."""
        self._append(lambda last: self._with_current(last, earlier(last, table, to, self.ds)))
        return self._entry.current

    def _renewed(self, last: Entry) -> Entry:
        seconds = self.conf.publishing.lease_seconds
        return replace(last, until=(self._now() + timedelta(seconds=seconds)).isoformat(), lease_seconds=seconds)

    def _wait_for_turn(self) -> None:
        """ValueError where the night is still another's after publishing.wait_minutes."""
        give_up = time.monotonic() + 60 * self.conf.publishing.wait_minutes
        said = False
        while not self.attempt():
            owner = self._entry.owner
            busy = f"night ds={self.ds} is being written by {owner}, whose claim runs until {self._entry.until}"
            if time.monotonic() >= give_up:
                raise ValueError(
                    f"{busy}: publishing.wait_minutes = {self.conf.publishing.wait_minutes:g} is how long another run "
                    "waits; run again when that one has ended"
                )
            if owner is not None and not said:
                log.info("%s: waiting for it to end", busy)
                said = True
            time.sleep(min(5.0, self.conf.publishing.lease_seconds / 10))

    def _renew_until_done(self) -> None:
        while not self._done.wait(self.conf.publishing.lease_seconds / 4):
            try:
                self.renew()
            except ClaimLost as error:  # the next thing the run does with its claim fails with the same words
                log.error("%s", error)
                return
            except Exception as error:  # storage may be away for a moment, and the lease is four times as long
                log.warning("night %s: the claim could not be renewed (%s), trying again", self.ds, error)

    def _append(self, change: Callable[[Entry], Entry]) -> None:
        with self._mutex:
            entry = replace(change(self._entry), number=self._entry.number + 1)
            if not _append(self.spark, self.conf, self.ds, entry):
                found = latest(self.spark, self.conf, self.ds)
                raise ClaimLost(
                    f"night ds={self.ds} was taken over by {found.owner or 'another run, which has ended'}, since this "
                    f"run did not renew its claim for {self.conf.publishing.lease_seconds:g} s: what it has not "
                    "published by then stays unpublished; run again once the other has ended"
                )
            self._entry = entry

    def _with_current(self, last: Entry, current: Edition) -> Entry:
        """The entry with another current edition; the one before and those young enough stay to go back to."""
        now = self._now()
        others = [replace(last.current, replaced=now.isoformat())] if last.current.number else []
        others += [edition for edition in last.kept if edition.number != current.number]
        young = now - timedelta(days=self.conf.publishing.keep_nights)
        kept = [e for i, e in enumerate(others) if i == 0 or datetime.fromisoformat(e.replaced) > young]
        return replace(last, current=replace(current, replaced=""), kept=tuple(kept))

    def _with_draft(self, last: Entry) -> Entry:
        """The entry with the draft published, where there is anything new in it, and the claim renewed."""
        wanted = {**last.current.tables, **self.draft}
        renewed = self._renewed(last)
        same = wanted == last.current.tables
        return renewed if same else self._with_current(renewed, Edition(last.number + 1, wanted))

    def _versions_on_storage(self) -> list[tuple[str, tuple[str, str]]]:
        """URL of every version of the night, its card's too, with the table and the version."""
        found = []
        for table in tables.OUTPUTS:
            root = storage.join(self.conf.warehouse, table.name, f"ds={self.ds}")
            names = [n for n in storage.names(self.spark, root) if n.startswith("version=")]
            versions_of = {n: n.removeprefix("version=").removesuffix(".json") for n in names}
            found += [(storage.join(root, n), (table.name, v)) for n, v in versions_of.items()]
        return found

    def _clear_entries(self) -> None:
        """Deletes entries long overtaken, and what a death while creating one of them left."""
        for name in storage.names(self.spark, folder(self.conf, self.ds)):
            entry = _ENTRY.fullmatch(name)
            if entry and int(entry[1]) <= self._entry.number - ENTRIES_KEPT:
                storage.delete(self.spark, storage.join(folder(self.conf, self.ds), name))


def earlier(last: Entry, table: str, to: int, ds: str) -> Edition:
    """The edition to go back to; where a table is named, the current one with an earlier version of that table."""
    having = [edition for edition in last.kept if not table or table in edition.tables]
    before = _appeared(last, table)
    chosen = [e for e in having if (e.number == to if to else e.number < before)]
    if not chosen:
        wanted = (f"edition {to}" if to else "an earlier edition") + (f" with table {table}" if table else "")
        known = ", ".join(f"{e.number} (replaced {e.replaced[:19]})" for e in having) or "none"
        raise ValueError(
            f"night ds={ds}: {wanted} must be among those that are kept, which are {known}: "
            "publishing.keep_nights is for how long they are; run the night again instead"
        )
    found = max(chosen, key=lambda e: e.number)
    if not table:
        return found
    return Edition(last.number + 1, {**last.current.tables, table: found.tables[table]})


def _appeared(last: Entry, table: str) -> int:
    """Number of the oldest edition that has the current version of the table; without a table, of the current one."""
    now = last.current.tables.get(table)
    having = [e.number for e in last.kept if table and e.tables.get(table) == now]
    return min([last.current.number, *having])


def _append(spark: Spark, conf: Config, ds: str, entry: Entry) -> bool:
    """Whether the entry is now the night's newest."""
    if not storage.put_new(spark, _url(conf, ds, entry.number), entry.to_json().encode()):
        return False
    # A writer that slept for long may have filled the place of an entry that was overtaken and cleared away since.
    return _numbers(spark, conf, ds)[-1] < entry.number + ENTRIES_KEPT


def _numbers(spark: Spark, conf: Config, ds: str) -> list[int]:
    """Numbers of the entries, ascending."""
    found = map(_ENTRY.fullmatch, storage.names(spark, folder(conf, ds)))
    return sorted(int(entry[1]) for entry in found if entry and entry[0] == f"{entry[1]}.json")


def _url(conf: Config, ds: str, number: int) -> str:
    return storage.join(folder(conf, ds), f"{number:08d}.json")


def _started(pid: int) -> int:
    """Ticks from the kernel's boot to the beginning of a process; 0 where there is none that runs."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # a name may hold anything before it
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


def _place() -> str:
    """Which kernel we run on and in which namespace of processes; empty where that cannot be told."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
