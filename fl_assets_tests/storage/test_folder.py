"""What only a folder can get wrong: processes, hands, links, modes and full disks."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fl_assets.storage import FolderStore, ObjectExistsError, ObjectNotFoundError, StorageError
from fl_assets.storage.base import AccessDeniedError
from fl_assets.storage.folder import KeyClashError, SymlinkRefusedError

PREAMBLE = """
import sys
from pathlib import Path
from fl_assets.storage import FolderStore, ObjectExistsError
from fl_assets.storage.folder import StorageFullError
store = FolderStore(Path(sys.argv[1]))
"""


def start(code: str, *args: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + code, *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def race(code: str, folder: Path, processes: int) -> list[str]:
    """Run ``code`` in processes that start together; return what each printed."""
    racers = [
        start("print('ready', flush=True); sys.stdin.readline()" + code, folder, n)
        for n in range(processes)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    outputs = [racer.communicate()[0] for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * processes
    return outputs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "hospital_1"


@pytest.fixture
def store(folder: Path) -> FolderStore:
    return FolderStore(folder)


@pytest.fixture
def powerless() -> Iterator[None]:
    """Root may do anything: be nobody for a while."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_put_if_absent_of_racing_processes_succeeds_once(store: FolderStore, folder: Path) -> None:
    code = """
for n in range(40):
    try:
        store.put_if_absent(f"ledger/{n:06}.json", sys.argv[2].encode())
        print(n)
    except ObjectExistsError:
        pass
"""
    won = [[int(line) for line in output.split()] for output in race(code, folder, 4)]
    assert sorted(n for numbers in won for n in numbers) == list(range(40))
    for racer, numbers in enumerate(won):
        for n in numbers:
            assert store.get(f"ledger/{n:06}.json") == str(racer).encode()


def test_racing_puts_all_become_versions(store: FolderStore, folder: Path) -> None:
    code = """
for n in range(25):
    content = f"{sys.argv[2]}-{n:02}"
    print(store.put("a", content.encode()).version, content)
"""
    put = dict(line.split() for output in race(code, folder, 4) for line in output.splitlines())
    assert len(put) == 100
    kept = store.versions("a")
    assert {info.version: store.get("a", info.version).decode() for info in kept} == put
    assert store.get("a") == store.get("a", kept[0].version)


def test_a_file_dropped_by_hand_is_an_object(store: FolderStore, folder: Path) -> None:
    file = folder / "incoming" / "upload.csv"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"by hand")
    (listed,) = store.list("incoming/")
    assert listed.key == "incoming/upload.csv"
    assert listed.version == f"{file.stat().st_mtime_ns}-7"
    assert store.versions(listed.key) == [listed]
    assert store.get(listed.key, listed.version) == b"by hand"
    with pytest.raises(ObjectExistsError):
        store.put_if_absent(listed.key, b"other")

    store.put(listed.key, b"by program")
    assert [info.size for info in store.versions(listed.key)] == [10, 7]
    assert store.get(listed.key, listed.version) == b"by hand"


def test_history_costs_no_disk_twice(store: FolderStore, folder: Path) -> None:
    for content in (b"1", b"2", b"3"):
        store.put("a", content)
    store.delete("a")
    inodes = [
        path.stat().st_ino for path in folder.rglob("*") if path.is_file() and path.stat().st_size
    ]
    assert len(inodes) == len(set(inodes)) == 3


def test_versions_stay_in_order_when_the_clock_is_set_back(
    store: FolderStore, folder: Path
) -> None:
    store.put("a", b"1")
    future = 4_000_000_000 * 10**9
    os.utime(folder / "a", ns=(future, future))
    store.put("a", b"2")
    store.delete("a")
    store.put("a", b"3")
    assert [store.get("a", info.version) for info in store.versions("a")] == [b"3", b"2", b"1"]


def test_a_kept_version_that_was_edited_is_no_longer_it(store: FolderStore, folder: Path) -> None:
    old = store.put("a", b"1")
    store.put("a", b"2")
    (kept,) = (folder / ".versions" / "a").iterdir()
    kept.write_bytes(b"edited")
    assert [info.size for info in store.versions("a")] == [1]
    with pytest.raises(ObjectNotFoundError):
        store.get("a", old.version)


def test_hidden_and_odd_files_are_not_listed(store: FolderStore, folder: Path) -> None:
    store.put("incoming/a.csv", b"1")
    store.put("incoming/a.csv", b"2")
    for name in (".DS_Store", "incoming/.a.csv.part", "incoming/back\\slash"):
        (folder / name).write_bytes(b"?")
    os.mkfifo(folder / "pipe")
    (folder / ".versions" / "incoming" / "a.csv" / ".DS_Store").write_bytes(b"?")
    assert [info.key for info in store.list()] == ["incoming/a.csv"]
    assert len(store.versions("incoming/a.csv")) == 2


