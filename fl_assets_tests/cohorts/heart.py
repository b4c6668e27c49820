"""The second cohort: a spec without header and ids, with codes."""

from __future__ import annotations

from pathlib import Path

from fl_assets.cohorts.spec import CohortSpec, load_cohort

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "heart"


def heart() -> CohortSpec:
    return load_cohort("cohort.yaml", EXAMPLE)
