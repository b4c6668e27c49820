"""What nobody foresaw at a hospital."""

from fl_assets.site.partitions import MANIFEST, load_manifest
from fl_assets.storage import SiteStore

QUOTED = "'train'"
"""By the error's text: what a library does not find may as well be a patient's value."""


def unforeseen(store: SiteStore) -> None:
    """Store a manifest of partitions that can be read and names no file."""
    manifest = load_manifest(store).model_copy(update={"files": {}})
    store.put(MANIFEST, manifest.model_dump_json().encode())
