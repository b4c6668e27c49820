"""The contract of a store's locks, on every kind of store."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from fl_assets.storage import SiteStore, lease, open_store
from fl_assets.storage.locks import LockHeldError


class BrokenOffError(Exception):
    """What breaks a block off."""


class TestLock:
    def test_one_at_a_time_among_threads_with_stores_of_their_own(self, store: SiteStore) -> None:
        store.put("count", b"0")

        def count(_: int) -> None:
            own = open_store(store.uri)
            with own.lock("rows") as held:
                seen = int(own.get("count"))
                held.check()
                own.put("count", str(seen + 1).encode())

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(count, range(8)))
        assert store.get("count") == b"8"

    def test_a_thread_may_take_it_again_and_gives_it_back_at_the_outer_end(
        self, store: SiteStore
    ) -> None:
        def is_free() -> bool:
            try:
                with open_store(store.uri).lock("rows", wait=0):
                    return True
            except LockHeldError:
                return False

        def take_twice_and_break_off() -> None:
            with store.lock("rows"):
                with open_store(store.uri).lock("rows", wait=0) as inner:
                    inner.check()
                assert not other.submit(is_free).result()
                raise BrokenOffError

        with ThreadPoolExecutor(1) as other:
            with pytest.raises(BrokenOffError):
                take_twice_and_break_off()
            assert other.submit(is_free).result()

    def test_other_names_and_other_stores_are_other_locks(self, store: SiteStore) -> None:
        with store.lock("rows", wait=0), store.lock("else", wait=0):
            pass
        assert [info.key for info in store.list() if not info.key.startswith("locks/")] == []

    def test_who_waits_in_vain_is_told_who_holds_it(self, store: SiteStore) -> None:
        def wait() -> None:
            with store.lock("rows", wait=0.2):
                pass

        with (
            ThreadPoolExecutor(1) as other,
            store.lock("rows"),
            pytest.raises(LockHeldError) as caught,
        ):
            other.submit(wait).result()
        message = str(caught.value)
        assert store.uri in message
        assert f"'rows' is held by process {os.getpid()} on " in message
        assert f"since {datetime.now(UTC):%Y-}" in message
        assert "within 0.2 s: wait until that process is done" in message

    @pytest.mark.faults
    def test_that_of_a_killed_process_is_free_again(
        self, store: SiteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lease, "LEASE", 1.0)
        code = (
            "import sys, time\nfrom fl_assets.storage import open_store\n"
            "with open_store(sys.argv[1]).lock('rows'):\n    print('held', flush=True)\n"
            "    time.sleep(600)"
        )
        holder = subprocess.Popen([sys.executable, "-c", code, store.uri], stdout=subprocess.PIPE)
        with holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            with pytest.raises(LockHeldError, match=f"process {holder.pid} on"):
                store.lock("rows", wait=0).__enter__()
            holder.kill()
        with store.lock("rows", wait=60) as held:
            held.check()
