"""The record of a promotion: a candidate, its gates, what became of it."""

from __future__ import annotations

from fl_assets.config import StrictModel
from fl_assets.coordinator.release import ReleaseRecord

KEY = "promotion/current.json"


class GateResult(StrictModel):
    """One gate: what was asked, what was found."""

    gate: str
    asked: str
    found: str
    passed: bool


class Promotion(StrictModel):
    """A decision about the best candidate.

    Attributes:
        candidate: release record of the model.
        gates: each with its verdict.
        previous: version that was champion before, if any.
    """

    candidate: ReleaseRecord
    gates: tuple[GateResult, ...]
    previous: str | None

    @property
    def promoted(self) -> bool:
        """Whether every gate was passed, so that the alias moved."""
        return all(gate.passed for gate in self.gates)