def test_symlinks_are_refused(store: FolderStore, folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "other hospital" / "secret.csv"
    secret.parent.mkdir()
    secret.write_bytes(b"secret")
    store.put("a", b"1")
    (folder / "file.csv").symlink_to(secret)
    (folder / "incoming").symlink_to(secret.parent)
    (folder / "loop").symlink_to("loop")

    assert [info.key for info in store.list()] == ["a"]
    assert store.list("incoming/") == []
    for key in ("file.csv", "incoming/secret.csv", "incoming/new.csv"):
        for use in (store.get, store.exists, store.versions, store.delete):
            with pytest.raises(SymlinkRefusedError, match=key):
                use(key)
        with pytest.raises(SymlinkRefusedError, match=key):
            store.put(key, b"2")
    assert [path.name for path in secret.parent.iterdir()] == ["secret.csv"]
    assert secret.read_bytes() == b"secret"


def test_a_store_may_itself_be_reached_through_a_symlink(folder: Path, tmp_path: Path) -> None:
    FolderStore(folder).put("a", b"1")
    (tmp_path / "link").symlink_to(folder)
    assert FolderStore(tmp_path / "link").get("a") == b"1"


def test_only_the_owner_may_read(store: FolderStore, folder: Path) -> None:
    before = os.umask(0)
    try:
        store.put("a/b/c", b"1")
        store.put("a/b/c", b"2")
        store.put_if_absent("d", b"3")
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*"))}
    assert modes == {path: 0o700 if path.is_dir() else 0o600 for path in modes}
    assert len(modes) > 10


def test_reading_creates_nothing(store: FolderStore, folder: Path) -> None:
    assert store.list() == []
    assert not store.exists("a")
    assert not folder.exists()


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="is a file"):
        FolderStore(tmp_path / "file")


@pytest.mark.parametrize("key", ["file/under", "folder", "x" * 256])
def test_keys_that_a_disk_cannot_hold(store: FolderStore, key: str) -> None:
    store.put("file", b"1")
    store.put("folder/file", b"2")
    for write in (store.put, store.put_if_absent):
        with pytest.raises(KeyClashError, match=key):
            write(key, b"3")
    assert [info.key for info in store.list()] == ["file", "folder/file"]


def test_a_foreign_folder_is_denied(
    store: FolderStore, folder: Path, request: pytest.FixtureRequest
) -> None:
    store.put("a", b"1")
    folder.chmod(0)
    request.addfinalizer(lambda: folder.chmod(0o700))
    request.getfixturevalue("powerless")
    for use in (store.get, store.exists, store.delete):
        with pytest.raises(AccessDeniedError, match="owner"):
            use("a")
    with pytest.raises(AccessDeniedError):
        store.list()
    with pytest.raises(AccessDeniedError):
        store.put("a", b"2")


@pytest.mark.faults
@pytest.mark.parametrize("write", ["put", "put_if_absent"])
def test_a_write_that_fails_midway_changes_nothing(
    store: FolderStore, folder: Path, write: str
) -> None:
    old = store.put("a", b"old")
    code = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    getattr(store, sys.argv[2])(sys.argv[3], b"x" * 2_000_000)
except StorageFullError as error:
    print(error)
"""
    key = "a" if write == "put" else "b"
    output, _ = start(code, folder, write, key).communicate()
    assert "free space" in output
    assert store.get("a") == b"old"
    assert [info.version for info in store.list()] == [old.version]
    assert not any((folder / ".tmp").iterdir())


@pytest.mark.faults
def test_a_writer_killed_at_any_moment_leaves_whole_objects(
    store: FolderStore, folder: Path
) -> None:
    code = """
contents = [bytes([letter]) * 1_000_000 for letter in b"abcd"]
for n in range(10**6):
    store.put("a", contents[n % 4])
    print(n, flush=True)
"""
    for _ in range(3):
        writer = start(code, folder)
        assert writer.stdout is not None
        for _ in range(5):
            writer.stdout.readline()
        writer.kill()
        writer.communicate()
        (listed,) = store.list()
        contents = [store.get("a", info.version) for info in store.versions("a")]
        assert listed.size == 1_000_000
        assert all(len(content) == 1_000_000 and len(set(content)) == 1 for content in contents)
        # The lock died with its owner.
        store.put("a", contents[0])
