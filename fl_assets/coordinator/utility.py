"""The private models of a comparison over their epsilon."""

from __future__ import annotations

from fl_assets.coordinator.comparison import ComparedModel, Comparison
from fl_assets.coordinator.training import load_release
from fl_assets.learning.metrics import Metric
from fl_assets.reporting.html import Picture
from fl_assets.reporting.utility_plot import Utility, epsilon_utility
from fl_assets.storage import SiteStore


def utility_plots(store: SiteStore, comparison: Comparison) -> list[Picture]:
    """Return AUROC over epsilon, nothing where no model of the comparison is private.

    Args:
        store: the coordinator's.
        comparison: of all models.
    """
    shown = []
    for row in comparison.of_kind("federated"):
        recipe = load_release(store, row.evaluation.model).recipe
        area = _auroc(row)
        if recipe.privacy is not None and area is not None:
            shown.append(Utility(recipe.model.kind, recipe.privacy.epsilon, *area))
    if not shown:
        return []
    references = {
        row.evaluation.model: area[0]
        for kind in ("reference", "centralised")
        for row in comparison.of_kind(kind)
        if (area := _auroc(row)) is not None and area[0] > 0.5
    }
    png = epsilon_utility(shown, references, "AUROC on test rows")
    return [Picture(png, "AUROC over epsilon")]


def _auroc(row: ComparedModel) -> tuple[float, float] | None:
    """Return the AUROC and half the length of its interval, 0 where there is none."""
    pooled = row.evaluation.pooled
    if pooled is None or pooled.auroc is None:
        mean = row.evaluation.mean(Metric.AUROC)
        return None if mean is None else (mean, 0.0)
    low, high = pooled.auroc_low, pooled.auroc_high
    return pooled.auroc, 0.0 if low is None or high is None else (high - low) / 2
