"""The contract of a site store, on both back ends."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier, Event

import pytest

from fl_assets.storage import (
    ObjectExistsError,
    ObjectNotFoundError,
    SiteStore,
    multipart,
    open_store,
)
from fl_assets.storage.base import BadKeyError
from fl_assets.storage.source import FileChangedError, SourceFile, UnreadableFileError

BAD_KEYS = ["", "../x", "/x", "a//b", ".hidden", "a/.hidden", "a/./b", "a/", "a\\b", "a\nb", "a\0b"]
UNICODE_KEYS = ["incoming/größe 1.csv", "incoming/数据.csv", "incoming/a+b=c&d%20e?f#g.csv"]


class TestSiteStore:
    def test_put_then_get(self, store: SiteStore) -> None:
        before = datetime.now(UTC)
        info = store.put("records/1.parquet", b"rows")
        assert store.get("records/1.parquet") == b"rows"
        assert (info.key, info.size) == ("records/1.parquet", 4)
        assert {info.modified.tzinfo, store.list()[0].modified.tzinfo} == {UTC}
        assert abs(info.modified - before) < timedelta(minutes=1)

    def test_an_empty_object_is_an_object(self, store: SiteStore) -> None:
        assert store.put("empty", b"").size == 0
        assert store.get("empty") == b""
        assert store.exists("empty")

    def test_put_and_listing_agree(self, store: SiteStore) -> None:
        put = store.put("a/b", b"1")
        (listed,) = store.list()
        assert (put.key, put.size, put.version) == (listed.key, listed.size, listed.version)
        assert store.versions("a/b") == [listed]

    def test_an_empty_store_reads_as_empty(self, store: SiteStore) -> None:
        assert store.list() == []
        assert store.versions("a") == []
        assert not store.exists("a")
        for read in (store.get, store.open, store.delete):
            with pytest.raises(ObjectNotFoundError, match="'a'"):
                read("a")

    def test_a_prefix_or_folder_of_a_key_is_no_object(self, store: SiteStore) -> None:
        store.put("records/1.parquet", b"rows")
        for key in ("records", "records/1", "records/1.parquet/x"):
            assert not store.exists(key)
            assert store.versions(key) == []
            with pytest.raises(ObjectNotFoundError):
                store.get(key)

    def test_equal_puts_have_different_versions(self, store: SiteStore) -> None:
        versions = {store.put("a", b"same").version for _ in range(20)}
        assert len(versions) == 20

    def test_versions_are_newest_first_and_readable(self, store: SiteStore) -> None:
        puts = [store.put("a", f"content {n}".encode()) for n in range(5)]
        store.put("ab", b"another key that starts alike")
        store.put("a-", b"and one that sorts before")
        kept = store.versions("a")
        assert [info.version for info in kept] == [info.version for info in reversed(puts)]
        assert {info.key for info in kept} == {"a"}
        assert [store.get("a", info.version) for info in puts] == [
            f"content {n}".encode() for n in range(5)
        ]

    @pytest.mark.parametrize("version", ["1-1", "../../a", "null", ""])
    def test_an_unknown_version_is_not_found(self, store: SiteStore, version: str) -> None:
        store.put("a", b"1")
        with pytest.raises(ObjectNotFoundError, match="version"):
            store.get("a", version)

    def test_put_if_absent_keeps_what_is_there(self, store: SiteStore) -> None:
        first = store.put_if_absent("ledger/0.json", b"first")
        with pytest.raises(ObjectExistsError, match=r"ledger/0\.json"):
            store.put_if_absent("ledger/0.json", b"second")
        assert store.get("ledger/0.json") == b"first"
        assert [info.version for info in store.versions("ledger/0.json")] == [first.version]

    def test_put_if_absent_of_racing_threads_succeeds_once(self, store: SiteStore) -> None:
        barrier = Barrier(8)

        def race(racer: int) -> int | None:
            barrier.wait()
            try:
                store.put_if_absent("claim", str(racer).encode())
            except ObjectExistsError:
                return None
            return racer

        with ThreadPoolExecutor(8) as pool:
            winners = [racer for racer in pool.map(race, range(8)) if racer is not None]
        assert len(winners) == 1
        assert store.get("claim") == str(winners[0]).encode()

    def test_delete_keeps_older_versions(self, store: SiteStore) -> None:
        old, new = store.put("a", b"old"), store.put("a", b"new")
        store.delete("a")
        assert not store.exists("a")
        assert store.list() == []
        for read in (store.get, store.delete):
            with pytest.raises(ObjectNotFoundError):
                read("a")
        assert [info.version for info in store.versions("a")] == [new.version, old.version]
        assert store.get("a", old.version) == b"old"
        assert store.get("a", new.version) == b"new"

    def test_a_deleted_key_is_absent_and_can_return(self, store: SiteStore) -> None:
        old = store.put("a", b"1")
        store.delete("a")
        new = store.put_if_absent("a", b"1")
        assert store.get("a") == b"1"
        assert [info.version for info in store.versions("a")] == [new.version, old.version]

    def test_list_is_by_string_prefix_and_sorted(self, store: SiteStore) -> None:
        keys = ["b", "a/c/d", "a/b", "a-b", "ab", "a/B"]
        for key in keys:
            store.put(key, key.encode())
        assert [info.key for info in store.list()] == ["a-b", "a/B", "a/b", "a/c/d", "ab", "b"]
        assert [info.key for info in store.list("a/")] == ["a/B", "a/b", "a/c/d"]
        assert [info.key for info in store.list("a")] == ["a-b", "a/B", "a/b", "a/c/d", "ab"]
        assert [info.key for info in store.list("a/c/d")] == ["a/c/d"]
        for nothing in ("c", "a/b/", "../", "/", "a//", "."):
            assert store.list(nothing) == []

    def test_list_tells_the_current_version(self, store: SiteStore) -> None:
        store.put("a", b"old")
        new = store.put("a", b"newer")
        (listed,) = store.list()
        assert (listed.version, listed.size) == (new.version, 5)

    @pytest.mark.parametrize("key", UNICODE_KEYS)
    def test_unicode_and_reserved_letters(self, store: SiteStore, key: str) -> None:
        info = store.put(key, b"1")
        assert [info.key for info in store.list("incoming/")] == [key]
        assert store.get(key, info.version) == b"1"
        assert store.versions(key)[0].version == info.version
        store.delete(key)

    @pytest.mark.parametrize("key", BAD_KEYS)
    def test_bad_keys_are_refused(self, store: SiteStore, key: str) -> None:
        for write in (store.put, store.put_if_absent):
            with pytest.raises(BadKeyError):
                write(key, b"1")
        for read in (store.get, store.open, store.exists, store.versions, store.delete):
            with pytest.raises(BadKeyError):
                read(key)
        assert store.list() == []

    def test_open_is_seekable(self, store: SiteStore) -> None:
        old = store.put("a", b"0123456789")
        store.put("a", b"new")
        with store.open("a", old.version) as stream:
            assert stream.seek(-3, 2) == 7
            assert stream.read() == b"789"
            stream.seek(0)
            assert stream.read(2) == b"01"

    def test_an_open_stream_outlives_a_put(self, store: SiteStore) -> None:
        store.put("a", b"old content")
        with store.open("a") as stream:
            store.put("a", b"new")
            assert stream.read() == b"old content"

    def test_a_reader_never_sees_a_torn_object(self, store: SiteStore) -> None:
        size = 300_000
        contents = [bytes([letter]) * size for letter in b"abcd"]
        store.put("a", contents[0])
        done = Event()

        def write() -> None:
            try:
                for n in range(24):
                    store.put("a", contents[n % 4])
            finally:
                done.set()

        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write)
            seen = [store.get("a")]
            while not done.is_set():
                seen.append(store.get("a"))
            writing.result()
        assert all(content in contents for content in seen)

    def test_purge_leaves_nothing(self, store: SiteStore) -> None:
        old = [store.put("a", data).version for data in (b"1", b"2")]
        store.delete("a")
        store.put("a", b"3")
        for other in ("ab", "b/a"):
            store.put(other, b"other")
        assert store.purge("a") == 3
        assert store.versions("a") == []
        assert not store.exists("a")
        for version in (None, *old):
            with pytest.raises(ObjectNotFoundError):
                store.get("a", version)
        assert [info.key for info in store.history()] == ["ab", "b/a"]
        assert store.purge("a") == 0
        # The key is free again.
        assert store.put_if_absent("a", b"4").key == "a"

    def test_purge_reaches_what_was_deleted_before(self, store: SiteStore) -> None:
        store.put("a", b"1")
        store.delete("a")
        assert store.purge("a") == 1
        assert store.history() == []

    @pytest.mark.parametrize("gone", [{0}, {1}, {2}, {0, 2}, {1, 2}])
    def test_purge_can_take_some_versions_and_leave_what_came_meanwhile(
        self, store: SiteStore, gone: set[int]
    ) -> None:
        versions = [store.put("a", data).version for data in (b"0", b"1", b"2")]
        doomed = {versions[n] for n in gone}
        left = [n for n in (2, 1, 0) if n not in gone]
        assert store.purge("a", {*doomed, "no such version"}) == len(gone)
        assert [info.version for info in store.versions("a")] == [versions[n] for n in left]
        assert store.get("a") == str(left[0]).encode()
        assert store.purge("a", doomed) == 0

    def test_purge_of_some_versions_leaves_a_deleted_key_deleted(self, store: SiteStore) -> None:
        versions = [store.put("a", data).version for data in (b"0", b"1")]
        store.delete("a")
        assert store.purge("a", versions[1:]) == 1
        assert not store.exists("a")
        assert [info.version for info in store.versions("a")] == versions[:1]
        assert store.purge("a", versions) == 1
        assert store.history() == []
        assert store.put_if_absent("a", b"new").key == "a"

    def test_history_has_deleted_keys_too(self, store: SiteStore) -> None:
        assert store.history() == []
        first, second = store.put("b/a", b"1"), store.put("b/a", b"2")
        gone, other = store.put("b/gone", b"1"), store.put("c", b"1")
        store.delete("b/gone")
        found = [(info.key, info.version) for info in store.history("b/")]
        expected = [second, first, gone]
        assert found == [(info.key, info.version) for info in expected]
        assert store.history()[-1].version == other.version
        assert store.history("b/g") == store.versions("b/gone")

    def test_its_uri_opens_it_again(self, store: SiteStore) -> None:
        store.put("a", b"1")
        again = open_store(store.uri)
        assert again.uri == store.uri
        assert type(again) is type(store)
        assert again.get("a") == b"1"


class BrokenOffError(Exception):
    """What breaks a transfer off."""


class TestPutFile:
    SIZE = 2 * 5 * 2**20 + 3

    @pytest.fixture(autouse=True)
    def _small_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # The smallest that S3 takes.
        monkeypatch.setattr(multipart, "PART", 5 * 2**20)

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return self.written(tmp_path / "upload.csv", b"0123456789abcde\n")

    def written(self, path: Path, line: bytes) -> Path:
        path.write_bytes((line * (self.SIZE // len(line) + 1))[: self.SIZE])
        return path

    def broken_off(self, store: SiteStore, file: Path, after: int) -> None:
        """Break a transfer off once so many bytes are there."""

        def progress(done: int) -> None:
            if done >= after:
                raise BrokenOffError

        with pytest.raises(BrokenOffError):
            store.put_file("incoming/a.csv", file, progress)

    @pytest.mark.parametrize("size", [0, 1, 5 * 2**20, 5 * 2**20 + 1, 2 * 5 * 2**20])
    def test_a_file_becomes_an_object(self, store: SiteStore, tmp_path: Path, size: int) -> None:
        (tmp_path / "file").write_bytes(b"x" * size)
        old = store.put("incoming/a.csv", b"old")
        seen: list[int] = []
        info = store.put_file("incoming/a.csv", tmp_path / "file", seen.append)
        assert seen == sorted(seen)
        assert seen[-1] == size
        assert store.get("incoming/a.csv") == b"x" * size
        (listed,) = store.list()
        assert (info.size, info.version) == (size, listed.version)
        assert abs(info.modified - datetime.now(UTC)) < timedelta(minutes=1)
        assert [i.version for i in store.versions("incoming/a.csv")] == [info.version, old.version]

    @pytest.mark.faults
    def test_what_broke_off_goes_on(self, store: SiteStore, file: Path) -> None:
        for _ in range(2):
            self.broken_off(store, file, after=self.SIZE - 10)
            assert not store.exists("incoming/a.csv")
            assert store.history() == []
        seen: list[int] = []
        store.put_file("incoming/a.csv", file, seen.append)
        assert seen[-1] == self.SIZE
        assert store.get("incoming/a.csv") == file.read_bytes()
        assert len(store.history()) == 1

    @pytest.mark.faults
    def test_another_file_does_not_go_on(
        self, store: SiteStore, file: Path, tmp_path: Path
    ) -> None:
        self.broken_off(store, file, after=6 * 2**20)
        other = self.written(tmp_path / "other.csv", b"fedcba9876543210")
        store.put_file("incoming/a.csv", other)
        assert store.get("incoming/a.csv") == other.read_bytes()

    @pytest.mark.faults
    def test_a_file_that_was_corrected_meanwhile(self, store: SiteStore, file: Path) -> None:
        self.broken_off(store, file, after=self.SIZE)
        content = bytearray(file.read_bytes())
        content[6 * 2**20] ^= 1
        file.write_bytes(content)
        store.put_file("incoming/a.csv", file)
        assert store.get("incoming/a.csv") == content

    @pytest.mark.faults
    @pytest.mark.parametrize("size", [10, SIZE])
    def test_a_file_that_grows_meanwhile_is_refused(
        self, store: SiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
    ) -> None:
        file = tmp_path / "growing.csv"
        file.write_bytes(b"x" * size)
        read = SourceFile.read

        def grow(source: SourceFile, start: int, length: int) -> bytes:
            with file.open("ab") as stream:
                stream.write(b"y")
            return read(source, start, length)

        monkeypatch.setattr(SourceFile, "read", grow)
        with pytest.raises(FileChangedError, match=r"growing\.csv.*wait until"):
            store.put_file("incoming/a.csv", file)
        assert store.history() == []

    def test_unreadable_files(self, store: SiteStore, tmp_path: Path) -> None:
        for path in (tmp_path / "absent.csv", tmp_path):
            with pytest.raises(UnreadableFileError, match="readable file"):
                store.put_file("incoming/a.csv", path)
        with pytest.raises(BadKeyError):
            store.put_file("../a.csv", tmp_path / "absent.csv")
        assert store.history() == []

    @pytest.mark.faults
    def test_purge_removes_a_transfer_that_broke_off(self, store: SiteStore, file: Path) -> None:
        self.broken_off(store, file, after=6 * 2**20)
        assert store.purge("incoming/a.csv") == 0
        seen: list[int] = []
        store.put_file("incoming/a.csv", file, seen.append)
        assert seen[0] in {0, 5 * 2**20}  # nothing was there, or one part had to be sent

    def test_several_at_once(self, store: SiteStore, file: Path) -> None:
        with ThreadPoolExecutor(3) as pool:
            keys = [f"incoming/{n}.csv" for n in range(3)]
            list(pool.map(lambda key: store.put_file(key, file), keys))
        assert [info.key for info in store.list()] == keys
        assert {info.size for info in store.list()} == {self.SIZE}
