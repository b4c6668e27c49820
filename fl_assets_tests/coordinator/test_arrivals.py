"""What is new at the hospitals: every state is read exactly once, whatever happens on the way."""

from __future__ import annotations

import os
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fl_assets.cohorts.spec import load_cohort
from fl_assets.cohorts.synthetic import generate
from fl_assets.consortium import IntakeRules
from fl_assets.coordinator.arrivals import Cursor, Look, Past, Request, judge, look
from fl_assets.coordinator.chain import Seen, current_version
from fl_assets.coordinator.polling import Polled, poll
from fl_assets.site import erasure, rows
from fl_assets.site.intake import (
    INCOMING,
    INTAKE,
    Intake,
    Upload,
    collect_records,
    is_upload,
    load_intake,
)
from fl_assets.storage import FolderStore, ObjectInfo
from fl_assets.storage.base import AccessDeniedError

START = datetime(2027, 1, 1, tzinfo=UTC)
STROKE = load_cohort("stroke", Path())
_PATIENTS = generate(STROKE, 40, 1)
CONTENTS = [
    _PATIENTS.iloc[4 * n : 4 * n + 4].to_csv(index=False, na_rep="N/A").encode() for n in range(10)
]


@dataclass
class Run:
    """A run of the records that the sensor asked for, or somebody else.

    Attributes:
        request: of the sensor, None for a person's or a backfill's run.
        asked: how many changes there were when it was asked for.
        begun: likewise when it read, None before.
        listing: what it read, as key and version.
        new: of these, what nobody had read before.
        effect: whether anything had changed since the last run that read.
        ended: when, None before.
        read: whether it came to its end.
    """

    request: Request | None
    asked: int
    begun: int | None = None
    listing: frozenset[tuple[str, str]] = frozenset()
    new: frozenset[tuple[str, str]] = frozenset()
    effect: bool = False
    ended: datetime | None = None
    read: bool = False


