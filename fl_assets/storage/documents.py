"""Stored JSON documents as models."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from fl_assets.storage.base import SiteStore, StorageError

Document = TypeVar("Document", bound=BaseModel)


class UnreadableDocumentError(StorageError):
    """A stored document does not fit its model; the message has nothing of its text."""

    def __init__(self, uri: str, key: str, model: str, problems: int) -> None:
        super().__init__(
            f"{uri}: {key!r} cannot be read as {model}, {problems} fields do not fit: bring all "
            "sides to the same version of the software; if it is damaged, its owner puts an "
            "earlier version of it back, or deletes it and materialises the asset that writes it"
        )


def parse_document(data: bytes | str, model: type[Document], uri: str, key: str) -> Document:
    """Return a document.

    Args:
        data: its text.
        model: that it fits.
        uri, key: where it lies, for the error.

    Raises:
        UnreadableDocumentError: it does not fit.
    """
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        # Not its text, nor as the cause: it quotes what was read.
        problems = error.error_count()
    raise UnreadableDocumentError(uri, key, model.__name__, problems)


def load_document(store: SiteStore, key: str, model: type[Document]) -> Document:
    """Return the current document under ``key``.

    Raises:
        ObjectNotFoundError: there is none.
        UnreadableDocumentError: it does not fit.
    """
    return parse_document(store.get(key), model, store.uri, key)
