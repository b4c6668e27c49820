"""What the hospitals' budgets were spent on, and what an attacker learns from the models."""

from __future__ import annotations

import streamlit as st

from fl_assets.coordinator.audit import audit_of
from fl_assets.coordinator.audit_report import audit_plot, audit_table
from fl_assets.coordinator.budget import budget_plot, budget_table, line_table, open_ledger
from fl_assets.coordinator.training import load_release, released_recipes
from fl_assets.dashboard.elements import ask_hospitals, show_pictures, show_table
from fl_assets.privacy.ledger_view import LedgerView, view_ledger
from fl_assets.settings import Settings


def show(settings: Settings) -> None:
    """Draw the page."""
    names = settings.consortium.hospital_names
    views = ask_hospitals(names, lambda name: _view(settings, name))
    if views:
        _budgets(views)
    st.subheader("What the models guarantee")
    store = settings.coordinator_store()
    recipes = released_recipes(store)
    if not recipes:
        st.info("No recipe was trained yet: run `fla demo`, or `fla run RECIPE`.")
        return
    release = load_release(store, st.selectbox("Recipe", recipes))
    st.markdown(f"Version {release.version}, run `{release.run}`. Privacy: {release.privacy}.")
    audit = audit_of(store, release)
    if audit is None:
        name = release.recipe.name
        st.info(f"This version was not attacked yet: run `fla audit {name}`.")
        return
    show_table(audit_table(audit))
    show_pictures([audit_plot(audit)])


def _view(settings: Settings, name: str) -> LedgerView:
    return view_ledger(open_ledger(settings, name), name, settings.consortium.budget(name))


def _budgets(views: dict[str, LedgerView]) -> None:
    show_table(budget_table([view.budget for view in views.values()]))
    if any(view.budget.unprotected_runs for view in views.values()):
        st.markdown("Spent and left hold for the protected runs alone.")
    name = st.selectbox("Hospital", views)
    view = views[name]
    if not view.lines:
        st.info(f"Nothing was ever charged at {name}: a recipe with `privacy` is what charges.")
        return
    show_table(line_table(name, view.lines))
    show_pictures([budget_plot(view.budget, view.lines)])