@dataclass
class Simulation:
    """One hospital's folder, a daemon that looks into it, and its runs, under a clock of its own.

    Files are written past the store, as people do. Runs take their time, one after the other, as
    Dagster's queue has it. A run really collects the records, or only reports what it would have
    read, which takes no time.
    """

    folder: Path
    chance: random.Random
    really: bool
    # Seconds between looks that no message asks for.
    every: float = 0
    now: datetime = START
    cursor: str | None = None
    mail: list[str] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    changes: int = 0
    appeared: dict[str, int] = field(default_factory=dict)
    history: list[tuple[str, int, int]] = field(default_factory=list)
    recorded: Seen = field(default_factory=Seen)

    def __post_init__(self) -> None:
        self.store = FolderStore(self.folder)
        # One that stays: without any row the intake would have nothing to say.
        self._write("first", 0, self._nanoseconds())

    def _nanoseconds(self) -> int:
        return int(self.now.timestamp() * 1e9)

    def _changed(self, name: str) -> None:
        self.changes += 1
        self.appeared[f"{INCOMING}{name}.csv"] = self.changes
        # Lost, or told once or more often.
        self.mail += ["a"] * self.chance.randrange(4)

    def _write(self, name: str, content: int, modified: int) -> None:
        path = self.folder / "incoming" / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        before = (path.stat().st_mtime_ns, path.read_bytes()) if path.exists() else None
        path.write_bytes(CONTENTS[content])
        os.utime(path, ns=(modified, modified))
        if before != (modified, CONTENTS[content]):
            self._changed(name)
        self.history.append((name, content, modified))

    def upload(self) -> None:
        self._write(f"new-{len(self.history)}", self.chance.randrange(10), self._nanoseconds())

    def late(self) -> None:
        """A file that is older than everything that was seen."""
        old = self._nanoseconds() - self.chance.randrange(10**12, 10**14)
        self._write(f"late-{len(self.history)}", self.chance.randrange(10), old)

    def rewrite(self) -> None:
        name, content, _ = self.chance.choice(self.history)
        self._write(name, (content + 1) % 10, self._nanoseconds())

    def roll_back(self) -> None:
        """A file as it was once, with the time that it had then."""
        self._write(*self.chance.choice(self.history))

    def take_away(self) -> None:
        others = [p for p in (self.folder / "incoming").glob("*.csv") if p.stem != "first"]
        if others:
            gone = self.chance.choice(sorted(others))
            gone.unlink()
            self._changed(gone.stem)

    def leave_a_part(self) -> None:
        (self.folder / "incoming" / "new.csv.part").write_bytes(CONTENTS[1][:50])

    def wait(self) -> None:
        self.now += timedelta(seconds=self.chance.choice([1, 5, 40]))

    def lose_cursor(self) -> None:
        self.cursor = None

    def tell_again(self) -> None:
        """Ten messages about what is long known, and about another hospital."""
        self.mail += ["a", "b"] * 10

    def tick(self, recorded: bool = True) -> list[Request]:
        """A look; if it is not recorded, the daemon died before it could ask for anything."""
        cursor = Cursor.parse(self.cursor).turn(["a", "b"], self._told(), self.now, self.every)
        polled = poll(cursor.due, self._look, 10)
        found = judge(cursor, polled, self._past, self.now)
        if recorded:
            self.cursor = found.cursor.model_dump_json()
            known = {run.request.key for run in self.runs if run.request}
            self.runs += [Run(r, self.changes) for r in found.requests if r.key not in known]
        return list(found.requests)

    def _told(self) -> list[str]:
        """Messages in any order; some come again with a later look."""
        told = self.chance.sample(self.mail, k=len(self.mail))
        self.mail = [name for name in told if self.chance.random() < 0.3]
        return told

    def _look(self, name: str) -> Look:
        if name != "a":
            return Look((), frozenset(), "")
        return look(self.store, lambda asset: self.recorded, self.now)

    def die_before_recording(self) -> None:
        self.tick(recorded=False)

    def tick_ten_times(self) -> None:
        for _ in range(10):
            self.tick()

    def _past(self, _: str, state: str) -> Past:
        ended = tuple(
            r.ended for r in self.runs if r.ended and r.request and r.request.state == state
        )
        return Past(any(run.ended is None for run in self.runs), ended)

    def ask_by_hand(self) -> None:
        """A person or a backfill asks for a run."""
        self.runs.append(Run(None, self.changes))

    def begin(self) -> None:
        """The oldest run in the queue reads, if no other one is under way."""
        waiting = [run for run in self.runs if run.ended is None]
        if waiting and waiting[0].begun is None:
            self._read(waiting[0])

    def _read(self, run: Run) -> None:
        before = self._known()
        run.begun, run.listing = self.changes, self._listing()
        run.new, run.effect = run.listing - before, run.listing != before

    def end(self) -> None:
        """The run under way reports what it has read."""
        for run in self._under_way():
            if self.really:
                # Which reads and reports in one go.
                self._read(run)
                version = collect_records(self.store, STROKE).version
                self.recorded = Seen(version, str(len(self.runs)), self.now)
            else:
                uploads = tuple(Upload(key=key, version=v) for key, v in sorted(run.listing))
                self.store.put(INTAKE, Intake(uploads=uploads).model_dump_json().encode())
            run.read, run.ended = True, self.now

    def run(self) -> None:
        self.begin()
        self.end()

    def crash(self) -> None:
        self.begin()
        for run in self._under_way():
            run.ended = self.now

    def _under_way(self) -> list[Run]:
        return [run for run in self.runs if run.begun is not None and run.ended is None]

    def _listing(self) -> frozenset[tuple[str, str]]:
        return frozenset((i.key, i.version) for i in self.store.list(INCOMING) if is_upload(i))

    def _known(self) -> frozenset[tuple[str, str]]:
        return frozenset((u.key, u.version) for u in load_intake(self.store).uploads)

    def settle(self) -> None:
        """Let the daemon and the runs go on until nothing is left to do."""
        for _ in range(6):
            self.now += timedelta(minutes=11)
            self.tick()
            while any(run.ended is None for run in self.runs):
                self.run()

    @property
    def reads(self) -> int:
        """Runs that read something new, whoever asked for them."""
        return sum(run.read and run.effect for run in self.runs)

    def check(self) -> None:
        """Everything was read, each object version by one run, and no run was for nothing."""
        assert self._known() == self._listing()
        for key, version in self._listing():
            assert self._readers(key, version) == 1, key
        for run in self.runs:
            # One that was asked for, whose reason was taken back before it began.
            undone = run.begun is not None and run.begun > run.asked
            assert run.request is None or not run.read or run.effect or undone
        states = Counter(run.request.state for run in self.runs if run.request and run.read)
        assert set(states.values()) <= {1}
        self.now += timedelta(minutes=11)
        assert self.tick() == []

    def _readers(self, key: str, version: str) -> int:
        """How many runs read an object version for the first time since it is there."""
        read = [run for run in self.runs if run.read]
        since = [run for run in read if (run.begun or 0) >= self.appeared[key]]
        earlier = [run for run in read if (run.begun or 0) < self.appeared[key]]
        # One that was gone or other for a moment in which nobody looked was read before.
        kept = bool(earlier) and (key, version) in earlier[-1].listing
        return kept + sum((key, version) in run.new for run in since)


