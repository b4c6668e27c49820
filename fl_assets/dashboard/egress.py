"""What left the hospitals, by kind and day."""

from __future__ import annotations

import streamlit as st

from fl_assets.dashboard.elements import ask_hospitals, show_pictures, show_table
from fl_assets.settings import Settings
from fl_assets.site.egress import EgressEntry, EgressLog
from fl_assets.site.egress_report import egress_plot, group_table


def show(settings: Settings) -> None:
    """Draw the page."""
    hospital = st.selectbox("Hospital", settings.consortium.hospital_names)
    # One at a time: a log has an object for every message.
    found = ask_hospitals([hospital], lambda name: _read(settings, name))
    if hospital not in found:
        return
    entries, damages = found[hospital]
    for damage in damages:
        st.error(damage)
    if not entries:
        st.info(f"Nothing has left {hospital} yet: it begins with its first intake, `fla demo`.")
        return
    messages, size = st.columns(2)
    messages.metric("messages", f"{len(entries):,}")
    size.metric("bytes", f"{sum(entry.size for entry in entries):,}")
    show_table(group_table(hospital, entries))
    show_pictures([egress_plot(hospital, entries)])


def _read(settings: Settings, hospital: str) -> tuple[list[EgressEntry], list[str]]:
    log = EgressLog(settings.listing_store(hospital))
    return log.entries(), log.damages()
