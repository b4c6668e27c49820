"""Runs of a daemon on one machine, whose end is noticed however they end."""

from __future__ import annotations

import json

import dagster as dg

# Dagster's default launcher cannot tell whether a run's process still lives, so a run whose machine
# went down would stay "started" for ever, with everything that waits for it. Its parent class and
# the client below are not public; fl_assets_tests/defs/test_launcher.py guards them.
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG


class LocalRunLauncher(DefaultRunLauncher):
    """Dagster's default launcher, whose runs Dagster's run monitoring can watch.

    A run is a process of the code server that its tag names. If that server is gone, or does not
    know the run, the run is dead; monitoring then marks it as failed, and it is retried from where
    it stopped.
    """

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Yes."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Ask the run's code server for it."""
        from dagster._grpc.client import DagsterGrpcClient
        from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
        from dagster._serdes import deserialize_value

        if GRPC_INFO_TAG not in run.tags:
            # `fla demo` runs it in its own process, where nobody can ask.
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        where = json.loads(run.tags[GRPC_INFO_TAG])
        client = DagsterGrpcClient(
            port=where.get("port"), socket=where.get("socket"), host=where.get("host")
        )
        try:
            answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run.run_id))
        except DagsterUserCodeUnreachableError:
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "its code server is gone")
        if deserialize_value(answer, CanCancelExecutionResult).can_cancel:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "its code server does not know it")
