"""Where the hospitals' data and the champion stand."""

from __future__ import annotations

import streamlit as st

from fl_assets.coordinator import documents
from fl_assets.coordinator.decision import KEY, Promotion
from fl_assets.coordinator.readiness import hospital_state
from fl_assets.coordinator.status import hospital_status
from fl_assets.coordinator.summary import gates_table
from fl_assets.coordinator.withdrawal import champion_lost
from fl_assets.dashboard.elements import ask_hospitals, show_table
from fl_assets.reporting.html import Cell, Table
from fl_assets.settings import Settings
from fl_assets.site.intake import new_uploads

COLUMNS = ["hospital", "uploads", "records", "quarantined", "partitions", "train/val/test", "waits"]


def show(settings: Settings) -> None:
    """Draw the page."""
    names = settings.consortium.hospital_names
    rows = ask_hospitals(names, lambda name: _hospital(settings, name))
    if rows:
        show_table(Table("Hospitals", COLUMNS, list(rows.values())))
    if settings.withdrawn:
        st.markdown(f"Withdrawn: {', '.join(sorted(settings.withdrawn))}")
    st.subheader("Champion")
    lost = champion_lost(settings)
    if lost:
        st.warning(lost)
    elif settings.coordinator_store().exists(KEY):
        _champion(documents.load(settings.coordinator_store(), KEY, Promotion))
    else:
        st.info("No model was promoted yet: run `fla demo`, or materialise `champion_model`.")


def _hospital(settings: Settings, name: str) -> list[Cell]:
    store = settings.listing_store(name)
    found, state, new = hospital_status(settings, name), hospital_state(store), new_uploads(store)
    waits = [f"{len(new)} uploads are not collected yet"] if new else []
    waits += [state.hold] if state.hold else []
    parts = " / ".join(map(str, found.parts.values())) if found.parts else None
    counts = [found.uploads, found.records, found.quarantined]
    return [name, *counts, state.partitions, parts, "; ".join(waits) or "nothing"]


def _champion(decision: Promotion) -> None:
    release = decision.candidate
    told = f"{release.model} version {release.version}, recipe {release.recipe.name}"
    if decision.promoted:
        st.success(f"{told}: every gate was passed.")
    else:
        st.warning(
            f"{told}: not promoted, since a gate failed. Champion stays version "
            f"{decision.previous or 'none'}."
        )
    show_table(gates_table(decision))
