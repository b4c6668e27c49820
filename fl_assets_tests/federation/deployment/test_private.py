"""Privacy over real processes: the same bits as in process, the same refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fl_assets.consortium import PrivacyBudget
from fl_assets.federation.deployment.local import Deployment
from fl_assets.federation.deployment.server import RunFailedError
from fl_assets.federation.job import FederationJob
from fl_assets.federation.runtimes.inprocess import InProcessRuntime
from fl_assets.privacy.ledger import Ledger
from fl_assets.settings import Settings
from fl_assets_tests.federation.conftest import MakeJob

pytestmark = pytest.mark.services

PRIVATE: dict[str, Any] = {
    "privacy": {"epsilon": 1.0, "minimum_rows": 20, "sampling_rate": 0.5, "steps": 2},
    "rounds": 2,
    "secure_aggregation": {},
}


def job_over(world: Settings, make_job: MakeJob, run: str, epsilon: float) -> FederationJob:
    job = make_job(run, settings=world, **PRIVATE)
    budgets = dict.fromkeys(job.sites, PrivacyBudget(epsilon=epsilon))
    return job.model_copy(update={"budgets": budgets, "noise_seed": 5})


def test_a_private_run_is_the_in_process_one_and_the_next_one_is_refused(
    shared_world: Settings, world: Settings, make_job: MakeJob, tmp_path: Path
) -> None:
    here = InProcessRuntime().run(job_over(world, make_job, "private", 1.2))
    job = job_over(shared_world, make_job, "private", 1.2)
    with Deployment(job.nodes(), work=tmp_path) as deployment:
        there = deployment.run(job)
        with pytest.raises(RunFailedError, match=r"asks 1\.00, lifetime would be 1\.\d\d of 1\.20"):
            deployment.run(job_over(shared_world, make_job, "once-more", 1.2))
    for name, weights in here.weights.items():
        np.testing.assert_array_equal(there.weights[name], weights)
    for name in shared_world.consortium.hospital_names:
        ledger = Ledger(shared_world.site_store(name), name)
        assert [entry.act.kind for entry in ledger.entries()] == ["reserve", "settle", "refuse"]
        told = there.history.final[name].privacy
        assert told is not None
        assert (told.noise, told.steps, told.cap) == ("predictable", 4, 1.2)