CHANGES = [Simulation.upload, Simulation.late, Simulation.rewrite, Simulation.roll_back,
           Simulation.take_away]  # fmt: skip
NO_CHANGES = [Simulation.tick_ten_times, Simulation.lose_cursor, Simulation.leave_a_part,
              Simulation.wait, Simulation.die_before_recording, Simulation.tell_again]  # fmt: skip
# What goes on at the same time; none of it is a reason for another run of the sensor.
MEANWHILE = [Simulation.ask_by_hand, Simulation.begin, Simulation.tick, Simulation.tell_again,
             Simulation.die_before_recording]  # fmt: skip


def simulation(seed: int, folder: Path, really: bool) -> Simulation:
    """One that lists, or one that is told by messages, with a listing every ten minutes."""
    return Simulation(folder, random.Random(seed), really, every=600 * (seed % 2))


@pytest.mark.parametrize("seed", range(100))
def test_each_change_is_read_once_and_nothing_else_is(seed: int, tmp_path: Path) -> None:
    world = simulation(seed, tmp_path, really=seed < 3)
    chance = world.chance
    world.settle()
    assert world.reads == 1
    for event in [*chance.choices(CHANGES, k=3), *chance.sample(NO_CHANGES, k=3)]:
        before = (world.changes, world.reads)
        for step in [*chance.sample(MEANWHILE, k=2), event, *chance.sample(MEANWHILE, k=2)]:
            step(world)
        world.settle()
        assert world.reads - before[1] == world.changes - before[0], event.__name__
        world.check()


@pytest.mark.parametrize("seed", range(100, 200))
def test_nothing_is_lost_in_any_order_of_events_ticks_runs_and_crashes(
    seed: int, tmp_path: Path
) -> None:
    world = simulation(seed, tmp_path, really=seed < 103)
    steps = [*CHANGES, *NO_CHANGES, *[Simulation.tick] * 3, *[Simulation.begin] * 2,
             *[Simulation.end] * 2, Simulation.ask_by_hand, Simulation.crash]  # fmt: skip
    for step in world.chance.choices(steps, k=25):
        step(world)
    world.settle()
    world.check()
    assert world.reads <= world.changes


class KilledError(BaseException):
    """Stands for the end of the process."""


class MortalStore(FolderStore):
    """A store whose process dies before it writes an intake's report."""

    def put(self, key: str, data: bytes) -> ObjectInfo:
        if key == INTAKE:
            raise KilledError
        return super().put(key, data)


def looked(store: FolderStore) -> Look:
    """Look into a store whose assets Dagster knows as they are."""
    return look(store, lambda asset: Seen(current_version(store, asset)), START)


@pytest.mark.faults
def test_records_that_the_report_does_not_know_are_collected_again(tmp_path: Path) -> None:
    """As when the contract changed, and no upload: they alone would call for nothing."""
    store = FolderStore(tmp_path)
    store.put("incoming/a.csv", CONTENTS[0])
    collect_records(store, STROKE)
    assert looked(store).changed == []
    tombstone = erasure.fingerprint(rows.site_key(store), str(_PATIENTS["id"].iloc[0]))
    erasure.add_tombstone(store, tombstone, [], START)
    with pytest.raises(KilledError):
        collect_records(MortalStore(tmp_path), STROKE, IntakeRules(max_quarantined=1))
    found = looked(store)
    assert found.changed == [INTAKE]
    asked = judge(Cursor(), Polled({"a": found}), no_runs, START).requests
    assert [request.hospital for request in asked] == ["a"]
    collect_records(store, STROKE)
    assert looked(store).changed == []


def info(key: str, version: str, age: float) -> ObjectInfo:
    return ObjectInfo(f"incoming/{key}", 9, version, START - timedelta(seconds=age))


def seen(*uploads: ObjectInfo, read: frozenset[tuple[str, str]] = frozenset()) -> Polled[Look]:
    return Polled({"a": Look(uploads, read, "report-1")})


