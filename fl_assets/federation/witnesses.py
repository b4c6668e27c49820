"""The coordinator as a witness: the newest ledger entry of each hospital that it has seen.

A hospital's ledger that was put back to an earlier state is whole in itself. Only somebody outside
can tell, who saw an entry that is no longer there.
"""

from __future__ import annotations

from collections.abc import Iterable

from fl_assets.privacy.ledger_entries import LedgerHead
from fl_assets.storage import ObjectNotFoundError, SiteStore
from fl_assets.storage.documents import load_document


def save_witness(store: SiteStore, hospital: str, head: LedgerHead | None) -> None:
    """Keep a head that was seen, unless a newer one is kept.

    Args:
        store: the coordinator's.
        hospital: whose ledger.
        head: its newest entry, None of an empty ledger.
    """
    known = load_witness(store, hospital)
    if head is not None and (known is None or head.sequence > known.sequence):
        store.put(_key(hospital), head.model_dump_json(indent=2).encode())


def load_witness(store: SiteStore, hospital: str) -> LedgerHead | None:
    """Return the newest head that was seen, None where none was."""
    try:
        return load_document(store, _key(hospital), LedgerHead)
    except ObjectNotFoundError:
        return None


def load_witnesses(store: SiteStore, hospitals: Iterable[str]) -> dict[str, str]:
    """Return the heads as a job carries them, for the hospitals that have one."""
    heads = {name: load_witness(store, name) for name in hospitals}
    return {name: head.model_dump_json() for name, head in heads.items() if head is not None}


def _key(hospital: str) -> str:
    return f"ledgers/{hospital}.json"
