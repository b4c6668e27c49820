"""Checks of the files that people write: consortium, cohort, recipes and sweeps."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from fl_assets.doctor.checks import Check
from fl_assets.settings import Settings


def consortium_check(settings: Settings) -> Check:
    """Return the check of ``consortium.yaml``."""
    return Check(
        "consortium file",
        partial(_consortium, settings),
        "Correct the file, or set FLA_CONSORTIUM to the right one.",
    )


def cohort_check(settings: Settings) -> Check:
    """Return the check of the cohort that the consortium names."""
    return Check(
        "cohort",
        partial(_cohort, settings),
        "Correct the cohort file, or `cohort` in consortium.yaml; a path starts at its folder.",
    )


def recipe_checks(settings: Settings) -> Iterator[Check]:
    """Return the checks of every recipe and sweep."""
    yield Check(
        "recipes",
        partial(_recipes, settings),
        "Correct the file that is named, or set FLA_RECIPES to the right folder.",
    )


def _consortium(settings: Settings) -> str:
    found = settings.whole_consortium
    kind = "simulated" if found.simulated else "real"
    return f"{found.name}: {len(found.hospitals)} hospitals, {kind} ({settings.consortium_file})"


def _cohort(settings: Settings) -> str:
    return f"{settings.cohort.name}, version {settings.cohort.version}"


def _recipes(settings: Settings) -> str:
    from fl_assets.federation.recipe import SUFFIX, load_recipe, recipe_names, routine_names
    from fl_assets.federation.sweep import load_sweep, sweep_names

    names, sweeps = recipe_names(settings.recipes), sweep_names(settings.recipes)
    for name in names:
        load_recipe(settings.recipes / f"{name}{SUFFIX}")
    for name in sweeps:
        load_sweep(settings.recipes, name)
    routine = routine_names(settings.recipes, settings.whole_consortium.routine)
    return f"recipes: {len(names)}, sweeps: {len(sweeps)}; routine: {', '.join(routine)}"
