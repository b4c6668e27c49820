"""The runtime of real processes: a Flower deployment on this machine for one run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fl_assets.federation.job import FederationJob, FederationResult


class ProcessesRuntime:
    """Runs a job over a real SuperLink and one real SuperNode per hospital, on loopback.

    It computes bit for bit what :class:`.inprocess.InProcessRuntime` does, and takes seconds more
    to start. For several jobs use one :class:`fl_assets.federation.deployment.local.Deployment`.

    Args:
        environments: variables with the credentials of each hospital's store, by hospital; no
            process but that hospital's executor sees them.
        work: see :class:`fl_assets.federation.deployment.local.Deployment`.
    """

    def __init__(
        self,
        environments: Mapping[str, Mapping[str, str]] | None = None,
        work: Path | None = None,
    ) -> None:
        self._environments = environments
        self._work = work

    def run(self, job: FederationJob) -> FederationResult:
        """Train; see :meth:`fl_assets.federation.runtimes.base.Runtime.run`.

        Raises:
            RunFailedError: the server app raised; the text is its own.
            ProcessDiedError, NotStartedError, SiteNotOnlineError: the deployment did not start, or
                its SuperLink or server died.
        """
        from fl_assets.federation.deployment.local import Deployment

        with Deployment(job.nodes(), self._environments, self._work) as deployment:
            return deployment.run(job)
