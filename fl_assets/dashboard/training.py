"""The rounds of a training, also while it lasts."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from fl_assets.coordinator.summary import POOLED
from fl_assets.coordinator.training import load_history, load_release, released_recipes
from fl_assets.dashboard.elements import show_table
from fl_assets.federation.checkpoints import history_so_far, unfinished_runs
from fl_assets.federation.job import FederationHistory
from fl_assets.reporting.html import Cell, Table
from fl_assets.settings import Settings
from fl_assets.storage import SiteStore

LIVE_SECONDS = 5


def show(settings: Settings) -> None:
    """Draw the page."""
    store = settings.coordinator_store()
    unfinished = unfinished_runs(store)
    choices = released_recipes(store) + unfinished
    if not choices:
        st.info("No recipe was trained yet: run `fla demo`, or `fla run RECIPE`.")
        return
    choice = st.selectbox("Recipe, or run that has not ended", choices)
    if choice in unfinished:
        _follow(store, choice)
        return
    release = load_release(store, choice)
    st.markdown(f"Version {release.version}, run `{release.run}`. {release.recipe.description}")
    _draw(load_history(store, release))


@st.fragment(run_every=LIVE_SECONDS)
def _follow(store: SiteStore, run: str) -> None:
    """Draw a run by its checkpoints, again and again."""
    history = history_so_far(store, run)
    if history is None:
        st.info(f"{run} has ended: read the page anew.")
        return
    st.markdown(f"`{run}` has not ended; this is read again every {LIVE_SECONDS} seconds.")
    _draw(history)


def _draw(history: FederationHistory) -> None:
    if history.pretraining:
        st.markdown(f"{len(history.pretraining)} rounds of pre-training came first.")
    columns = st.columns(2)
    for place, (title, frame) in enumerate(curves(history).items()):
        columns[place % 2].markdown(f"**{title}**")
        columns[place % 2].line_chart(frame, x_label="Round", y_label=title)
    causes: list[list[Cell]] = [
        [report.round, name, cause]
        for report in history.rounds
        for name, cause in report.dropouts.items()
    ]
    if causes:
        show_table(Table("Dropouts", ["round", "hospital", "cause"], causes))


def curves(history: FederationHistory) -> dict[str, pd.DataFrame]:
    """Return what is drawn over the rounds, by title; a figure that does not exist is a gap."""
    rounds = history.rounds
    sites = {name for report in rounds for name in report.sites}
    found: dict[str, dict[str, list[float | None]]] = {
        "loss": {
            "training": [report.train_loss for report in rounds],
            "validation": [report.validation_loss for report in rounds],
        },
        "validation AUROC": {
            name: [r.sites[name].validation_auroc if name in r.sites else None for r in rounds]
            for name in sorted(sites)
        }
        | {POOLED: [report.validation_auroc for report in rounds]},
        "seconds": {
            "whole round": [report.seconds for report in rounds],
            "slowest hospital": [
                max((site.seconds for site in report.sites.values()), default=None)
                for report in rounds
            ],
        },
        "dropouts": {"hospitals": [float(len(report.dropouts)) for report in rounds]},
    }
    # No hospital's name has a capital letter or a space: no column is another's.
    index = pd.Index([report.round for report in rounds], name="Round")
    return {
        title: pd.DataFrame(series, index=index, dtype=float) for title, series in found.items()
    }
