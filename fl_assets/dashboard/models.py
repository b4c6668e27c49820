"""How the models do: all of them side by side, and one at each hospital."""

from __future__ import annotations

import streamlit as st

from fl_assets.coordinator.comparison import KEY, load_comparison
from fl_assets.coordinator.summary import (
    comparison_plots,
    comparison_table,
    evaluation_plots,
    evaluation_table,
    hospital_table,
    personal_table,
)
from fl_assets.coordinator.utility import utility_plots
from fl_assets.dashboard.elements import show_pictures, show_table
from fl_assets.settings import Settings


def show(settings: Settings) -> None:
    """Draw the page."""
    store = settings.coordinator_store()
    if not store.exists(KEY):
        st.info("No models were compared yet: run `fla demo`, or materialise `model_comparison`.")
        return
    comparison = load_comparison(store)
    show_table(comparison_table(comparison))
    show_table(hospital_table(comparison))
    show_pictures(comparison_plots(comparison) + utility_plots(store, comparison))
    federated = {row.evaluation.model: row.evaluation for row in comparison.of_kind("federated")}
    if not federated:
        st.info("No recipe is among them yet: run `fla run RECIPE`, then `fla compare`.")
        return
    st.subheader("At each hospital")
    evaluation = federated[st.selectbox("Recipe", federated)]
    show_table(evaluation_table(evaluation))
    personal = personal_table(evaluation)
    if personal is not None:
        show_table(personal)
    show_pictures(evaluation_plots(evaluation))