def test_a_file_that_still_grows_waits_and_one_that_came_to_rest_does_not() -> None:
    first = judge(Cursor(), seen(info("x.csv", "v1", 1)), no_runs, START)
    assert first.requests == ()
    assert first.notes == {"a": "waits: an upload may still be growing"}

    grown = judge(first.cursor, seen(info("x.csv", "v2", 0)), no_runs, START)
    assert grown.requests == ()
    same = judge(grown.cursor, seen(info("x.csv", "v2", 1)), no_runs, START)
    old = judge(grown.cursor, seen(info("x.csv", "v3", 60)), no_runs, START)
    assert len(same.requests) == len(old.requests) == 1
    assert old.cursor.young == {}


def no_runs(_: str, __: str) -> Past:
    return Past()


def test_a_run_that_failed_without_a_word_is_asked_for_again_three_times_in_all() -> None:
    keys = []
    failed: list[datetime] = []
    now = START
    for minutes in (0, 2, 11):
        now += timedelta(minutes=minutes)
        found = judge(
            Cursor(), seen(info("x.csv", "v", 9)), lambda *_: Past(False, tuple(failed)), now
        )
        keys += [request.key for request in found.requests]
        failed.append(now)
        soon = judge(
            Cursor(), seen(info("x.csv", "v", 9)), lambda *_: Past(False, tuple(failed)), now
        )
        assert soon.requests == ()
    assert len(set(keys)) == 3
    assert "3 runs about incoming/x.csv failed" in soon.notes["a"]


def test_a_hospital_that_fails_is_named_and_takes_nobodys_turn() -> None:
    names = [f"h{n}" for n in range(5)]

    def ask(name: str) -> Look:
        if name in {"h0", "h3"}:
            raise AccessDeniedError(f"{name} lets nobody in")
        return Look((), frozenset(), "")

    cursor = Cursor().turn(names, [], START, 0)
    found = judge(cursor, poll(cursor.due, ask, 10), no_runs, START)

    assert set(found.notes) == {"h0", "h3"}
    assert found.notes["h3"] == "cannot be looked at: AccessDeniedError: h3 lets nobody in"
    assert found.cursor.turn(names, ["h3"], START, 0).due == ("h1", "h2", "h4", "h0", "h3")


@pytest.mark.faults
@pytest.mark.parametrize("text", [b"\0SECRET", b"", b'{"uploads": [], "SECRET": 1}'])
def test_a_report_that_cannot_be_read_stops_its_own_hospital_alone(
    text: bytes, tmp_path: Path
) -> None:
    stores = {name: FolderStore(tmp_path / name) for name in ("a", "b", "c")}
    for store in stores.values():
        store.put("incoming/a.csv", CONTENTS[0])
    stores["b"].put(INTAKE, text)
    polled = poll(list(stores), lambda name: looked(stores[name]), 10)
    later = datetime.now(UTC) + timedelta(minutes=1)
    found = judge(Cursor(), polled, no_runs, later)
    assert [request.hospital for request in found.requests] == ["a", "c"]
    assert set(found.notes) == {"b"}
    assert "UnreadableDocumentError" in found.notes["b"]
    assert "'records/intake.json' cannot be read as Intake" in found.notes["b"]
    assert "SECRET" not in found.notes["b"]


def test_who_had_no_turn_comes_first_and_who_left_the_consortium_not_at_all() -> None:
    polled: Polled[Look] = Polled(
        {"h0": Look((), frozenset(), "")}, {}, not_asked=["h3", "h4", "gone"]
    )
    left = judge(Cursor(), polled, no_runs, START).cursor
    names = ["h0", "h1", "h3", "h4"]
    assert left.turn(names, [], START, 0).due == ("h3", "h4", "h0", "h1")
    assert left.turn(names, ["h1"], START, 0).due == ("h1", "h3", "h4", "h0")


def test_with_messages_only_who_is_named_is_looked_at_until_all_are_due() -> None:
    names = ["h0", "h1", "h2"]
    first = Cursor().turn(names, [], START, 600)
    assert first.due == tuple(names)
    left = judge(
        first, Polled({n: Look((), frozenset(), "") for n in names}), no_runs, START
    ).cursor
    soon = START + timedelta(seconds=599)
    assert left.turn(names, ["h2", "h2"], soon, 600).due == ("h2",)
    assert left.turn(names, [], soon + timedelta(seconds=1), 600).due == tuple(names)


@pytest.mark.parametrize("text", [None, "", "no JSON", '{"of": "another release"}'])
def test_a_cursor_that_cannot_be_read_begins_anew(text: str | None) -> None:
    assert Cursor.parse(text) == Cursor()
