"""Damage to a ledger is noticed, and a crash does none."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fl_assets.consortium import PrivacyBudget
from fl_assets.privacy.ledger import Ledger
from fl_assets.privacy.ledger_chain import ANCHOR, LedgerDamagedError, entry_key
from fl_assets.privacy.ledger_entries import LedgerHead
from fl_assets.storage import FolderStore, SiteStore
from fl_assets.storage.s3 import S3Store
from fl_assets_tests.privacy.ledgers import (
    BUDGET,
    ONE,
    fill,
    gaussian,
    kinds,
    part,
    reserve,
)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "hospital")


def path(store: FolderStore, key: str) -> Path:
    return Path(store.uri.removeprefix("file://")) / key


def refuses_everything(store: SiteStore, *witnesses: LedgerHead, match: str) -> None:
    before = [(info.key, info.version) for info in store.list()]
    calls: list[Callable[[Ledger], object]] = [
        lambda ledger: ledger.entries(),
        lambda ledger: ledger.head(),
        lambda ledger: ledger.spent_events(),
        lambda ledger: reserve(ledger, "new"),
        lambda ledger: ledger.charge("new", [ONE], BUDGET, 1.0, "profile"),
        lambda ledger: ledger.settle("r0", [part(ONE, 10)]),
        lambda ledger: ledger.unprotected("new", PrivacyBudget(unprotected_runs=True)),
    ]
    for call in calls:
        with pytest.raises(LedgerDamagedError, match=match):
            call(Ledger(store, "hospital-a", witnesses))
    once = Ledger(store, "hospital-a", witnesses)
    for call in calls:
        with pytest.raises(LedgerDamagedError, match="hospital-a: the privacy ledger is damaged"):
            call(once)
    assert [(info.key, info.version) for info in store.list()] == before


class TestDamage:
    @pytest.mark.parametrize("number", range(1, 7))
    def test_an_edited_entry(self, store: FolderStore, number: int) -> None:
        fill(store)
        file = path(store, entry_key(number))
        file.write_text(file.read_text().replace('"steps":60', '"steps":6').replace("10}", "1}"))
        wrong = number + 1 if number < 6 else 6
        refuses_everything(store, match=f"ledger/00000{wrong}.json")

    @pytest.mark.parametrize("number", [1, 3, 6])
    @pytest.mark.parametrize("data", [b"", b"{", b'{"sequence": 1}', b"\xff"])
    def test_one_that_cannot_be_read(self, store: FolderStore, number: int, data: bytes) -> None:
        fill(store)
        path(store, entry_key(number)).write_bytes(data)
        refuses_everything(store, match=f"ledger/00000{number}.json cannot be read")

    def test_an_edit_that_repairs_every_hash_after_it(self, store: FolderStore) -> None:
        """Whoever can write can also compute hashes; the head that was seen tells."""
        fill(store)
        rewrite(store, lambda act: act | ({"events": []} if act["kind"] == "reserve" else {}))
        refuses_everything(store, match="it was edited or rolled back and written on")

    @pytest.mark.parametrize("left", range(6))
    def test_one_that_was_cut(self, store: FolderStore, left: int) -> None:
        fill(store)
        for number in range(left + 1, 7):
            path(store, entry_key(number)).unlink()
        refuses_everything(store, match=f"says 6 entries, {left} are there: it was cut or rolled")

    @pytest.mark.parametrize("left", range(6))
    def test_one_that_was_cut_with_its_anchor_but_not_its_history(
        self, store: FolderStore, left: int
    ) -> None:
        """As in S3, deleting through the store keeps the versions."""
        fill(store)
        for number in range(left + 1, 7):
            store.delete(entry_key(number))
        path(store, ANCHOR).unlink()
        refuses_everything(store, match=f"ledger/00000{left + 1}.json was there and is gone")

    @pytest.mark.parametrize("number", [1, 3, 5])
    @pytest.mark.parametrize("anchor", [True, False])
    def test_a_gap(self, store: FolderStore, number: int, anchor: bool) -> None:
        fill(store)
        path(store, entry_key(number)).unlink()
        if not anchor:
            path(store, ANCHOR).unlink()
        refuses_everything(store, match=f"ledger/00000{number}.json is missing")

    @pytest.mark.parametrize(("a", "b"), [(1, 2), (2, 5), (5, 6)])
    def test_reordered(self, store: FolderStore, a: int, b: int) -> None:
        fill(store)
        first, second = path(store, entry_key(a)), path(store, entry_key(b))
        texts = first.read_bytes(), second.read_bytes()
        first.write_bytes(texts[1])
        second.write_bytes(texts[0])
        refuses_everything(store, match=f"ledger/00000{a}.json holds entry {b}")

    def test_reordered_and_renumbered(self, store: FolderStore) -> None:
        fill(store)
        path(store, ANCHOR).unlink()
        files = [path(store, entry_key(n)) for n in (2, 4)]
        acts = [json.loads(file.read_text()) for file in files]
        for file, own, other in zip(files, acts, acts[::-1], strict=True):
            file.write_text(json.dumps(own | {"act": other["act"]}))
        refuses_everything(store, match=r"ledger/000003\.json does not follow the entry before it")

    @pytest.mark.parametrize("name", ["000008.json", "copy.json", "000001 (1).json"])
    def test_an_object_beside_the_chain(self, store: FolderStore, name: str) -> None:
        fill(store)
        path(store, f"ledger/{name}").write_bytes(b"{}")
        refuses_everything(store, match=rf"ledger/{name}".replace("(", r"\(").replace(")", r"\)"))

    def test_the_folder_restored_from_an_earlier_copy(self, store: FolderStore) -> None:
        fill(store, 1)
        folder = path(store, "ledger")
        shutil.copytree(folder, folder.parent / "copy")
        fill(store, 3)
        shutil.rmtree(folder)
        (folder.parent / "copy").rename(folder)
        refuses_everything(store, match="says 6 entries, 2 are there")

    def test_the_folder_restored_and_written_on_to_the_same_length(
        self, store: FolderStore
    ) -> None:
        """By somebody who has no ledger of this kind that would look at the anchor."""
        fill(store, 1)
        folder = path(store, "ledger")
        shutil.copytree(folder, folder.parent / "copy")
        fill(store, 3)
        anchor = path(store, ANCHOR).read_bytes()
        shutil.rmtree(folder)
        (folder.parent / "copy").rename(folder)
        path(store, ANCHOR).write_text(head_of(store, 2).model_dump_json())
        for number in range(8, 10):
            reserve(Ledger(store, "hospital-a"), f"r{number}", gaussian(0.1), 0.1)
            Ledger(store, "hospital-a").forfeit(f"r{number}", "lost")
        path(store, ANCHOR).write_bytes(anchor)
        refuses_everything(store, match="is not the entry that ledger-anchor.json says")

    def test_the_bucket_restored_with_a_witness_outside(self, store: FolderStore) -> None:
        """Nothing inside the bucket can tell; that is what witnesses are for."""
        early = fill(store, 1)
        root = path(store, "")
        shutil.copytree(root, root.parent / "copy")
        late = fill(store, 3)
        shutil.rmtree(root)
        (root.parent / "copy").rename(root)
        assert Ledger(store, "hospital-a").head() == early
        assert Ledger(store, "hospital-a", [early]).head() == early
        refuses_everything(store, early, late, match="the coordinator saw 6 entries, 2 are there")

    def test_the_bucket_restored_and_written_on(self, store: FolderStore) -> None:
        fill(store, 1)
        root = path(store, "")
        shutil.copytree(root, root.parent / "copy")
        late = fill(store, 2)
        shutil.rmtree(root)
        (root.parent / "copy").rename(root)
        ledger = Ledger(store, "hospital-a")
        for run in ("r7", "r8"):
            reserve(ledger, run, gaussian(0.3), 0.3)
        refuses_everything(store, late, match="is not the entry that the coordinator saw")

    @pytest.mark.parametrize("seen", ["anchor", "witness"])
    def test_a_ledger_that_is_gone(self, store: FolderStore, seen: str) -> None:
        head = fill(store)
        shutil.rmtree(path(store, "ledger"))
        if seen == "witness":
            path(store, ANCHOR).unlink()
        witnesses = [head] if seen == "witness" else []
        refuses_everything(store, *witnesses, match="6 entries, 0 are there")

    def test_an_anchor_that_is_gone(self, store: FolderStore) -> None:
        fill(store)
        path(store, ANCHOR).unlink()
        refuses_everything(store, match="ledger-anchor.json is gone")

    @pytest.mark.parametrize("data", [b"", b"{}", b'{"sequence": 0, "digest": "x"}'])
    def test_an_anchor_that_cannot_be_read(self, store: FolderStore, data: bytes) -> None:
        fill(store)
        path(store, ANCHOR).write_bytes(data)
        refuses_everything(store, match="ledger-anchor.json cannot be read")

    def test_a_wrong_witness_can_only_refuse(self, store: FolderStore) -> None:
        head = fill(store)
        for wrong in (
            LedgerHead(sequence=6, digest="0" * 64),
            LedgerHead(sequence=7, digest=head.digest),
            LedgerHead(sequence=2, digest=head.digest),
        ):
            refuses_everything(store, head, wrong, match="the coordinator saw")

    def test_entries_that_cannot_follow_each_other(self, store: FolderStore) -> None:
        """Chained all right, by somebody who knows how, and yet no ledger writes them."""
        fill(store)
        rewrite(store, lambda act: act | ({"run": "r9"} if act["kind"] == "settle" else {}))
        path(store, ANCHOR).write_text(head_of(store, 6).model_dump_json())
        refuses_everything(store, match="entry 2 is unlawful: run r9 has no reservation")

    def test_a_change_under_an_open_ledger(self, store: FolderStore) -> None:
        fill(store)
        ledger = Ledger(store, "hospital-a")
        assert len(ledger.entries()) == 6
        path(store, entry_key(6)).unlink()
        with pytest.raises(LedgerDamagedError, match=r"ledger/000006\.json was there and is gone"):
            reserve(ledger, "new")

    def test_restoring_what_was_there_is_the_cure(self, store: FolderStore) -> None:
        head = fill(store)
        file = path(store, entry_key(3))
        good = file.read_bytes()
        file.write_bytes(good.replace(b"r1", b"r2"))
        with pytest.raises(LedgerDamagedError):
            Ledger(store, "hospital-a").head()
        file.write_bytes(good)
        assert Ledger(store, "hospital-a", [head]).head() == head


def head_of(store: FolderStore, number: int) -> LedgerHead:
    digest = hashlib.sha256(store.get(entry_key(number))).hexdigest()
    return LedgerHead(sequence=number, digest=digest)


def rewrite(store: FolderStore, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change the acts and compute every hash anew; this is written without the ledger's code."""
    previous = "0" * 64
    for number in range(1, 7):
        file = path(store, entry_key(number))
        entry = json.loads(file.read_text())
        file.write_text(json.dumps(entry | {"previous": previous, "act": change(entry["act"])}))
        previous = head_of(store, number).digest


