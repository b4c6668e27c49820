"""A lease of numbered objects, when holders stall and takers race."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Barrier, Event

import pytest

from fl_assets.storage import FolderStore, ObjectInfo, StorageError, lease
from fl_assets.storage.lease import leased
from fl_assets.storage.locks import LockHeldError, LockLostError


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "hospital")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE", 0.4)


class StalledStore(FolderStore):
    """A store whose process has come to a halt: nothing that it puts arrives."""

    def put(self, key: str, data: bytes) -> ObjectInfo:
        raise StorageError("no answer")


def claims(store: FolderStore) -> list[str]:
    return [info.key for info in store.list("locks/")]


def test_numbers_go_up_and_old_ones_go(store: FolderStore) -> None:
    for number in range(3):
        with leased(store, "rows", 0) as held:
            held.check()
            assert claims(store) == [f"locks/rows/{number:09d}.json"]
    assert claims(store) == ["locks/rows/000000002.json"]
    assert len(store.history("locks/")) == 2


@pytest.mark.usefixtures("short")
def test_one_that_is_renewed_is_held_for_longer_than_its_time(store: FolderStore) -> None:
    with leased(store, "rows", 0) as held:
        with pytest.raises(LockHeldError), leased(store, "rows", 1.2):
            pass
        held.check()


@pytest.mark.usefixtures("short")
@pytest.mark.faults
def test_one_of_a_stalled_holder_goes_to_one_of_all_racers(
    store: FolderStore, tmp_path: Path
) -> None:
    barrier, taken, done = Barrier(4), [], Event()

    def race(racer: int) -> None:
        barrier.wait()
        try:
            with leased(store, "rows", 2):
                taken.append(racer)
                done.wait()
        except LockHeldError:
            done.set()

    with ExitStack() as stack:
        stalled = stack.enter_context(leased(StalledStore(tmp_path / "hospital"), "rows", 0))
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(race, range(4)))
        # Who waited in vain let the winner go on; others may have had it after that.
        assert taken
        assert len(set(taken)) == len(taken)
        with pytest.raises(LockLostError, match="'rows' was not renewed in time"):
            stalled.check()


def test_a_holder_that_was_replaced_publishes_nothing(store: FolderStore) -> None:
    with leased(store, "rows", 0) as held:
        store.put("locks/rows/000000001.json", b"{}")
        with pytest.raises(LockLostError):
            held.check()


def test_a_number_that_was_taken_and_purged_meanwhile_is_not_taken_again(
    store: FolderStore, tmp_path: Path
) -> None:
    """Whoever looked before that creates it anew, and sees that there is a higher one."""
    with leased(store, "rows", 0):
        pass

    class Slow(FolderStore):
        """One that others overtake between its look and its claim."""

        overtaken = False

        def put_if_absent(self, key: str, data: bytes) -> ObjectInfo:
            if not self.overtaken:
                self.overtaken = True
                with leased(store, "rows", 0):
                    pass
                stack.enter_context(leased(store, "rows", 0))
            return super().put_if_absent(key, data)

    with ExitStack() as stack:
        with pytest.raises(LockHeldError), leased(Slow(tmp_path / "hospital"), "rows", 0):
            pass
        assert claims(store) == ["locks/rows/000000002.json"]
