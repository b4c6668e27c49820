"""What two runs of the same inputs have in common."""

from __future__ import annotations

from fl_assets.federation.job import FederationResult, FinalReport


def final_figures(result: FederationResult) -> dict[str, FinalReport]:
    """Return the sites' last figures, without what they say of ledgers that know of both runs."""
    final = result.history.final
    return {name: found.model_copy(update={"privacy": None}) for name, found in final.items()}
