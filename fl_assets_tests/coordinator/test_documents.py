from pathlib import Path

import pytest

from fl_assets.config import StrictModel
from fl_assets.coordinator import documents
from fl_assets.storage import FolderStore, ObjectNotFoundError
from fl_assets.storage.documents import UnreadableDocumentError


class Note(StrictModel):
    text: str
    figures: tuple[float | None, ...]


class Other(StrictModel):
    text: int


def test_a_document_comes_back(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    note = Note(text="größer", figures=(0.1, None, 1 / 3))
    documents.save(store, "notes/a.json", note)
    assert documents.load(store, "notes/a.json", Note) == note
    documents.save(store, "notes/a.json", Note(text="newer", figures=()))
    assert documents.load(store, "notes/a.json", Note).text == "newer"
    assert len(store.versions("notes/a.json")) == 2


def test_no_such_document(tmp_path: Path) -> None:
    with pytest.raises(ObjectNotFoundError, match=r"notes/a\.json"):
        documents.load(FolderStore(tmp_path), "notes/a.json", Note)


def test_a_document_of_another_kind(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    documents.save(store, "a.json", Note(text="x", figures=()))
    with pytest.raises(UnreadableDocumentError):
        documents.load(store, "a.json", Other)
