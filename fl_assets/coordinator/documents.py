"""Typed JSON documents in the coordinator's store."""

from __future__ import annotations

from pydantic import BaseModel

from fl_assets.storage import SiteStore
from fl_assets.storage.documents import Document, load_document


def save(store: SiteStore, key: str, document: BaseModel) -> None:
    """Store a document under ``key``."""
    store.put(key, document.model_dump_json(indent=2).encode())


def load(store: SiteStore, key: str, model: type[Document]) -> Document:
    """Load the document under ``key``.

    Raises:
        ObjectNotFoundError: there is none.
        UnreadableDocumentError: it is damaged or from another release.
    """
    return load_document(store, key, model)
