"""The interface of a runtime."""

from __future__ import annotations

from typing import Protocol

from fl_assets.federation.job import FederationJob, FederationResult


class Runtime(Protocol):
    """Runs the one ServerApp and the one ClientApp somewhere."""

    def run(self, job: FederationJob) -> FederationResult:
        """Train; the result is also in the job's output store.

        Raises:
            FederationError: the run ended without a model; nothing is left running.
        """