@pytest.mark.services
def test_a_cut_ledger_on_s3(make_bucket: Callable[[], str]) -> None:
    """S3 would let the next number be taken again: its history tells that it was there."""
    store = S3Store(make_bucket())
    fill(store, 1)
    for key in (entry_key(2), ANCHOR):
        store.delete(key)
    refuses_everything(store, match=r"ledger/000002\.json was there and is gone")


class Killed(BaseException):
    """What nobody catches."""


class DyingStore(FolderStore):
    """Dies instead of its n-th write."""

    writes_left = 10**9

    def _count(self) -> None:
        self.writes_left -= 1
        if self.writes_left < 0:
            raise Killed

    def put(self, key: str, data: bytes) -> Any:
        self._count()
        return super().put(key, data)

    def put_if_absent(self, key: str, data: bytes) -> Any:
        self._count()
        return super().put_if_absent(key, data)


@pytest.mark.faults
@pytest.mark.parametrize("deaths", [1, 3])
def test_dying_at_any_write_leaves_a_whole_ledger(tmp_path: Path, deaths: int) -> None:
    """Also where it dies again and again between an entry and its anchor."""
    for place in range(8):
        store = DyingStore(tmp_path / f"{deaths}-{place}")
        for attempt in range(deaths):
            store.writes_left = place if not attempt else 1
            with pytest.raises(Killed):
                fill(store)
        store.writes_left = 10**9
        fill(store)
        assert kinds(Ledger(store, "hospital-a")) == ["reserve", "settle"] * 3
        head = fill(store, 4)
        assert Ledger(store, "hospital-a").head() == head
        assert LedgerHead.model_validate_json(store.get(ANCHOR)) == head
