from __future__ import annotations

import hashlib
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fl_assets.site.egress import EgressEntry, EgressLog
from fl_assets.storage import FolderStore, ObjectExistsError, ObjectInfo
from fl_assets.storage.base import StorageError


def test_a_message_is_written_down(store: FolderStore) -> None:
    before = datetime.now(UTC)
    message = b"any bytes \0\xff"
    assert EgressLog(store).release("update", "run-1", message, "round 3") == message
    (entry,) = EgressLog(store).entries()
    assert (entry.kind, entry.run, entry.detail, entry.size) == ("update", "run-1", "round 3", 12)
    assert entry.sha256 == hashlib.sha256(message).hexdigest()
    assert before <= entry.time <= datetime.now(UTC)
    assert entry.time.utcoffset() == timedelta(0)


def test_the_message_itself_is_not_kept(store: FolderStore) -> None:
    EgressLog(store).release("profile", "run", b"counts of patients")
    assert all(b"counts" not in store.get(info.key) for info in store.list())


def test_entries_in_order(store: FolderStore) -> None:
    log = EgressLog(store)
    for number in range(12):
        log.release("update", "run", b"x" * number, f"round {number}")
    found = EgressLog(store).entries()
    assert [entry.size for entry in found] == list(range(12))
    assert [entry.time for entry in found] == sorted(entry.time for entry in found)
    assert len({info.key.rpartition("/")[0] for info in store.list()}) <= 2  # midnight


def test_an_empty_log(store: FolderStore) -> None:
    assert EgressLog(store).entries() == []


def test_a_log_goes_on_where_another_instance_ended(store: FolderStore) -> None:
    logs = [EgressLog(store), EgressLog(store)]
    for number in range(6):
        logs[number % 2].release("update", "run", b"", str(number))
    assert [entry.detail for entry in EgressLog(store).entries()] == list("012345")


class BrokenStore:
    """A store that cannot be written while ``broken``."""

    def __init__(self, store: FolderStore) -> None:
        self._store, self.broken = store, True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put_if_absent(self, key: str, data: bytes) -> object:
        if self.broken:
            raise StorageError("disk full")
        return self._store.put_if_absent(key, data)


@pytest.mark.faults
def test_a_number_that_is_refused_to_both_of_two_is_tried_again(store: FolderStore) -> None:
    """S3 may refuse a conditional put for another one that then fails as well (409)."""

    class Conflicting(FolderStore):
        refusals = 1

        def put_if_absent(self, key: str, data: bytes) -> ObjectInfo:
            if self.refusals:
                self.refusals -= 1
                raise ObjectExistsError(self.uri, key)
            return super().put_if_absent(key, data)

    log = EgressLog(Conflicting(Path(store.uri.removeprefix("file://"))))
    log.release("update", "run", b"weights")
    assert [info.key[-11:] for info in store.list()] == ["000000.json"]
    assert log.damages() == []


def test_reading_the_log_reads_every_entry_once(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, read = EgressLog(store), []
    for number in range(3):
        log.release("update", "run", b"", str(number))
    monkeypatch.setattr(store, "get", lambda key: read.append(key) or FolderStore.get(store, key))
    entries, problems = EgressLog(store).read()
    assert ([entry.detail for entry in entries], problems) == (["0", "1", "2"], [])
    assert len(read) == len(set(read)) == 3


@pytest.mark.faults
def test_nothing_leaves_that_cannot_be_written_down(store: FolderStore) -> None:
    broken = BrokenStore(store)
    log = EgressLog(broken)  # type: ignore[arg-type]
    with pytest.raises(StorageError, match="disk full"):
        log.release("update", "run", b"secret", "0")
    assert log.entries() == []
    broken.broken = False
    log.release("update", "run", b"", "1")
    broken.broken = True
    with pytest.raises(StorageError):
        log.release("update", "run", b"", "2")
    broken.broken = False
    log.release("update", "run", b"", "3")
    # No gap where a write failed, so that nobody later fills it out of order.
    EgressLog(store).release("update", "run", b"", "4")
    assert [entry.detail for entry in log.entries()] == ["1", "3", "4"]
    assert [info.key[-11:] for info in store.list()] == [f"{n:06d}.json" for n in range(3)]


WRITER = """
import sys
from fl_assets.site.egress import EgressLog
from fl_assets.storage import open_store
log = EgressLog(open_store(sys.argv[1]))
log.release("update", sys.argv[2], b"", "0")
print("ready", flush=True)
sys.stdin.readline()
for number in range(1, 40):
    log.release("update", sys.argv[2], b"", str(number))
"""


def test_two_processes_lose_no_entry(store: FolderStore) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, store.uri, run],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for run in "ab"
    ]
    # Each has one entry and knows its next number; at least the first's is taken by then.
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    found = EgressLog(store).entries()
    for run in "ab":
        assert [entry.detail for entry in found if entry.run == run] == [str(n) for n in range(40)]
    assert len(found) == 80


@pytest.fixture
def three_days(store: FolderStore) -> FolderStore:
    """Two entries on each of three days, as the log itself writes them."""
    for day in ("2026-01-01", "2026-01-02", "2026-01-05"):
        log = EgressLog(store)
        for number in range(2):
            entry = EgressEntry(
                time=datetime(2026, 1, int(day[-1]), tzinfo=UTC),
                kind="update",
                run="run",
                detail=f"{day} {number}",
                size=1,
                sha256="0" * 64,
            )
            log._append(f"egress/{day}/", entry)
    return store


def test_a_whole_log_has_no_damage(three_days: FolderStore) -> None:
    assert EgressLog(three_days).damages() == []
    assert [e.previous is None for e in EgressLog(three_days).entries()] == [True] + 5 * [False]


@pytest.mark.parametrize(
    ("gone", "shown"),
    [
        (
            ["egress/2026-01-01/000000.json"],
            "1 entries are missing before egress/2026-01-01/000001",
        ),
        (
            ["egress/2026-01-05/000000.json"],
            "1 entries are missing before egress/2026-01-05/000001",
        ),
        (["egress/2026-01-01/000001.json"], "what egress/2026-01-02/000000.json follows on"),
        (
            ["egress/2026-01-02/000000.json", "egress/2026-01-02/000001.json"],
            "what egress/2026-01-05/000000.json follows on",
        ),
    ],
    ids=["first", "first of a day", "last of a day", "a whole day"],
)
def test_a_deleted_entry_shows(three_days: FolderStore, gone: list[str], shown: str) -> None:
    for key in gone:
        three_days.delete(key)
    (problem,) = EgressLog(three_days).damages()
    assert problem.startswith(shown)


def test_an_edited_entry_shows(three_days: FolderStore) -> None:
    key = "egress/2026-01-02/000000.json"
    three_days.put(key, three_days.get(key).replace(b'"size":1', b'"size":0'))
    assert EgressLog(three_days).damages() == [
        "what egress/2026-01-02/000001.json follows on was edited or is missing"
    ]


def test_entries_from_before_the_chain_are_whole(store: FolderStore) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    entry = EgressEntry(time=now, kind="update", run="r", detail="", size=1, sha256="0")
    old = entry.model_dump_json(exclude={"previous"})
    for number in range(2):
        store.put(f"egress/2026-01-01/{number:06d}.json", old.encode())
    EgressLog(store).release("update", "run", b"")
    assert EgressLog(store).damages() == []
